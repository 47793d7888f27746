"""Which trial is finalised, and what is said where it is not simply the best."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from models import ConvNetConfig
from search.final.choose import choose_trial
from search.spec.config import StudySpec, TrialConfig
from search.spec.recipe import Recipe
from search.store import StorageError
from search.store.records import EpochRow
from search.store.views import DatasetFacts, StudyView, TrialView
from search.training.metrics import HIGHEST_TEMPERATURE

CONFIG = TrialConfig(architecture=ConvNetConfig(channels=(4,)), recipe=Recipe(epochs=3))


def trial(number: int, losses: list[float], **changes: Any) -> TrialView:
    rows = tuple(
        EpochRow(
            trial_number=number, epoch=epoch, train_loss=loss, train_error=0.1,
            validation_loss=loss, validation_error=0.1, value=loss,
            learning_rate=0.1, seconds=1.0, images=10, worker="w", attempt=1, reported_at=0.0,
        )
        for epoch, loss in enumerate(losses, start=1)
    )  # fmt: skip
    plain = TrialView(
        number=number, state="complete", params={}, config=CONFIG, parameters=10,
        curve=rows, early_look=None, started=None, finished=None, reason=None, is_baseline=False,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def make(*trials: TrialView) -> StudyView:
    facts = DatasetFacts(
        name="digits", title="Digits", class_names=("0", "1"), image_shape=(1, 8, 8),
        training_count=10, validation_count=2,
    )  # fmt: skip
    return StudyView(
        name="s", storage="sqlite:///x", dataset=facts,
        spec=StudySpec(dataset="digits", objective="validation_loss"),
        hardware="h", versions={}, trials=trials,
    )  # fmt: skip


def test_the_best_needs_no_words() -> None:
    chosen = choose_trial(make(trial(0, [0.5, 0.4]), trial(1, [0.3, 0.2, 0.25])))
    assert (chosen.trial.number, chosen.epochs, chosen.why) == (1, 2, "")


def test_a_number_is_taken_and_compared_with_the_best() -> None:
    view = make(trial(0, [0.5, 0.4]), trial(1, [0.2]), trial(2, [0.3], state="pruned"))
    chosen = choose_trial(view, number=0)
    assert (chosen.trial.number, chosen.epochs) == (0, 2)
    assert chosen.why == (
        "Trial 0 was named by hand, not the study's best: validation loss 0.4000 against 0.2000 "
        "of trial 1."
    )
    assert choose_trial(view, number=2).trial.number == 2
    assert "also the study's best" in choose_trial(view, number=1).why


def test_of_an_arm_the_best_repeat_is_taken() -> None:
    view = make(
        trial(0, [0.1], arm="base", repeat=0),
        trial(1, [0.4], arm="wide", repeat=0),
        trial(2, [0.1], arm="wide", repeat=1, state="failed"),
        trial(3, [0.3], arm="wide", repeat=2),
    )
    chosen = choose_trial(view, arm="wide")
    assert chosen.trial.number == 3
    assert "best repeat of arm wide" in chosen.why
    assert "0.3000 against 0.1000 of trial 0" in chosen.why


@pytest.mark.parametrize(
    ("trials", "wanted", "said"),
    [
        ([trial(0, [], state="running")], {}, "no finished trials in study 's'"),
        ([trial(0, [0.1])], {"number": 7}, "no trial 7; it has 1"),
        ([trial(0, [0.1], state="failed")], {"number": 0}, "trial 0 of study 's' is failed"),
        ([trial(0, [], state="pruned")], {"number": 0}, "no finished epoch"),
        ([trial(0, [float("nan")])], {"number": 0}, "no finished epoch with a loss"),
        ([trial(0, [0.1])], {"arm": "x"}, "has no arm 'x'; its arms are none"),
        ([trial(0, [0.1], arm="a")], {"arm": "x"}, "its arms are 'a'"),
        (
            [trial(0, [], arm="a", state="running")],
            {"arm": "a"},
            "no finished trials in arm 'a' of study 's'",
        ),
    ],
)
def test_what_cannot_be_chosen(trials: list[TrialView], wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(StorageError) as caught:
        choose_trial(make(*trials), **wanted)
    assert said in str(caught.value)


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
    own = trial(0, [0.5, 0.3, 0.4])
    curve = list(own.curve)
    curve[1] = dataclasses.replace(curve[1], metrics=metrics)
    chosen = choose_trial(make(dataclasses.replace(own, curve=tuple(curve))))
    assert (chosen.epochs, chosen.temperature) == (2, temperature)
