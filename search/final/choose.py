"""Which trial of a study is finalised: the best, unless a person names another or an arm."""

from __future__ import annotations

from dataclasses import dataclass

from search.analysis.measures import objective_in_words
from search.spec.config import TrialConfig
from search.spec.objectives import TEMPERATURE
from search.store import StorageError
from search.store.views import StudyView, TrialView
from search.terminal.reproduce import command
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
    trial = _of_arm(view, arm) if number is None else _numbered(view, number)
    if trial.best is None or trial.config is None:
        raise StorageError(
            f"trial {trial.number} of study {view.name!r} has no finished epoch with a loss; name "
            "another --trial"
        )
    why = ""
    if number is not None:
        why = f"Trial {number} was named by hand, {_beside_the_best(view, trial)}."
    elif arm is not None:
        why = f"Trial {trial.number} is the best repeat of arm {arm}, "
        why += f"{_beside_the_best(view, trial)}."
    temperature, bound = trial.best.metrics.get(TEMPERATURE, 1.0), 0.99 * HIGHEST_TEMPERATURE
    if not 1 / bound < temperature < bound:
        temperature = 1.0
    return Chosen(
        trial=trial,
        config=trial.config,
        epochs=trial.best.epoch,
        temperature=temperature,
        why=why,
    )


def _numbered(view: StudyView, number: int) -> TrialView:
    for trial in view.trials:
        if trial.number == number and trial.state in ("complete", "pruned"):
            return trial
        if trial.number == number:
            raise StorageError(
                f"trial {number} of study {view.name!r} is {trial.state}; name one that is "
                "complete or pruned"
            )
    raise StorageError(
        f"study {view.name!r} has no trial {number}; it has {view.count()}, counted from 0"
    )


def _of_arm(view: StudyView, arm: str | None) -> TrialView:
    arms = dict.fromkeys(trial.arm for trial in view.trials if trial.arm is not None)
    if arm is not None and arm not in arms:
        there = ", ".join(map(repr, arms)) or "none"
        raise StorageError(f"study {view.name!r} has no arm {arm!r}; its arms are {there}")
    trials = [trial for trial in view.leaderboard if arm is None or trial.arm == arm]
    if not trials:
        of_arm = "" if arm is None else f" of arm {arm!r}"
        raise StorageError(
            f"no finished trials{of_arm} in study {view.name!r}; run python -m search.study "
            f"--study {view.name} first"
        )
    return trials[0]


def _beside_the_best(view: StudyView, trial: TrialView) -> str:
    best = view.best
    if best is None:
        return "none is complete"
    if best.number == trial.number:
        return "which is also the study's best"
    assert best.best is not None
    assert trial.best is not None
    own, theirs = (objective_in_words(view, it.value) for it in (trial.best, best.best))
    label = view.spec.value.label
    return f"not the study's best: {label} {own} against {theirs} of trial {best.number}"
