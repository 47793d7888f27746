"""Random architectures, drawn so that every field takes every kind of value."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from models import Architecture, ArchitectureError, ConvNetConfig, MLPConfig
from models.convnet import PARAMETERS
from models.summary import anatomy

Case = tuple[Architecture, tuple[int, int, int], int]


@pytest.fixture(scope="session")
def random_cases() -> Callable[[int, int], list[Case]]:
    """random_cases(count, seed): that many architectures that fit their images."""

    def draw(count: int, seed: int) -> list[Case]:
        cases = _cases(random.Random(seed))
        return [next(cases) for _ in range(count)]

    return draw


def _cases(rng: random.Random) -> Iterator[Case]:
    while True:
        side = rng.choice([1, 5, 8, 14, 28, 32])
        image = (rng.choice([1, 3]), side, rng.choice([side, side + 3]))
        classes = rng.choice([2, 10, 100])
        try:
            architecture = _mlp(rng) if rng.random() < 0.1 else _convnet(rng)
            anatomy(architecture, image, classes)
        except ArchitectureError:
            continue
        yield architecture, image, classes


def _mlp(rng: random.Random) -> MLPConfig:
    return MLPConfig(
        hidden=_sizes(rng, rng.randint(0, 3)),
        activation=rng.choice(list(PARAMETERS["activation"].options)),
        dropout=rng.choice([0.0, 0.3]),
        batch_norm=rng.random() < 0.5,
    )


def _convnet(rng: random.Random) -> ConvNetConfig:
    depth = rng.randint(1, 9)
    padding: Any = rng.choice(["same", "same", 0, 2, tuple(rng.choices([0, 1, 2], k=depth))])
    batch_norm: Any = rng.choice([True, False, _some(rng, depth)])
    return ConvNetConfig(
        channels=_sizes(rng, depth),
        kernel_sizes=tuple(rng.choices([1, 3, 5], k=rng.choice([1, depth]))),
        padding=padding,
        batch_norm=batch_norm,
        batch_norm_place=rng.choice(list(PARAMETERS["batch_norm_place"].options)),
        activation=rng.choice(list(PARAMETERS["activation"].options)),
        pool=rng.choice(list(PARAMETERS["pool"].options)),
        pool_after=rng.choice(["auto", "every", _some(rng, depth)]),
        residual=rng.random() < 0.5,
        head=rng.choice(list(PARAMETERS["head"].options)),
        hidden=_sizes(rng, rng.randint(0, 2)),
        dropout_conv=rng.choice([0.0, 0.3]),
        dropout_linear=rng.choice([0.0, 0.3]),
    )


def _sizes(rng: random.Random, count: int) -> tuple[int, ...]:
    """Few enough different sizes that neighbours are often alike, as the identity needs."""
    return tuple(rng.choices([2, 3, 8], k=count))


def _some(rng: random.Random, depth: int) -> tuple[int, ...]:
    return tuple(number for number in range(1, depth + 1) if rng.random() < 0.4)
