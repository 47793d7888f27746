"""Hyperparameter search for image classifiers.

Every module directly in here is a command; what the commands do, the functions of `__all__` do
from Python. They are loaded when they are first asked for, since torch takes seconds.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# OpenMP threads that spin while they wait starve each other as soon as anything else runs on the
# machine: with a load of 5 on 2 cores, a small CNN trained 10 to 40 times as fast once they sleep
# instead. libgomp reads this when torch is loaded, so it is set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from search.final.final import finalise
    from search.final.predict import predict
    from search.running.results import epochs_table, load_study, study_figures, trials_table
    from search.running.study import run_study

__all__ = [
    "epochs_table",
    "finalise",
    "load_study",
    "predict",
    "run_study",
    "study_figures",
    "trials_table",
]
_MODULES = {
    "finalise": "search.final.final",
    "predict": "search.final.predict",
    "run_study": "search.running.study",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "search.running.results")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _in_the_way() -> str | None:
    """What would be imported in place of our packages `data` and `models`: one line, with a remedy.

    `python -m` puts the folder it runs in first on the path, and a script puts its own.
    """
    for name in ("data", "models"):
        try:
            spec = find_spec(name)
        except ValueError:  # a module of that name was made by hand
            spec = None
        if spec is None:
            return f"cnn-search's package {name} is missing; install cnn-search again"
        ours = Path(__file__).parents[1] / name / "__init__.py"
        if spec.origin is None and name not in sys.modules:
            _load(name, ours)  # a mere folder, of pictures perhaps, before an editable install
            continue
        found = Path(spec.origin or next(iter(spec.submodule_search_locations or ()), name))
        if found != ours and not (found.exists() and found.samefile(ours)):
            return (
                f"{found} is in the way of cnn-search's package {name}: use the command "
                "cnn-search, which works from any folder, start from another folder, or rename it"
            )
    return None


def _load(name: str, file: Path) -> None:
    spec = spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)


_problem = _in_the_way()
if _problem is not None:
    if re.search(r"-m ?search\.|\bcnn-search$", " ".join([*sys.orig_argv, *sys.argv[:1]])):
        print(_problem, file=sys.stderr)  # no traceback for our own commands
        sys.exit(2)
    raise ImportError(_problem)
