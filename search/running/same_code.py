"""Runs a module of this package on the very code of the process that asks for it.

`python -P same_code.py -m MODULE ARGUMENTS`, with a line of JSON on standard input: the `sys.path`
to have. The three packages are then those beside this file, whatever else goes by their names.
See `search.running.fresh`; nothing of ours may be imported before the path is set.
"""

import json
import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

HOME = Path(__file__).parents[2]


def load(name: str) -> None:
    """The package of that name in `HOME`."""
    folder = HOME / name
    spec = spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)


def main() -> None:
    path = sys.stdin.buffer.readline()
    if not path:
        return  # the process that asked has died
    sys.path[:] = json.loads(path)
    for name in ("data", "models", "search"):
        load(name)
    _, _, module, *arguments = sys.argv
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
