"""Hyperparameter search for image classifiers.

Every module directly in here is a command; the functions in `__all__` do the same from Python.
They are imported on first use, because torch takes seconds.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# OpenMP threads that spin while they wait starve each other as soon as anything else runs on the
# machine: with a load of 5 on 2 cores, a small CNN trained 10 to 40 times as fast once they slept
# instead. libgomp reads this when torch is loaded, so it is set before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from search.final.final import finalise as finalise
    from search.final.predict import predict as predict
    from search.running.exports import export_study as export_study
    from search.running.results import load_study as load_study
    from search.running.results import study_figures as study_figures
    from search.running.study import run_study as run_study

_MODULES = {
    "export_study": "search.running.exports",
    "finalise": "search.final.final",
    "load_study": "search.running.results",
    "predict": "search.final.predict",
    "run_study": "search.running.study",
    "study_figures": "search.running.results",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _load(name: str) -> None:
    """Import our own package of that name, whatever else is on the path.

    `python -m` searches the current folder first, which may have a `data` of its own.
    """
    root = Path(__file__).parents[1]
    sys.path.insert(0, str(root))
    try:
        found = Path(import_module(name).__file__ or name)
    finally:
        sys.path.remove(str(root))
    file = root / name / "__init__.py"
    if found != file and not (found.exists() and found.samefile(file)):
        raise ImportError(f"{found} shadows cnn-search's package {name}: import search before it")


for _name in ("data", "models"):
    _load(_name)
