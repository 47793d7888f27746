"""Hyperparameter search for image classifiers.

Every module directly in here is a command; what the commands do, the functions of `__all__` do
from Python. They are loaded when they are first asked for, since torch takes seconds.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# OpenMP threads that spin while they wait starve each other as soon as anything else runs on the
# machine: with a load of 5 on 2 cores, a small CNN trained 10 to 40 times as fast once they sleep
# instead. libgomp reads this when torch is loaded, so it is set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from search.running.final import finalise
    from search.running.predict import predict
    from search.running.results import epochs_table, figures, load_study, trials_table
    from search.running.study import run_study

__all__ = [
    "epochs_table",
    "figures",
    "finalise",
    "load_study",
    "predict",
    "run_study",
    "trials_table",
]
_HOMES = {
    "epochs_table": "results",
    "figures": "results",
    "finalise": "final",
    "load_study": "results",
    "predict": "predict",
    "run_study": "study",
    "trials_table": "results",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"search.running.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
