"""Calls a function of this package, from the same copy of the code as the calling process.

`python -P bootstrap.py MODULE:FUNCTION` reads two pickles from standard input: `sys.path` and the
command's name, then the function's arguments. The function's return value is the exit code. Our
package is always the one beside this file, whatever else has its name: import none of it before the
path is set. See `search.running.pool.ChildProcess`.
"""

import gc
import io
import os
import pickle
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path


def stop_with_parent(pipe: int) -> None:
    """Wait for the end of a pipe that the parent holds open until we should stop.

    It also closes when the parent is killed, and on every system; on Windows, a signal would end
    the process at once.
    """
    os.read(pipe, 1)
    if callable(signal.getsignal(signal.SIGTERM)):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(30)  # time to release its trials, unless it is killed sooner
    os._exit(128 + signal.SIGTERM)


def main() -> None:
    gc.set_threshold(50_000)  # see `search.terminal.commands.run`
    if isinstance(sys.stderr, io.TextIOWrapper):  # whatever the system's encoding
        sys.stderr.reconfigure(encoding="utf-8", newline="\n")
    path, command = pickle.load(sys.stdin.buffer)  # from the process that started this one
    sys.path[:] = [str(Path(__file__).parents[2]), *path]
    import_module("search")
    sys.path[:] = path
    module, _, function = sys.argv[1].partition(":")
    sys.argv[:] = [command]  # messages name our commands as it does
    from search.terminal.commands import run

    arguments = pickle.load(sys.stdin.buffer)
    # Off standard input: NumPy's and SciPy's libraries look at it while Windows loads them, and
    # would wait for the thread that reads it (numpy#24290).
    pipe = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=stop_with_parent, args=(pipe,), daemon=True).start()
    called = getattr(import_module(module), function)
    run(lambda _: called(*arguments))


if __name__ == "__main__":
    main()
