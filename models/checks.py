"""The one error for impossible networks, and how messages show a wrong value."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class ArchitectureError(ValueError):
    """A network that cannot be built. One line: what does not fit, and what to change."""


MOST_LAYERS = 200  # convolutions, or hidden layers
MOST_COUNT = 10**9
LONGEST_SHOWN = 200  # characters of a wrong value, which may be very long in a file
LONGEST_LINE = 300  # characters of a library's message, which may quote a whole file


def shown(value: object) -> str:
    """A value as the user wrote it, in TOML, JSON or on the command line, cut short."""
    text = " ".join(repr(_as_lists(value)).splitlines())  # arrays have several
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _as_lists(value: object) -> object:
    return list(map(_as_lists, value)) if isinstance(value, tuple) else value


def first_line(error: BaseException) -> str:
    """Of the error's message, without its middle if it is long. Empty if there is none."""
    line, half = (str(error).splitlines() or [""])[0], LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def by(sides: Sequence[int]) -> str:
    """`3x32x32`."""
    return "x".join(map(str, sides))


def own_generators(network: nn.Module) -> list[bytes]:
    """The states of the random generators that its modules keep as attributes."""
    import numpy as np  # this module is also loaded where nothing computes
    import torch

    kinds = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
    kept = (it for module in network.modules() for it in vars(module).values())
    states = (  # a pickle of torch's holds an address, too
        it.get_state().tolist() if isinstance(it, torch.Generator) else it
        for it in kept
        if isinstance(it, kinds)
    )
    return list(map(pickle.dumps, states))
