"""What the report of a comparison is filled with: each arm's values, and what each changed."""

from __future__ import annotations

from statistics import mean
from typing import Any

from search.analysis.comparison import ALPHA, ArmRuns, Difference, against_base, runs_by_arm
from search.analysis.comparison_words import (
    INTERVAL,
    SPREAD,
    changes_in_words,
    interval_in_words,
    mean_in_words,
    p_in_words,
    trained_in_words,
    value_in_words,
    verdict_in_words,
)
from search.analysis.measures import MEASURES, time_spent
from search.analysis.wording import counts_in_words, mean_and_spread
from search.pages.networks import best_network
from search.pages.published import published_values
from search.spec.space import arm_config
from search.store.views import StudyView

SHOWN = ("validation_loss", "validation_error", "validation_accuracy", "parameters")
TRAINING = ("train_loss", "train_error", "train_accuracy")
TESTED = ("validation_loss", "validation_accuracy")


def comparison_values(view: StudyView) -> dict[str, Any]:
    runs = runs_by_arm(view)
    trained = [arm for arm in runs.values() if arm.complete]
    lowest = min(trained, key=lambda arm: mean(arm.values("validation_loss")), default=None)
    return {
        "facts_of_best": lowest and _facts(view, lowest),
        "arm_rows": [
            (
                name,
                trained_in_words(arm),
                *(mean_in_words(arm, metric) for metric in SHOWN),
                value_in_words(arm_config(view.spec, arm.arm).recipe.learning_rate),
                _best_epoch(arm),
            )
            for name, arm in runs.items()
        ],
        "training_rows": [
            (name, *(mean_in_words(arm, metric) for metric in TRAINING))
            for name, arm in runs.items()
        ],
        "spread": SPREAD,
        "some_lost": any(arm.failed and arm.complete for arm in runs.values()),
        "published": published_values(view, runs),
        "alpha": ALPHA,
        "interval": INTERVAL,
        "effects": [
            (
                f"{MEASURES[m].words} ({'percentage points' if MEASURES[m].unit else 'nats'})",
                [_effect_row(view, runs[d.arm], d) for d in against_base(view, m)],
            )
            for m in TESTED
        ],
        "best": lowest and best_network(view, lowest.complete[0], f"“{lowest.arm.name}”"),
    }


def _facts(view: StudyView, lowest: ArmRuns) -> list[tuple[str, str]]:
    base, seeds = view.spec.arms[0].name, len(lowest.complete)
    verdicts = {d.arm: verdict_in_words(d) for d in against_base(view, "validation_loss")}
    beside = verdicts.get(lowest.arm.name)
    over = f", ± over {seeds} seeds" if seeds > 1 else ", one seed"
    return [
        ("lowest mean validation loss", lowest.arm.name),
        ("against the base", f"{beside} ({base})" if beside else "it is the base itself"),
        (f"its loss (nats){over}", mean_in_words(lowest, "validation_loss")),
        (f"its accuracy (%){over}", mean_in_words(lowest, "validation_accuracy")),
        ("trials", counts_in_words(view)),
        ("trained for", time_spent(view)),
    ]


def _best_epoch(arm: ArmRuns) -> str:
    epochs = [float(trial.best.epoch) for trial in arm.complete if trial.best is not None]
    return mean_and_spread(epochs, 1) if epochs else ""


def _effect_row(view: StudyView, runs: ArmRuns, difference: Difference) -> tuple[str, ...]:
    metric = MEASURES[difference.metric]
    some_lost = runs.diverged and not runs.diverged_throughout
    seeds = f"{runs.diverged} of {runs.repeats} seeds"
    return (
        difference.arm,
        changes_in_words(view.spec, runs.arm),
        str(difference.pairs),
        "" if difference.mean is None else metric.signed(difference.mean),
        interval_in_words(difference),
        p_in_words(difference.p),
        p_in_words(difference.p_holm),
        verdict_in_words(difference)
        + (f"; {seeds} diverged and cannot be compared" if some_lost else ""),
    )
