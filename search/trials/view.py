"""A study as it stands in the database, read-only: what every table, figure and page is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from weakref import WeakKeyDictionary

import optuna
from optuna.trial import FrozenTrial, TrialState

from models import ArchitectureError
from models.anatomy import count_parameters
from models.checks import is_count
from search.trials.claims import is_abandoned, running_trials
from search.trials.config import StudySpec, TrialConfig
from search.trials.history import (
    EpochRow,
    ResultRow,
    best_epoch,
    epochs_of,
    epochs_of_trials,
    results_of,
)
from search.trials.space import OVERRIDES, check_values, suggest
from search.trials.storage import Database, StorageError, snapshot, with_retry
from search.trials.stored_params import true_params

# Attributes of a study and of a trial; numeric ones become columns and axes in optuna-dashboard.
SPEC, DATASET, HARDWARE, VERSIONS = "spec", "dataset", "hardware", "versions"
PARAMETERS, ACCURACY, ERROR, SECONDS = "parameters", "accuracy", "error", "seconds"
BEST_EPOCH, EPOCHS, REASON = "best_epoch", "epochs", "reason"

State = Literal["running", "interrupted", "complete", "pruned", "failed", "waiting"]
STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",  # or interrupted, as its lease says
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}

# What reading a specification raises that no study of ours has written into the database.
_DAMAGES = (AttributeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFacts:
    """What pages say of the data, without loading it."""

    name: str
    title: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    training_count: int
    validation_count: int
    notes: tuple[str, ...] = ()  # what was done to its pictures; a folder's: escape them

    def __post_init__(self) -> None:
        numbers = (self.training_count, self.validation_count, *self.image_shape)
        texts = (self.name, self.title, *self.class_names, *self.notes)
        if len(self.image_shape) != 3 or not all(map(is_count, numbers)):
            raise TypeError("its data's counts must be whole numbers")
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("its data's names must be text")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialView:
    """One trial.

    Attributes:
        state: Optuna's, but for the running ones that no worker holds: they are `interrupted`, and
            the next worker to claim a trial carries one on.
        params: as Optuna stores them, but for those that an older study's baseline did not have.
        config: None where the parameters make no configuration (a trial that failed early).
        parameters: number of trained weights and biases; None while unknown.
        curve: its finished epochs in order, without the early look.
        early_look: the report inside the first epoch, where there was one.
        reason: why it failed.
        is_baseline: the hand-made model that the study starts with.
        worker: who holds it or held it last, as `search.trials.holder` names processes; None of
            one that has ended.
        arm, repeat: of a comparison's trial: the arm's name, and the how-manieth training of it,
            from 0.
        system_attributes: as Optuna keeps them; see `search.trials.pictures`.
    """

    trial_id: int
    number: int
    state: State
    params: Mapping[str, Any]
    config: TrialConfig | None
    parameters: int | None
    curve: tuple[EpochRow, ...]
    early_look: EpochRow | None
    started: datetime | None
    finished: datetime | None
    reason: str | None
    is_baseline: bool
    worker: str | None = None
    arm: str | None = None
    repeat: int | None = None
    system_attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> EpochRow | None:
        """The epoch with the lowest validation loss."""
        return best_epoch(self.curve)

    @property
    def reports(self) -> tuple[EpochRow, ...]:
        return self.curve if self.early_look is None else (self.early_look, *self.curve)

    @property
    def seconds(self) -> float:
        """Spent on training and validation."""
        return sum(row.seconds for row in self.reports)

    @property
    def images(self) -> int:
        return sum(row.images for row in self.reports)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyView:
    """A study: trials by number, and every reading of the test set."""

    name: str
    storage: str  # without password
    spec: StudySpec
    dataset: DatasetFacts
    hardware: str
    versions: Mapping[str, str]
    trials: tuple[TrialView, ...]
    results: tuple[ResultRow, ...] = field(default=())

    def in_state(self, *states: State) -> list[TrialView]:
        return [trial for trial in self.trials if trial.state in states]

    @property
    def finished(self) -> int:
        """What counts towards the study's total: complete or pruned, in a comparison failed too."""
        failed: tuple[State, ...] = ("failed",) if self.spec.is_comparison else ()
        return len(self.in_state("complete", "pruned", *failed))

    @property
    def leaderboard(self) -> list[TrialView]:
        """Complete trials, lowest validation loss first."""
        complete = [trial for trial in self.in_state("complete") if trial.best is not None]
        return sorted(complete, key=_best_loss)

    @property
    def best(self) -> TrialView | None:
        return next(iter(self.leaderboard), None)

    @property
    def baseline(self) -> TrialView | None:
        return next((trial for trial in self.trials if trial.is_baseline), None)


def _best_loss(trial: TrialView) -> float:
    assert trial.best is not None
    return trial.best.validation_loss


