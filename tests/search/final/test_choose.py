"""Which trial is finalised, and what is said if it is not simply the best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from search.final.choose import choose_candidates, choose_trial, decide, stretched
from search.store import StorageError
from search.store.views import State, TrialView
from search.training.epoch import RepeatError, Score
from search.training.metrics import HIGHEST_TEMPERATURE
from search.training.repeat import TrainedRun
from tests.search.made_up_views import PLAIN, comparison_view, study_view, trial_view


def of_arm(arm: str, number: int, losses: list[float], state: State = "complete") -> TrialView:
    return replace(trial_view(number, losses, state=state), arm=arm, repeat=number)


def changed(trial: TrialView, number: int, **fields: Any) -> TrialView:
    """The trial with other fields in the record of one epoch."""
    curve = (replace(it, **fields) if it.epoch == number else it for it in trial.curve)
    return replace(trial, curve=tuple(curve))


BOTH = [trial_view(0, [0.5, 0.4]), trial_view(1, [0.2, 0.25]), trial_view(2, [0.3], state="pruned")]
ARMS = [
    of_arm("base", 0, [0.1]),
    of_arm("wide", 1, [0.4]),
    of_arm("wide", 2, [0.1], "failed"),
    of_arm("wide", 3, [0.3]),
]


@pytest.mark.parametrize(
    ("trials", "wanted", "number", "epochs", "why"),
    [
        (BOTH, {}, 1, 1, ""),
        (
            BOTH,
            {"number": 0},
            0,
            2,
            "Trial 0 was named by hand, not the study's best: validation loss 0.4000 against "
            "0.2000 of trial 1.",
        ),
        (BOTH, {"number": 1}, 1, 1, "Trial 1 was named by hand, which is also the study's best."),
        (BOTH[2:], {"number": 2}, 2, 1, "Trial 2 was named by hand, none is complete."),
        (
            ARMS,
            {"arm": "wide"},
            3,
            1,
            "Trial 3 is the best repeat of arm wide, not the study's best: validation loss 0.3000 "
            "against 0.1000 of trial 0.",
        ),
    ],
)
def test_the_best_is_taken_and_another_is_compared_with_it(
    trials: list[TrialView], wanted: dict[str, Any], number: int, epochs: int, why: str
) -> None:
    chosen = choose_trial(study_view(trials), **wanted)
    assert (chosen.trial.number, chosen.epochs, chosen.why) == (number, epochs, why)


@pytest.mark.parametrize(
    ("trial", "wanted", "said"),
    [
        (trial_view(0, state="running"), {}, "no complete trials in study 'fashion'"),
        (trial_view(0, [0.1]), {"number": 7}, "no trial 7; it has 1"),
        (trial_view(0, [0.1], state="failed"), {"number": 0}, "trial 0 of study 'fashion' is fail"),
        (trial_view(0, state="pruned"), {"number": 0}, "no finished epoch"),
        (trial_view(0, [float("nan")]), {"number": 0}, "no finished epoch with a loss"),
        (trial_view(0, [0.1]), {"arm": "x"}, "has no arm 'x'; its arms are none"),
        (of_arm("a", 0, [0.1]), {"arm": "x"}, "its arms are 'a'"),
        (of_arm("a", 0, [], "running"), {"arm": "a"}, "no complete trials in arm 'a' of study"),
    ],
)
def test_what_cannot_be_chosen(trial: TrialView, wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(StorageError, match=said):
        choose_trial(study_view([trial]), **wanted)


@pytest.mark.parametrize(
    ("arms", "arm", "reason", "said"),
    [
        ({"a": [0.1, 0.2], "b": [None, None]}, "b", "diverged: x", "diverged; name another arm"),
        ({"a": [None], "b": [None]}, None, "diverged: x", "diverged; name another study"),
        ({"a": [0.1, 0.2], "b": [None, None]}, "b", "no memory", "again with .* --continue 1 3$"),
        ({"a": [0.1, 0.2], "b": [None]}, "b", "diverged: x", "train some first with"),
    ],
)
def test_a_remedy_for_arms_that_failed(
    arms: dict[str, list[float | None]], arm: str | None, reason: str, said: str
) -> None:
    view = comparison_view(arms, reason=reason)
    with pytest.raises(StorageError, match=f"^no complete trials in .*{said}"):
        choose_trial(view, arm=arm)


@pytest.mark.parametrize(
    ("metrics", "temperature"),
    [
        ({"temperature": 1.25}, 1.25),
        ({}, 1),  # of a study that is older than temperatures
        ({"temperature": 1 / HIGHEST_TEMPERATURE}, 1),  # right of all validation images
        ({"temperature": HIGHEST_TEMPERATURE}, 1),
    ],
)
def test_the_temperature_is_the_best_epochs(metrics: dict[str, float], temperature: float) -> None:
    own = changed(trial_view(0, [0.5, 0.3, 0.4]), 2, metrics=metrics)
    chosen = choose_trial(study_view([own]))
    assert (chosen.epochs, chosen.temperature) == (2, temperature)


def test_candidates_are_the_best_of_those_trained_far_enough() -> None:
    half = study_view().spec.epochs // 2
    trials = [
        trial_view(0, [0.5], is_baseline=True),
        trial_view(1, [0.2]),
        trial_view(2, [0.1] * (half - 1), state="pruned"),  # not far enough
        trial_view(3, [0.6] * (half - 1) + [0.3], state="pruned"),
        trial_view(4, [0.1] * half, state="running"),
    ]
    found = choose_candidates(study_view(trials), 2)
    # The one that was stopped is trained to the end of its schedule.
    whole = PLAIN.recipe.epochs
    assert [(one.trial.number, one.epochs, one.config) for one in found] == [
        (1, 1, PLAIN),
        (3, whole, PLAIN),
    ]
    assert found[0].why == ""
    assert f"best after epoch {half} of {whole}" in found[1].why
    longer = choose_candidates(study_view(trials), 2, 30)
    assert [(one.epochs, one.config.recipe.epochs) for one in longer] == [(30, 30), (30, 30)]
    assert f"best after epoch {half} of {whole}" in longer[1].why
    with pytest.raises(StorageError, match="has 3 trials that got past half"):
        choose_candidates(study_view(trials), 4)


def run(number: int, loss: float, temperature: float = 1.0) -> TrainedRun:
    trial = changed(trial_view(number, [0.9, loss]), 2, metrics={"temperature": temperature})
    return TrainedRun(seed=0, curve=trial.curve, training=Score(loss=0.1, error=0.0), weights={})


def test_the_winner_has_the_lowest_mean_over_fresh_seeds() -> None:
    view = study_view([trial_view(0, [0.2]), trial_view(1, [0.3]), trial_view(2, [0.4])])
    diverged = float("nan")
    runs = [run(0, 0.25), run(0, 0.41), run(1, 0.28, 1.2), run(1, 0.30, 1.8), run(2, 0.2)]
    candidates = choose_candidates(view, 3)
    chosen, decided = decide(view, candidates, [*runs, run(2, diverged)])
    assert [one.values for one in decided] == [(0.25, 0.41), (0.28, 0.30), (0.2, float("inf"))]
    assert chosen.trial.number == 1
    assert chosen.temperature == pytest.approx((1.2 * 1.8) ** 0.5)
    assert chosen.why.startswith("Trial 1 has the lowest mean validation loss of the 3")
    with pytest.raises(RepeatError, match="every candidate diverged"):
        decide(view, candidates, [run(0, diverged)] * 6)


def test_a_stretched_recipe_is_trained_to_its_end() -> None:
    own = changed(trial_view(0, [0.5, 0.3, 0.4]), 3, metrics={"temperature": 1.5})
    plain = choose_trial(study_view([own]))
    longer = stretched(plain, 30)
    assert (longer.epochs, longer.config.recipe.epochs, longer.temperature) == (30, 30, 1.5)
    assert longer.trial.config == longer.config != plain.config
    whole = plain.config.recipe.epochs
    assert longer.why == (
        "Trained for 30 epochs, with its schedule scaled to match; the trial was best after epoch "
        f"2 of {whole}."
    )
    assert "its whole schedule" in stretched(plain, whole).why
    assert stretched(longer, 30) == longer


@pytest.mark.parametrize(
    ("frozen", "epochs", "then"), [(0, 20, 0), (2, 20, 10), (3, 2, 1), (4, 20, 20), (9, 2, 2)]
)
def test_a_stretched_recipe_freezes_the_same_share(frozen: int, epochs: int, then: int) -> None:
    own = trial_view(0, [0.5, 0.3, 0.2, 0.1])
    assert own.config is not None
    recipe = replace(own.config.recipe, epochs=4, frozen_epochs=frozen, initial_weights="w.pt")
    trial = replace(own, config=replace(own.config, recipe=recipe))
    found = stretched(choose_trial(study_view([trial])), epochs)
    assert found.config.recipe.frozen_epochs == then


@pytest.mark.parametrize(
    ("augmentation", "train_loss", "epochs", "strength"),
    [
        ("flip-crop", 0.1, 6, 0.6),  # three times the epochs after which it was best
        ("flip-crop", 0.1, 30, 1.0),
        ("flip-crop", 0.1, 3, 0.2),  # as the search trained it
        ("flip-crop", 0.38, 30, 0.2),  # had not memorised the training set
        ("none", 0.1, 30, 0.2),
    ],
)
def test_a_longer_training_needs_stronger_augmentation(
    augmentation: str, train_loss: float, epochs: int, strength: float
) -> None:
    own = changed(trial_view(0, [0.5, 0.3, 0.4]), 3, train_loss=train_loss)
    assert own.config is not None
    recipe = replace(
        own.config.recipe, epochs=3, augmentation=augmentation, augmentation_strength=0.2
    )
    trial = replace(own, config=replace(own.config, recipe=recipe))
    found = stretched(choose_trial(study_view([trial])), epochs)
    assert found.config.recipe.augmentation_strength == pytest.approx(strength)
    assert ("strength" in found.why) == (strength > 0.2)
