"""Calls a function of this package on the very code of the process that asks for it.

`python -P bootstrap.py MODULE:FUNCTION '[path, command]'`. On standard input comes a pickle of the
function's arguments; what it returns is the exit code. Whatever else goes by its name, our package
is the one beside this file: nothing of it may be imported before the path is set. See
`search.running.pool.ChildProcess`.
"""

import json
import os
import pickle
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path


def stop_with_parent() -> None:
    """Wait for the end of standard input, which the parent holds open until we are to stop.

    It is closed also when that process is killed, and on any system; a signal would end a process
    of Windows at once.
    """
    os.read(0, 1)
    if callable(signal.getsignal(signal.SIGTERM)):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(30)  # to lay its trials aside, where nobody ends it sooner
    os._exit(128 + signal.SIGTERM)


def main() -> None:
    path, command = json.loads(sys.argv[2])
    sys.path[:] = [str(Path(__file__).parents[2]), *path]
    import_module("search")
    sys.path[:] = path
    module, _, function = sys.argv[1].partition(":")
    sys.argv[:] = [command]  # by which messages name our commands
    from search.terminal.commands import run

    called = getattr(import_module(module), function)  # loads its libraries before it is needed
    try:
        arguments = pickle.load(sys.stdin.buffer)  # by the process that started this one
    except EOFError:
        return  # there is nothing to do after all
    threading.Thread(target=stop_with_parent, daemon=True).start()
    run(lambda _: called(*arguments))


if __name__ == "__main__":
    main()