def load_spec(study: optuna.Study) -> StudySpec:
    """The specification stored with the study.

    Raises:
        StorageError: the study was not made by `search.study`.
    """
    stored = study.user_attrs.get(SPEC)
    if not isinstance(stored, dict):
        raise StorageError(
            f"study {study.study_name!r} was not made by cnn-search; give another --study"
        )
    try:
        spec = StudySpec.from_dict(stored)
        check_values(spec)
    except _DAMAGES as error:
        raise _unreadable(study, error) from error
    return spec


def _unreadable(study: optuna.Study, error: Exception) -> StorageError:
    reason = str(error)[:200] or type(error).__name__
    return StorageError(
        f"study {study.study_name!r} cannot be read ({reason}); give another --study"
    )


def load_facts(study: optuna.Study) -> DatasetFacts:
    try:
        stored = study.user_attrs[DATASET]
        return DatasetFacts(
            **{
                **stored,
                "class_names": tuple(stored["class_names"]),
                "image_shape": tuple(stored["image_shape"]),
                "notes": tuple(stored.get("notes", ())),  # not of an earlier version
            }
        )
    except _DAMAGES as error:
        raise _unreadable(study, error) from error


def view_study(db: Database, study: optuna.Study) -> StudyView:
    """Read the study as it is now.

    Asked again with the same `study`, it reads the trials that have not ended, and those that ended
    since: a live view of ten thousand trials would otherwise take seconds for each look.
    """
    spec, facts = load_spec(study), load_facts(study)
    return StudyView(
        name=study.study_name,
        storage=db.url,
        spec=spec,
        dataset=facts,
        hardware=study.user_attrs.get(HARDWARE, "unknown"),
        versions=study.user_attrs.get(VERSIONS, {}),
        trials=_view_trials(db, study, spec, facts),
        results=tuple(results_of(db, study.study_name)),
    )


# Of each study that was viewed, by trial number: nothing changes in a trial that has ended.
_ended = WeakKeyDictionary[optuna.Study, dict[int, tuple[FrozenTrial, TrialView]]]()
_FEW = 200  # trials whose epochs are asked for one by one, and not with all others


def _view_trials(
    db: Database, study: optuna.Study, spec: StudySpec, facts: DatasetFacts
) -> tuple[TrialView, ...]:
    # First the trials and then their epochs: one that had ended by then has all of its own.
    trials = study.get_trials(deepcopy=False)
    known = _ended.setdefault(study, {})
    # Optuna, too, reads a trial that has ended once, and keeps the object.
    fresh = [t for t in trials if t.number not in known or known[t.number][0] is not t]
    if len(fresh) <= _FEW:
        reports = epochs_of_trials(db, [trial._trial_id for trial in fresh])
    else:
        reports = epochs_of(db, study._study_id)
    rows: dict[int, list[EpochRow]] = {}
    for row in reports:
        rows.setdefault(row.trial_id, []).append(row)
    open_ones: dict[int, TrialView] = {}
    for trial in fresh:
        view = _view_trial(trial, spec, facts, rows.get(trial._trial_id, []))
        if trial.state.is_finished():
            known[trial.number] = trial, view
        else:
            open_ones[trial.number] = view
    started = {number: view for number, view in open_ones.items() if view.state == "running"}
    if started:
        open_ones |= _held_or_interrupted(db, study, started)
    return tuple(open_ones.get(t.number) or known[t.number][1] for t in trials)


def _held_or_interrupted(
    db: Database, study: optuna.Study, views: Mapping[int, TrialView]
) -> dict[int, TrialView]:
    """The running ones with their workers; those without are interrupted."""

    def attempt() -> dict[int, TrialView]:
        with snapshot(db) as connection:
            leases = running_trials(connection, study._study_id)
        return {
            row.number: replace(
                views[row.number],
                state="interrupted" if is_abandoned(row) else "running",
                worker=row.worker,
            )
            for row in leases
            if row.number in views
        }

    return with_retry(db, attempt)


def _parameters(config: TrialConfig | None, facts: DatasetFacts) -> int | None:
    if config is None:
        return None
    try:
        return count_parameters(config.architecture, facts.image_shape, len(facts.class_names))
    except ArchitectureError:
        return None


def _view_trial(
    trial: FrozenTrial, spec: StudySpec, facts: DatasetFacts, rows: list[EpochRow]
) -> TrialView:
    attributes = trial.user_attrs
    try:
        config = suggest(trial, spec)
    except ValueError:  # parameters not suggested yet, or of a broken trial
        config = None
    arm, repeat = spec.place_of(trial.number) if spec.is_comparison else (None, None)
    return TrialView(
        trial_id=trial._trial_id,
        number=trial.number,
        state=STATES[trial.state],
        params=true_params(trial, spec),
        config=config,
        parameters=_parameters(config, facts),
        curve=tuple(row for row in rows if row.epoch > 0),
        early_look=next((row for row in rows if row.epoch == 0), None),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        reason=attributes.get(REASON),
        is_baseline=OVERRIDES in attributes,
        arm=None if arm is None else arm.name,
        repeat=repeat,
        system_attributes=trial.system_attrs,
    )
