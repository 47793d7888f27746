"""Time zones in which tests read and write times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

EAST, WEST = "EAST-9", "WEST+5"  # as POSIX writes them: hours to add for UTC


@contextmanager
def zone(name: str) -> Iterator[None]:
    """This process's local time during the block."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TZ", name)
            time.tzset()
            yield
    finally:
        time.tzset()
