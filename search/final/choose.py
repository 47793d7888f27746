"""Which trial of a study is finalised: the best, unless a person names another or an arm."""

from __future__ import annotations

from dataclasses import dataclass

from search.spec.config import TrialConfig
from search.store import StorageError
from search.store.views import StudyView, TrialView
from search.terminal.reproduce import command


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A trial to repeat.

    Attributes:
        epochs: up to its best epoch.
        why: how it was chosen, where it is not simply the study's best; else empty.
    """

    trial: TrialView
    config: TrialConfig
    epochs: int
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
    """The complete trial with the lowest validation loss, of all or of an arm; or the one named.

    Raises:
        StorageError: there is none such, or it cannot be repeated.
    """
    if number is not None:
        trial = _numbered(view, number)
    else:
        trials = [trial for trial in view.leaderboard if arm is None or trial.arm == arm]
        if not trials:
            raise StorageError(_nothing(view, arm))
        trial = trials[0]
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
    return Chosen(trial=trial, config=trial.config, epochs=trial.best.epoch, why=why)


def _numbered(view: StudyView, number: int) -> TrialView:
    trial = next((trial for trial in view.trials if trial.number == number), None)
    if trial is None:
        there = f"it has 0 to {view.count() - 1}" if view.trials else "it has none yet"
        raise StorageError(f"study {view.name!r} has no trial {number}; {there}")
    if trial.state not in ("complete", "pruned"):
        raise StorageError(
            f"trial {number} of study {view.name!r} is {trial.state}; name one that is complete or "
            "pruned"
        )
    return trial


def _nothing(view: StudyView, arm: str | None) -> str:
    arms = list(dict.fromkeys(trial.arm for trial in view.trials if trial.arm is not None))
    if arm is not None and arm not in arms:
        there = f"its arms are {', '.join(map(repr, arms))}" if arms else "it compares no arms"
        return f"study {view.name!r} has no arm {arm!r}; {there}"
    of_arm = "" if arm is None else f" of arm {arm!r}"
    return (
        f"no finished trials{of_arm} in study {view.name!r}; run python -m search.study --study "
        f"{view.name} first"
    )


def _beside_the_best(view: StudyView, trial: TrialView) -> str:
    best = view.best
    if best is None:
        return "none is complete"
    if best.number == trial.number:
        return "which is also the study's best"
    assert best.best is not None
    assert trial.best is not None
    return (
        f"not the study's best: validation loss {trial.best.validation_loss:.4f} against "
        f"{best.best.validation_loss:.4f} of trial {best.number}"
    )
