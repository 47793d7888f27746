"""Several trials in one process: advanced in turn, and how many of them a device takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field

from search.running.trial import Ending
from search.store.leases import Lease

MOST = 32  # torch has 32 CUDA streams
WORTH_IT = 1.05  # as a factor of what is trained in all
SETTLING_ROUNDS = 2  # what was enqueued before runs out, newcomers record their graphs
MEASURED_ROUNDS = 8
MEASURED_SECONDS = 0.02  # at least


@dataclass(kw_only=True, eq=False)
class Slot:
    """One trial that is held and trained here.

    Attributes:
        training: trains it, a slice for each `next()`; see `search.running.trial.train_trial`.
        keeping: keeps its lease alive until it is closed.
    """

    lease: Lease
    training: Generator[None, None, Ending]
    keeping: ExitStack

    def close(self) -> None:
        """Let go of the trial."""
        self.training.close()
        self.keeping.close()


class Slots:
    """The trials that are trained here, in turn.

    One that ran out of memory beside others waits until those have ended, and is trained alone.
    """

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._running: list[Slot] = []  # in the order of their turns
        self._crowded_out: list[Slot] = []
        self._alone = False
        self._resting_until = 0.0

    def __len__(self) -> int:
        return len(self._running) + len(self._crowded_out)

    def has_room(self) -> bool:
        """Whether to claim one more trial now."""
        if self._crowded_out or self._alone:
            return False
        return len(self._running) < self._packing.limit and time.monotonic() >= self._resting_until

    def rest(self, seconds: float) -> None:
        """Claim nothing for a while, unless a trial held here ends: there is none to be had."""
        self._resting_until = time.monotonic() + seconds

    def add(self, slot: Slot) -> None:
        """Take a trial in."""
        self._running.append(slot)

    def next(self) -> Slot:
        """The trial whose turn it is. There must be one."""
        if not self._running:
            self._running.append(self._crowded_out.pop(0))
            self._alone = True
        active = self._packing.active(self._numbers())
        return next(slot for slot in self._running if slot.lease.trial_number in active)

    def advance(self, slot: Slot) -> Ending | None:
        """Train a slice of the trial: how it ended, if it did, else the turn is the next one's.

        Raises:
            Exception: whatever its training raises; it cannot be advanced any more then.
        """
        try:
            next(slot.training)
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
        slot.close()
        self._alone, self._resting_until = False, 0.0
        self._packing.trial_gone()

    def crowd_out(self, slot: Slot) -> None:
        """The trial gives its place up, to be trained alone."""
        self._running.remove(slot)
        self._crowded_out.append(slot)
        self._packing.no_room(len(self._running))

    def clear(self) -> list[Lease]:
        """Let go of all trials, whose leases are returned."""
        slots = [*self._running, *self._crowded_out]
        for slot in slots:
            slot.close()
        self._running, self._crowded_out = [], []
        return [slot.lease for slot in slots]

    def _numbers(self) -> list[int]:
        return [slot.lease.trial_number for slot in self._running]


@dataclass(kw_only=True)
class Packing:
    """Doubles the number of trials at a time for as long as that increases throughput.

    Trials differ in what a slice of their training costs, so sums of slices say nothing. Compared
    is the time of a round, one slice of each trial: once with all trials at a time, and once with
    one half of them and then the other. It is the same work, however the trials differ. Where
    trials come and go too fast for that, the number stays.

    Args:
        limit: how many at a time, to start with.
        adapts: whether the limit may change.
        fits: tells whether so many trials have room, by what those `running` take.
        clock: seconds.
    """

    limit: int = 1
    adapts: bool = False
    fits: Callable[[int, int], bool] = lambda trials, running: trials >= running
    clock: Callable[[], float] = time.monotonic
    _compared: frozenset[int] = frozenset()
    _groups: list[frozenset[int]] = field(default_factory=list)  # still to be measured
    _round_seconds: list[float] = field(default_factory=list)  # of those that were
    _slices: Counter[int] = field(default_factory=Counter)
    _since: float = 0.0

    def active(self, running: Collection[int]) -> Collection[int]:
        """Which of the running trials have their turns at present."""
        return self._groups[0] if self._groups else running

    def slice_done(self, trial: int, running: Collection[int]) -> None:
        """One of the running trials had its turn."""
        if self.adapts and frozenset(running) != self._compared:
            self.trial_gone()
            if len(running) == self.limit:
                self._compared = frozenset(running)
                some = frozenset(sorted(running)[::2])
                halves = [some, self._compared - some] if self.limit > 1 else []
                self._groups = [self._compared, *halves]
        if not self._groups:
            return
        self._slices[trial] += 1
        rounds = min(self._slices[other] for other in self._groups[0]) - SETTLING_ROUNDS
        if rounds <= 0:
            self._since = self.clock()
            return
        seconds = self.clock() - self._since
        if rounds >= MEASURED_ROUNDS and seconds >= MEASURED_SECONDS:
            self._round_seconds.append(seconds / rounds)
            self._groups.pop(0)
            self._slices.clear()
            if not self._groups:
                self._judge()

    def trial_gone(self) -> None:
        """A trial has ended, or found no room: what is being measured is void."""
        self._compared, self._groups, self._round_seconds = frozenset(), [], []
        self._slices.clear()

    def no_room(self, running: int) -> None:
        """A trial found no memory beside `running` others: no more than those from now on."""
        self.limit, self.adapts = max(1, min(running, self.limit)), False
        self.trial_gone()

    def _judge(self) -> None:
        together, *halves = self._round_seconds
        if halves and sum(halves) / together < WORTH_IT:
            self.limit, self.adapts = self.limit // 2, False
        elif self.limit * 2 <= MOST and self.fits(self.limit * 2, self.limit):
            self.limit *= 2
        else:
            self.adapts = False
