"""Configurations in words."""

from __future__ import annotations

from typing import Any

import pytest

from models import Architecture, ConvNetConfig, MLPConfig, ResNetConfig
from models.family import compact
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
        "3 convolutions of 32, 64, 128 channels, 3x3, batch norm, max pooling, a hidden layer of "
        "128, ReLU, 221 950 parameters; AdamW at 0.0021, one-cycle over 12 epochs, batches of "
        "128, decoupled weight decay 3e-4, dropout 0.12, flip-crop at 0.6"
    )


def test_what_a_table_has_room_for() -> None:
    assert short_config(SEARCHED) == (
        "32-64-128, lr 0.0021, flip-crop 0.6, drop 0.12, decoupled 3e-4"
    )
    assert short_config(config(MLPConfig(hidden=()))) == "linear, lr 0.001"


def test_a_network_that_starts_from_trained_weights() -> None:
    transferred = config(ResNetConfig(side=64), initial_weights="imagenet", frozen_epochs=2)
    assert describe_network(transferred.architecture) == "ResNet-18, images scaled to 64x64"
    assert "weights from imagenet, the last layer alone for 2 epochs" in describe_config(
        transferred
    )
    assert short_config(transferred) == "ResNet-18, lr 0.001"


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (ConvNetConfig(channels=(8,)), "1 convolution of 8 channels, 3x3, max pooling"),
        (ConvNetConfig(channels=(8, 8), kernel_sizes=(5, 3)), "5x5, 3x3"),
        (ConvNetConfig(channels=(8, 8), padding=0), "without padding"),
        (ConvNetConfig(channels=(8, 8), padding=(1, 2)), "padding 1, 2"),
        (ConvNetConfig(channels=(8, 8), batch_norm=(2,)), "batch norm in 2"),
        (
            ConvNetConfig(channels=(8, 8), batch_norm=True, batch_norm_place="pool"),
            "batch norm behind the pooling",
        ),
        (ConvNetConfig(channels=(8, 8), pool_after="every"), "max pooling after each"),
        (
            ConvNetConfig(channels=(8, 8), pool="average", pool_after=(2,)),
            "average pooling after 2",
        ),
        (ConvNetConfig(channels=(8, 8), pool_after=()), "no pooling"),
        (ConvNetConfig(channels=(8, 8), residual=True), "2 residual convolutions"),
        (ConvNetConfig(channels=(8, 8), head="global"), "global average pooling"),
        (ConvNetConfig(channels=(8, 8), activation="leaky_relu"), "leaky ReLU"),
        (ConvNetConfig(channels=(8,), hidden=(120, 84)), "hidden layers of 120, 84"),
        (MLPConfig(hidden=(256, 64), batch_norm=True), "no convolutions, hidden layers of 256, 64"),
        (MLPConfig(hidden=(256,), batch_norm=True), "batch norm"),
        (MLPConfig(hidden=()), "no hidden layer"),
    ],
)
def test_networks_in_words(architecture: Architecture, words: str) -> None:
    assert words in describe_network(architecture)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            {},
            "Adam at 0.001, one-cycle over 12 epochs, batches of 128, no weight decay, no dropout",
        ),
        ({"optimizer": "sgd"}, "SGD (Nesterov momentum 0.9) at 0.001"),
        ({"weight_decay_kind": "l2", "weight_decay": 1e-4}, "L2 term 1e-4 in the loss"),
        ({"weight_decay_kind": "coupled", "weight_decay": 0.02}, "coupled weight decay 0.02"),
        ({"weight_decay_kind": "decoupled", "weight_decay": 0.0}, "Adam at"),
        ({"augmentation": "flip-crop", "augmentation_strength": 0.0}, "no augmentation"),
        ({"weight_averaging": 0.15}, "weights averaged over 0.15 of the steps"),
        ({"label_smoothing": 0.1}, "label smoothing 0.1"),
        ({"gradient_clip": 2.0}, "gradient clipped at 2"),
    ],
)
def test_training_in_words(recipe: dict[str, Any], words: str) -> None:
    assert words in describe_config(config(ConvNetConfig(channels=(8,)), **recipe))


def test_dropout_in_both_places() -> None:
    net = ConvNetConfig(channels=(8,), dropout_linear=0.25, dropout_conv=0.1)
    assert "dropout 0.25, dropout 0.1 after convolutions" in describe_config(config(net))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (0.3, "0.3"), (0.00213, "0.0021"), (3.14e-4, "3.1e-4"), (3e-5, "3e-5"), (2, "2")],
)
def test_two_digits_are_enough(number: float, text: str) -> None:
    assert compact(number) == text
