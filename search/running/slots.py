"""The trials that one process trains at a time: advanced in turn, each by a slice."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from optuna.trial import TrialState

from search.running.packing import Packing
from search.store.leases import Lease

Ending = tuple[TrialState, str | None]  # for a failed trial with the reason
# Trains one trial: a slice for each `next()`, its ending as the value at the end.
Course = Generator[None, None, Ending]


class CrowdedError(Exception):
    """A trial ran out of memory; it was not alone on the device, so that may not be its fault."""


@dataclass(kw_only=True, eq=False)
class Slot:
    """One trial that is held and trained here.

    Attributes:
        start: begins the trial's course, or takes it up where its checkpoint is.
        keeping: what is held for as long as the trial is: its lease, kept alive.
    """

    lease: Lease
    start: Callable[[], Course]
    keeping: ExitStack
    course: Course = field(init=False)

    def __post_init__(self) -> None:
        self.course = self.start()


class Slots:
    """Trials that are trained here, in the order of their turns.

    A trial that ran out of memory beside others gives its place up, waits until all of those have
    ended, and is then trained alone.
    """

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._running: list[Slot] = []  # in the order of their turns
        self._crowded_out: deque[Slot] = deque()
        self._alone = False
        self._resting_until = 0.0

    def __len__(self) -> int:
        return len(self._running) + len(self._crowded_out)

    @property
    def leases(self) -> list[Lease]:
        """Of all trials held here."""
        return [slot.lease for slot in (*self._running, *self._crowded_out)]

    def has_room(self) -> bool:
        """Whether to claim one more trial now."""
        if self._crowded_out or self._alone:
            return False
        return len(self._running) < self._packing.limit and time.monotonic() >= self._resting_until

    def rest(self, seconds: float) -> None:
        """Claim nothing for a while, unless a trial held here ends: there is none to be had."""
        self._resting_until = time.monotonic() + seconds

    def add(
        self, lease: Lease, start: Callable[[], Course], kept: AbstractContextManager[None]
    ) -> None:
        """Take a trial in; `kept` is entered here, and left when the trial is let go of."""
        keeping = ExitStack()
        keeping.enter_context(kept)
        self._running.append(Slot(lease=lease, start=start, keeping=keeping))

    def next(self) -> Slot:
        """The trial whose turn it is. There must be one."""
        if not self._running:
            self._running.append(self._crowded_out.popleft())
            self._alone = True
        active = self._packing.active(self._numbers())
        return next(slot for slot in self._running if slot.lease.trial_number in active)

    def advance(self, slot: Slot) -> Ending | None:
        """Train a slice of the trial: how it ended, if it did, else the turn is the next one's.

        Raises:
            Exception: whatever the trial's course raises; it cannot be advanced any more then.
        """
        try:
            next(slot.course)
        except StopIteration as ended:
            ending: Ending = ended.value
            return ending
        self._running.remove(slot)
        self._running.append(slot)
        self._packing.slice_done(slot.lease.trial_number, self._numbers())
        return None

    def is_alone(self) -> bool:
        """Whether the trial that is being advanced has the device to itself."""
        return len(self._running) == 1

    def remove(self, slot: Slot) -> None:
        """Let go of a trial; its place is free at once."""
        self._running.remove(slot)
        _let_go(slot)
        self._alone = False
        self._resting_until = 0.0
        self._packing.trial_gone()

    def crowd_out(self, slot: Slot) -> None:
        """The trial gives its place up, to be started again alone."""
        self._running.remove(slot)
        slot.course = slot.start()
        self._crowded_out.append(slot)
        self._packing.no_room(len(self._running))

    def clear(self) -> None:
        """Let go of all trials."""
        for slot in (*self._running, *self._crowded_out):
            _let_go(slot)
        self._running.clear()
        self._crowded_out.clear()

    def _numbers(self) -> list[int]:
        return [slot.lease.trial_number for slot in self._running]


def _let_go(slot: Slot) -> None:
    slot.course.close()
    slot.keeping.close()
