"""Random convolutional networks, drawn so that every field takes every kind of value."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from models import ArchitectureError, ConvNetConfig
from models.convnet import PARAMETERS
from models.summary import anatomy

Case = tuple[ConvNetConfig, tuple[int, int, int], int]


def random_cases(count: int, seed: int) -> list[Case]:
    """That many architectures that fit their images."""
    return list(islice(_cases(random.Random(seed)), count))


def _cases(rng: random.Random) -> Iterator[Case]:
    while True:
        side = rng.choice([1, 5, 8, 14, 28, 32])
        image = (rng.choice([1, 3]), side, rng.choice([side, side + 3]))
        classes = rng.choice([2, 10, 100])
        try:
            architecture = _convnet(rng)
            anatomy(architecture, image, classes)
        except ArchitectureError:
            continue
        yield architecture, image, classes


def _convnet(rng: random.Random) -> ConvNetConfig:
    depth = rng.randint(1, 9)

    def some() -> tuple[int, ...]:
        return tuple(number for number in range(1, depth + 1) if rng.random() < 0.4)

    padding: Any = rng.choice(["same", "same", 0, 2, tuple(rng.choices([0, 1, 2], k=depth))])
    chosen: dict[str, Any] = {
        name: rng.choice(list(PARAMETERS[name].options))
        for name in ("batch_norm_place", "activation", "pool", "head")
    }
    return ConvNetConfig(
        channels=tuple(rng.choices([2, 3, 8], k=depth)),  # neighbours are often alike
        kernel_sizes=tuple(rng.choices([1, 3, 5], k=rng.choice([1, depth]))),
        padding=padding,
        batch_norm=rng.choice([True, False, some()]),
        pool_after=rng.choice(["auto", "every", some()]),
        residual=rng.random() < 0.5,
        hidden=tuple(rng.choices([2, 3, 8], k=rng.randint(0, 2))),
        dropout_conv=rng.choice([0.0, 0.3]),
        dropout_linear=rng.choice([0.0, 0.3]),
        **chosen,
    )
