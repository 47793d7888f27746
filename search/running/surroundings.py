"""What a notebook keeps while a function of ours works in its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from search.spec.domains import SpecError
from search.store.optuna_log import warnings_only


@contextmanager
def kept_surroundings() -> Iterator[None]:
    """Give torch's number of threads and Optuna's verbosity back at the end.

    Meanwhile Optuna tells warnings only: what it tells of trials, the progress shows.
    """
    threads = torch.get_num_threads()
    with warnings_only():
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def check_count(name: str, value: int | None) -> None:
    """None, or a whole number from 1 up.

    Raises:
        SpecError: anything else.
    """
    if value is not None and (type(value) is not int or value < 1):
        raise SpecError(name, f"{name} must be a whole number from 1 up, but got {value!r}")
