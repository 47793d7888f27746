"""Which trial of a study is finalised: the best, unless a person names another or an arm."""

from __future__ import annotations

from dataclasses import dataclass

from search.analysis.measures import objective_in_words
from search.spec.config import TrialConfig
from search.spec.objectives import TEMPERATURE
from search.store import StorageError
from search.store.views import StudyView, TrialView
from search.terminal.command_line import command
from search.training.metrics import HIGHEST_TEMPERATURE


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A trial to repeat.

    Attributes:
        epochs: up to its best epoch.
        temperature: fitted on the validation images then; 1 where there is none on record, or the
            network was right of them all, so that none was best.
        why: how it was chosen, where it is not simply the study's best; else empty.
    """

    trial: TrialView
    config: TrialConfig
    epochs: int
    temperature: float
    why: str


def refuse_unfinished(view: StudyView) -> None:
    """Raises StorageError for a study that still lacks trials."""
    if view.finished < view.spec.trials:
        raise StorageError(
            f"study {view.name!r} has {view.finished} of its {view.spec.trials} trials, and only a "
            f"first test evaluation is unbiased: finish it with {command('study', view)}, or give "
            "--now to finalize it as it is"
        )


def choose_trial(view: StudyView, number: int | None = None, arm: str | None = None) -> Chosen:
    """The complete trial with the lowest value, of all or of an arm; or the one named.

    Raises:
        StorageError: there is none such, or it cannot be repeated.
    """
    of, trials = f"study {view.name!r}", list(view.leaderboard)
    if number is not None:
        trials = [trial for trial in view.trials if trial.number == number]
        if not trials:
            raise StorageError(f"{of} has no trial {number}; it has {view.count()}, counted from 0")
        if trials[0].state not in ("complete", "pruned"):
            raise StorageError(
                f"trial {number} of {of} is {trials[0].state}; name one that is complete or pruned"
            )
    elif arm is not None:
        arms = dict.fromkeys(trial.arm for trial in view.trials if trial.arm is not None)
        if arm not in arms:
            there = ", ".join(map(repr, arms)) or "none"
            raise StorageError(f"{of} has no arm {arm!r}; its arms are {there}")
        of, trials = f"arm {arm!r} of {of}", [trial for trial in trials if trial.arm == arm]
    if not trials:
        raise StorageError(
            f"no finished trials in {of}; run python -m search.study --study {view.name} first"
        )
    trial = trials[0]
    if trial.best is None or trial.config is None:
        raise StorageError(
            f"trial {trial.number} of {of} has no finished epoch with a loss; name another --trial"
        )
    temperature, bound = trial.best.metrics.get(TEMPERATURE, 1.0), 0.99 * HIGHEST_TEMPERATURE
    return Chosen(
        trial=trial,
        config=trial.config,
        epochs=trial.best.epoch,
        temperature=temperature if 1 / bound < temperature < bound else 1.0,
        why="" if number is None and arm is None else _why(view, trial, arm),
    )


def _why(view: StudyView, trial: TrialView, arm: str | None) -> str:
    how = "was named by hand" if arm is None else f"is the best repeat of arm {arm}"
    best = view.best
    if best is None or best.best is None:
        beside = "none is complete"
    elif best.number == trial.number:
        beside = "which is also the study's best"
    else:
        own, theirs = (objective_in_words(view, it.value) for it in (trial.best, best.best) if it)
        label = f"{view.spec.value.label} {own} against {theirs}"
        beside = f"not the study's best: {label} of trial {best.number}"
    return f"Trial {trial.number} {how}, {beside}."
