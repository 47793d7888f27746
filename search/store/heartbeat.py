"""Leases kept alive from a thread of their own, for as long as this process lives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from search.store.leases import Lease, renew
from search.store.storage import Database, StudyGoneError

_log = logging.getLogger(__name__)
_AGAIN_SECONDS = 1.0  # after a database error
_LOOK_SECONDS = 1.0  # at most so long after the host was asleep, leases are renewed
# Goes on while the host sleeps, as leases do: Linux has a clock of its own for it, on macOS it is
# the monotonic one (and not what `time.monotonic` reads).
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _now() -> float:
    return time.clock_gettime(_CLOCK)


class Heartbeat:
    """Context manager that renews each lease three times in its duration.

    No database error ends it. A lease is given up only on the database's own word that it is in
    other hands: until then it is good, run out or not.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._due: dict[Lease, float] = {}  # by _now()
        self._lost: set[Lease] = set()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(timeout=1.0)  # no longer: it may be waiting for the database

    @contextmanager
    def keep(self, lease: Lease) -> Iterator[None]:
        """Renew a lease while the `with` block runs. Any number may be kept at a time."""
        with self._changed:
            self._due[lease] = _now() + lease.seconds / 3
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(lease, None)
                self._lost.discard(lease)

    def lost(self, lease: Lease) -> bool:
        """Whether a lease that is kept is in other hands, so that training on is of no use."""
        with self._changed:
            return lease in self._lost

    def _run(self) -> None:
        while (lease := self._next()) is not None:
            try:
                held = renew(self._db, lease)
                pause = lease.seconds / 3
            except StudyGoneError:
                held, pause = False, 0.0
            except Exception as error:  # whatever it was, the next beat may succeed
                _log.warning("cannot renew the lease of trial %d: %s", lease.trial_number, error)
                held, pause = True, _AGAIN_SECONDS
            with self._changed:
                if lease not in self._due:
                    continue  # given up meanwhile
                if held:
                    self._due[lease] = _now() + pause
                else:
                    del self._due[lease]
                    self._lost.add(lease)

    def _next(self) -> Lease | None:
        """Wait until a lease is due; None at the end."""
        with self._changed:
            while not self._ended:
                lease = min(self._due, key=self._due.__getitem__, default=None)
                pause = None if lease is None else self._due[lease] - _now()
                if pause is not None and pause <= 0:
                    return lease
                # A wait goes by a clock that sleeps with the host.
                self._changed.wait(None if pause is None else min(pause, _LOOK_SECONDS))
            return None
