"""A study as it stood when it was read: what every table, figure and page is made of.

`search.store.reading` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from optuna.trial import TrialState

from models.checks import is_count
from search.spec.config import StudySpec, TrialConfig
from search.store.records import EpochRow, ResultRow, best_epoch

if TYPE_CHECKING:
    from data.examples import DatasetInfo

# Attributes of a study, then of a trial; numeric ones become columns and axes in optuna-dashboard.
SPEC, DATASET, HARDWARE, VERSIONS = "spec", "dataset", "hardware", "versions"
FINGERPRINT = "fingerprint"  # of the data set; a study of an earlier version has none
PARAMETERS, ACCURACY, ERROR, SECONDS = "parameters", "accuracy", "error", "seconds"
BEST_EPOCH, EPOCHS, REASON = "best_epoch", "epochs", "reason"

State = Literal["running", "paused", "interrupted", "complete", "pruned", "failed", "waiting"]
STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",  # or paused or interrupted, as its lease says
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFacts:
    """What pages say of the data, without loading it."""

    name: str
    title: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    training_count: int
    validation_count: int
    own_validation: bool = False  # else a part of the training images is drawn for it
    notes: tuple[str, ...] = ()  # what was done to its pictures; a folder's: escape them

    def __post_init__(self) -> None:
        numbers = (self.training_count, self.validation_count, *self.image_shape)
        texts = (self.name, self.title, *self.class_names, *self.notes)
        if len(self.image_shape) != 3 or not all(map(is_count, numbers)):
            raise TypeError("its data's counts must be whole numbers")
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("its data's names must be text")

    @classmethod
    def of(cls, info: DatasetInfo, validation_count: int) -> DatasetFacts:
        names = ("name", "title", "class_names", "image_shape", "training_count", "notes")
        known: dict[str, Any] = {name: getattr(info, name) for name in names}
        return cls(
            **known, validation_count=validation_count, own_validation=info.has_own_validation
        )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> DatasetFacts:
        lists = ("class_names", "image_shape", "notes")  # JSON has no tuples
        values: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in stored.items()}
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialView:
    """One trial.

    Attributes:
        state: Optuna's, but for the running ones that no worker holds: they are `paused` if they
            were laid aside at a rung, to go on if they are worth it; else `interrupted`, and the
            next worker to claim a trial carries one on.
        params: as Optuna stores them, but for those that an older study's baseline did not have.
        config: None where the parameters make no configuration (a trial that failed early).
        parameters: number of trained weights and biases; None while unknown.
        curve: its finished epochs in order.
        early_look: the partial-epoch validation inside the first epoch, where there was one.
        reason: why it failed.
        is_baseline: the hand-made model that the study starts with.
        worker: who holds it or held it last, as `search.store.claims` names processes; None of
            one that has ended.
        attempt: see `search.store.leases.Lease`.
        arm, repeat: of a comparison's trial: the arm's name, and the repeat index, from 0.
    """

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
    attempt: int = 1
    arm: str | None = None
    repeat: int | None = None

    @property
    def best(self) -> EpochRow | None:
        """The epoch with the lowest value."""
        return best_epoch(self.curve)

    @property
    def reports(self) -> tuple[EpochRow, ...]:
        return self.curve if self.early_look is None else (self.early_look, *self.curve)

    @property
    def seconds(self) -> float:
        """Spent on training and validation."""
        return sum(row.seconds for row in self.reports)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyView:
    """A study: trials by number, and every test evaluation."""

    name: str
    storage: str  # without password
    spec: StudySpec
    dataset: DatasetFacts
    hardware: str
    versions: Mapping[str, str]
    trials: tuple[TrialView, ...]
    results: tuple[ResultRow, ...] = field(default=())

    def count(self, *states: State) -> int:
        """How many trials the study has in these states, or at all."""
        return len(self.in_state(*states) if states else self.trials)

    def in_state(self, *states: State) -> list[TrialView]:
        return [trial for trial in self.trials if trial.state in states]

    @property
    def finished(self) -> int:
        """What counts towards the study's total: complete or pruned, in a comparison failed too."""
        failed: tuple[State, ...] = ("failed",) if self.spec.is_comparison else ()
        return self.count("complete", "pruned", *failed)

    @property
    def leaderboard(self) -> list[TrialView]:
        """Complete trials, lowest value first."""
        complete = [trial for trial in self.in_state("complete") if trial.best is not None]
        return sorted(complete, key=_lowest_value)

    @property
    def best(self) -> TrialView | None:
        return next(iter(self.leaderboard), None)

    @property
    def baseline(self) -> TrialView | None:
        return next((trial for trial in self.trials if trial.is_baseline), None)


def _lowest_value(trial: TrialView) -> float:
    assert trial.best is not None
    return trial.best.value
