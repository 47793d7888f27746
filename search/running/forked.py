"""A copy of this process that goes its own way, with all that is loaded already loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import IO

from search.running.stopping import SIGNALS


class ForkedProcess:
    """A copy of this process that runs a function; it offers what a team needs of `Popen`.

    To be made while this process has no threads of its own, no database open and no GPU in use: a
    copy could use none of them. The copy is in a session of its own, like a daemon's.

    Args:
        run: what the copy does; its standard input is the attribute `stdin` here.
        siblings: of earlier copies; the new one must not hold on to their standard inputs.
        errors: what its standard error goes to; None: to where that of this process goes.

    Attributes:
        stdin: the writing end of a pipe.
    """

    def __init__(
        self,
        run: Callable[[], object],
        siblings: Iterable[IO[bytes]],
        errors: int | None = None,
    ) -> None:
        reading, writing = os.pipe()
        self.stdin: IO[bytes] = os.fdopen(writing, "wb")
        not_its_own = [self.stdin, *siblings]

        def begin() -> None:
            for number in SIGNALS:  # this process's own handling is not the copy's
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.setsid()
            for pipe in not_its_own:
                pipe.close()
            sys.stdin = os.fdopen(reading)
            if errors is not None:
                os.dup2(errors, 2)
                sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
            run()

        self._process = multiprocessing.get_context("fork").Process(target=begin)
        # A signal that came to the copy before it has forgotten the handlers would do nothing.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of threads, and counts those of OpenBLAS, which is prepared.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(reading)

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, at most so many seconds; see `poll`.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("a copy of this process", timeout or 0.0)
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
