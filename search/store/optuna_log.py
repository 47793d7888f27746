"""What Optuna says of its own accord, and when it says less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import optuna


@contextmanager
def warnings_only() -> Iterator[None]:
    """Meanwhile Optuna tells warnings at most; afterwards what it told before."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
