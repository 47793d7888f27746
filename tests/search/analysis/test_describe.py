"""Configurations in words."""

from __future__ import annotations

from typing import Any

import pytest

from models import Architecture, ConvNetConfig, MLPConfig, ResNetConfig
from search.analysis.describe import describe_config, describe_network, short_config
from search.spec.config import TrialConfig
from search.spec.recipe import Recipe


def config(architecture: Architecture, **recipe: Any) -> TrialConfig:
    return TrialConfig(architecture=architecture, recipe=Recipe(epochs=12, **recipe))


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
