"""Ctrl-C and SIGTERM: the first asks to stop at the next safe point, the second stops at once."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from search.store import StorageError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AFTER_IMPORT_SECONDS = 0.05  # until an interrupt that came during an import is tried again
_log = logging.getLogger(__name__)


@contextmanager
def stop_after(seconds: float | None, event: threading.Event) -> Iterator[None]:
    """Set the event after that many seconds (None: never), unless the block has ended by then."""
    timer = threading.Timer(seconds or 0, event.set)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def hear_sigterm() -> None:
    """End at SIGTERM also as a container's first process, to which Linux delivers no signal that it
    does not handle."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


@contextmanager
def lost_interrupts_unreported() -> Iterator[None]:
    """Python prints a traceback of each exception that it loses in a destructor; here not of a
    KeyboardInterrupt, after which the event is set all the same."""
    report = sys.unraisablehook

    def report_others(lost: sys.UnraisableHookArgs) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            report(lost)

    sys.unraisablehook = report_others
    try:
        yield
    finally:
        sys.unraisablehook = report


def _imports(frame: FrameType | None) -> int:
    """How many imports are under way in that frame and those that called it."""
    return sum(
        called.f_globals.get("__name__") == "importlib._bootstrap"
        for called, _ in traceback.walk_stack(frame)
    )


@contextmanager
def interrupts_set(event: threading.Event) -> Iterator[None]:
    """Ctrl-C also sets the event, because a KeyboardInterrupt raised in a destructor is lost.

    One is then raised when the block ends, however it ends. During an import it is raised only
    afterwards: pandas, interrupted while it is imported, cannot be used in that process any more.
    Does nothing if Ctrl-C has another meaning.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    is_interrupted, around = False, _imports(inspect.currentframe())
    ended = threading.Event()

    def again() -> None:
        if ended.wait(AFTER_IMPORT_SECONDS):
            return
        if sys.platform == "win32":
            signal.raise_signal(signal.SIGINT)
        else:  # also wakes it from a sleep
            os.kill(os.getpid(), signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        event.set()
        if _imports(frame) > around:
            threading.Thread(target=again, daemon=True).start()
        else:
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        with lost_interrupts_unreported():
            yield
    finally:
        ended.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if is_interrupted and not isinstance(error := sys.exception(), KeyboardInterrupt):
            raise KeyboardInterrupt from error


class StopOnSignal(threading.Event):
    """Context manager for the main thread: an event that the first SIGINT or SIGTERM sets.

    A block that has not asked yet whether it is set would not notice: it may be downloading images.
    The signal then raises KeyboardInterrupt, too, which ends the block quietly; even if a
    destructor swallows that, the event is set. That a database is unavailable is only logged after
    a signal, and ends the block likewise: leases run out by themselves.

    Attributes:
        signal: which one it was; None before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.signal: signal.Signals | None = None
        self._is_watched = False

    def is_set(self) -> bool:
        self._is_watched = True
        return super().is_set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = signal.Signals(number)
        self.set()
        if not self._is_watched:
            raise KeyboardInterrupt

    def __enter__(self) -> StopOnSignal:
        self._undo = ExitStack()
        self._undo.enter_context(lost_interrupts_unreported())
        for number in SIGNALS:
            self._undo.callback(signal.signal, number, signal.signal(number, self._handle))
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> bool:
        self._undo.close()
        if self.signal is None:
            return False
        if not isinstance(error, StorageError):
            return isinstance(error, KeyboardInterrupt)
        from search.store.database import is_transient  # whoever raises it has loaded this

        if is_away := is_transient(error.__cause__):
            _log.warning("%s", error)
        return is_away

    @property
    def exit_code(self) -> int:
        """130 or 143 after a signal, else 0."""
        return 0 if self.signal is None else 128 + self.signal
