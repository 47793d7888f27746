"""What a study's trials show: its best trials, and advice that is given only if it applies."""

from __future__ import annotations

import math

from search.analysis.edges import edges_in_words
from search.analysis.measures import measure_of, measured, objective_in_words
from search.analysis.wording import printable
from search.spec.objectives import CALIBRATED_LOSS
from search.store.views import StudyView, TrialView

# Ratio of training to validation loss below which a network has learned images by heart.
BY_HEART = 0.8
LONG, SHARE = 10, 1 / 3  # minimum trials without a gain, and minimum share of all trials
LATER = 2, 0.2  # minimum epochs from the best to the last, and minimum share of all epochs
LONGER = 2  # times the epochs: over-fitting recipes gained from it with stronger augmentation
RISE = 0.05  # minimum relative rise of the value from the best to the last epoch


def stopped_trials(view: StudyView, count: int) -> list[TrialView]:
    """At most `count` pruned trials, the longest trained first; among equals, the lowest value."""
    found = [(-len(t.curve), t.best.value, t) for t in view.in_state("pruned") if t.best]
    return [trial for *_, trial in sorted(found, key=lambda each: each[:2])][:count]


def named(trial: TrialView) -> str:
    """`trial 7`, `trial 0, the baseline itself`, `trial 3, arm dropout 0.2`; not escaped."""
    which = ", the baseline itself" if trial.is_baseline else ""
    if trial.arm is not None:
        which = f", arm {printable(trial.arm)}"
    return f"trial {trial.number}{which}"


def advice_in_words(view: StudyView) -> list[str]:
    """What to do next, a sentence each, from the best trial, the last ones, and the edges."""
    if view.best is None:
        return []
    found = (overfitting_in_words(view.best, view), stop_in_words(view), *edges_in_words(view))
    return [sentence for sentence in found if sentence is not None]


def stop_in_words(view: StudyView) -> str | None:
    """Advice to stop if nothing was gained for long; else None, as for a comparison or a Pareto
    front, which grows without a new best."""
    if view.spec.is_comparison or view.spec.minimize_also or view.best is None:
        return None
    # By their last reports, because paused trials all end at the same time.
    last = view.best.reports[-1].reported_at
    others = view.in_state("complete", "pruned")
    without = sum(bool(one.reports) and one.reports[-1].reported_at > last for one in others)
    if without < max(LONG, SHARE * view.finished):
        return None
    done = view.finished >= view.spec.trials
    advice = "more trials are unlikely to help" if done else "you could stop here and finalize"
    return f"None of the last {without} trials beat the best: {advice}."


def overfitting_in_words(trial: TrialView, view: StudyView) -> str | None:
    """A warning if its value has long been rising while its training loss kept falling."""
    best = trial.best
    if trial.state != "complete" or best is None:
        return None
    last = trial.curve[-1]
    shown = (
        last.epoch - best.epoch >= max(LATER[0], LATER[1] * last.epoch)
        and last.train_loss < best.train_loss
        and math.isfinite(last.value)
        and last.value >= (1 + RISE) * best.value
    )
    if not shown:
        return None
    return (
        f"Trial {trial.number} over-fits: its {view.spec.value.label} is lowest in epoch "
        f"{best.epoch} of {last.epoch} ({objective_in_words(view, best.value)}) and rises to "
        f"{objective_in_words(view, last.value)} by the last, while its training loss falls from "
        f"{best.train_loss:.4f} to {last.train_loss:.4f}.{_remedy(trial, view)}"
    )


def learned_by_heart(trial: TrialView) -> bool:
    """Whether its last training loss is well below its validation loss despite augmentation."""
    if trial.config is None or trial.config.recipe.augmentation == "none":
        return False
    last = trial.curve[-1]
    loss = last.metrics.get(CALIBRATED_LOSS, last.validation_loss)
    return last.train_loss < BY_HEART * loss


def _remedy(trial: TrialView, view: StudyView) -> str:
    if view.spec.is_comparison or not learned_by_heart(trial):
        return ""
    more = f"finalize --epochs {LONGER * view.spec.epochs}"
    return f" With {more} it is trained longer, with stronger augmentation."


def size_name(view: StudyView) -> str:
    """The size that the study minimises beside its objective; else `parameters`."""
    return view.spec.minimize_also or "parameters"


def pareto_front(view: StudyView) -> list[TrialView]:
    """Complete trials that no other matches in both size and value and beats in one of them, the
    smallest network first."""
    front, least = list[TrialView](), math.inf
    sized = [
        (size, trial.best.value, trial)
        for trial in view.leaderboard
        if trial.best and (size := measured(trial, size_name(view)))
    ]
    for _, loss, trial in sorted(sized, key=lambda entry: entry[:2]):
        if loss < least:
            least = loss
            front.append(trial)
    return front


def front_in_words(view: StudyView) -> str:
    """`Pareto front, complete trials that ...: #3 (2 410 parameters, calibrated loss 0.31), ...`"""
    word, name = view.spec.value.word, size_name(view)
    trials = ", ".join(
        f"#{trial.number} ({measure_of(name).shown(measured(trial, name) or 0)} "
        f"{name.replace('_', '-')}, {word} {objective_in_words(view, trial.best.value)})"
        for trial in pareto_front(view)
        if trial.best is not None
    )
    return f"Pareto front, complete trials that no other beats in both size and {word}: {trials}."
