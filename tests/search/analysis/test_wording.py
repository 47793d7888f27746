"""Numbers, facts, states and configurations in words."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest

from data.errors import grouped
from models import Architecture, ConvNetConfig, MLPConfig, ResNetConfig
from search.analysis.measures import MEASURES
from search.analysis.wording import (
    MEANINGS,
    MOST_NAME,
    WORDS,
    all_counts,
    counts_in_words,
    data_in_words,
    describe_config,
    describe_network,
    duration,
    fitted,
    percent,
    printable,
    short_config,
    spread,
    told_apart,
)
from search.spec.config import TrialConfig
from search.spec.recipe import Recipe
from search.store.views import State
from tests.search.made_up_views import study_view, trial_view


def test_numbers() -> None:
    assert [duration(s) for s in (99.4, 100, 7500)] == ["99 s", "2 min", "2 h 05 min"]
    assert [grouped(221_950), percent(0.93456), percent(0.07, 0)] == ["221 950", "93.46 %", "7 %"]
    assert spread([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert MEASURES["test_accuracy"].mean_and_spread([0.93, 0.95]) == "94.00 ± 1.41"
    assert spread([1.0]) is None
    assert MEASURES["test_loss"].mean_and_spread([0.2512]) == "0.2512"


def test_text_loses_control_characters_and_keeps_its_script() -> None:
    assert printable("naïve 靴 T-shirt") == "naïve 靴 T-shirt"
    assert printable("a\nb\x1b[2Jc\u202ed") == "a�b�[2Jc�d"
    assert fitted("short") == "short"
    assert len(fitted("x" * 500)) == MOST_NAME
    assert fitted("a\x1b[31m") == "a�[31m"


def test_names_that_would_be_cut_to_the_same_differ() -> None:
    assert told_apart(["x" * 500, "short"]) == {"x" * 500: fitted("x" * 500), "short": "short"}
    like = {
        f"32, 64, 64, kernels 5, {size}, 3": f"32, 64, 64, …els 5, {size}, 3" for size in (3, 5)
    }
    assert told_apart([*like, "16, 32"]) == {**like, "16, 32": "16, 32"}
    places = product("ab", repeat=4)
    names = ["".join(20 * "same " + letter for letter in place) for place in places]
    for most in (24, 40):
        assert len(set(told_apart(names, most).values())) == len(names)
    pairs = [f"16 layers, batch norm, dropout 0.{d}, decay 1e-{n}" for d in "23" for n in "34"]
    assert {len(name) for name in told_apart(pairs, 40).values()} == {40}
    inside = [f"White-crowned sparrow, {sex}, summer" for sex in ("male", "female")]
    assert told_apart(inside) == {name: name for name in inside}
    for alike in ([f"{'x' * 99}{n}{'x' * 99}" for n in range(150)], ["a\x1b", "a\x1c"]):
        shown = set(told_apart(alike).values())
        assert len(shown) == len(alike)
        assert max(map(len, shown)) <= MOST_NAME + len("150: ")


def test_the_data_is_described_as_it_was_used() -> None:
    view = study_view()
    assert data_in_words(view) == "Fashion-MNIST, 50 000 training and 10 000 validation images"
    limited = replace(view, spec=replace(view.spec, limit=2000))
    assert data_in_words(limited) == "Fashion-MNIST, 2 000 training and 10 000 validation images"


def test_states_have_one_word_each() -> None:
    assert WORDS.keys() == MEANINGS.keys() == set(get_args(State))
    assert counts_in_words(study_view([])) == "0 complete"
    pruned = study_view([trial_view(0, [1.0], state="pruned")])
    assert counts_in_words(pruned) == "0 complete, 1 pruned"
    left = study_view([trial_view(0, [1.0], state="interrupted"), trial_view(1, state="waiting")])
    assert all_counts(left) == "0 complete, 1 interrupted, 1 queued"


def config(architecture: Architecture, **recipe: Any) -> TrialConfig:
    return TrialConfig(architecture=architecture, recipe=Recipe(**{"epochs": 12, **recipe}))


SEARCHED = config(
    ConvNetConfig(channels=(32, 64, 128), batch_norm=True, hidden=(128,), dropout_linear=0.12),
    learning_rate=2.13e-3,
    weight_decay_kind="decoupled",
    weight_decay=3e-4,
    augmentation="flip-crop",
    augmentation_strength=0.6,
)


def test_a_searched_configuration_in_words() -> None:
    assert describe_config(SEARCHED, 221_950) == (
        "cnn, channels 32, 64, 128, batch norm, hidden 128, 221 950 parameters; AdamW at 0.0021, "
        "one-cycle over 12 epochs, batches of 128, decoupled weight decay 3e-4, dropout 0.12, "
        "flip-crop at 0.6"
    )
    assert short_config(SEARCHED) == (
        "32-64-128, lr 0.0021, flip-crop 0.6, drop 0.12, decoupled 3e-4"
    )
    assert short_config(config(MLPConfig(hidden=()))) == "mlp hidden none, lr 0.001"


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (
            ConvNetConfig(channels=(8, 8), kernel_sizes=(5, 3), padding=0, residual=True),
            "cnn, channels 8, 8, kernel sizes 5, 3, padding 0, residual",
        ),
        (
            ConvNetConfig(channels=(8, 8), batch_norm=(2,), pool_after=()),
            "batch norm 2, pool after none",
        ),
        (MLPConfig(hidden=(256, 64), batch_norm=True), "mlp, hidden 256, 64, batch norm"),
        (ResNetConfig(side=64), "resnet18, side 64"),
    ],
)
def test_networks_in_words(architecture: Architecture, words: str) -> None:
    assert words in describe_network(architecture)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({}, "Adam at 0.001, one-cycle over 12 epochs, batches of 128, no weight decay, no augm"),
        ({"optimizer": "sgd"}, "SGD (Nesterov momentum 0.9) at 0.001"),
        ({"epochs": 1}, "one-cycle over 1 epoch, batches"),
        ({"weight_decay_kind": "l2", "weight_decay": 1e-4}, "L2 term 1e-4 in the loss"),
        ({"weight_decay_kind": "coupled", "weight_decay": 0.02}, "coupled weight decay 0.02"),
        ({"augmentation": "flip-crop", "augmentation_strength": 0.0}, "no augmentation"),
        ({"weight_averaging": 0.15}, "weights averaged over 0.15 of the steps"),
        ({"label_smoothing": 0.1, "gradient_clip": 2.0}, "label smoothing 0.1, gradient clipped"),
        (
            {"initial_weights": "imagenet", "frozen_epochs": 2},
            "weights from imagenet, only the last layer for 2 epochs",
        ),
    ],
)
def test_training_in_words(recipe: dict[str, Any], words: str) -> None:
    transfers = "initial_weights" in recipe
    network = ResNetConfig(side=64) if transfers else ConvNetConfig(channels=(8,))
    assert words in describe_config(config(network, **recipe))
