"""How many trials one process trains at a time: as many as increase throughput."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

MOST = 32  # torch has 32 CUDA streams
WORTH_IT = 1.05  # as a factor of what is trained in all
SETTLING_ROUNDS = 2  # what was enqueued before runs out, newcomers record their graphs
MEASURED_ROUNDS = 8
MEASURED_SECONDS = 0.02  # at least


@dataclass(kw_only=True)
class Packing:
    """Doubles the number of trials at a time for as long as that increases throughput.

    Trials differ in what a slice of their training costs, so sums of slices say nothing. Compared
    is the time of a round, one slice of each trial: once with all trials at a time, and once with
    one half of them and then the other. It is the same work, however the trials differ. Where
    trials come and go too fast for that, the number stays.

    Args:
        limit: how many at a time, to start with.
        adapts: whether the limit may grow.
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
