"""The number of trials at a time, on devices made up of formulas."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from search.running.packing import MOST, Packing


@dataclass
class Device:
    """Trials advance in turn; `total(n)` slices a second are done in all when n are trained."""

    total: Callable[[int], float]
    lifetime: int = 10**9  # slices of a trial
    cost: Callable[[int], float] = lambda trial: 1 + trial % 5  # of a slice
    now: float = 0.0
    started: int = 0
    ages: dict[int, int] = field(default_factory=dict)

    def run(self, packing: Packing, seconds: float) -> int:
        end = self.now + seconds
        while self.now < end:
            while len(self.ages) < packing.limit:
                self.ages[self.started] = 0
                self.started += 1
            active = packing.active(self.ages)
            trial = next(trial for trial in self.ages if trial in active)
            self.now += self.cost(trial) / self.total(len(active))
            age = self.ages.pop(trial) + 1
            if age == self.lifetime:
                packing.trial_gone()
            else:
                self.ages[trial] = age
                packing.slice_done(trial, self.ages)
        return packing.limit


def packing(device: Device, **options: object) -> Packing:
    return Packing(adapts=True, clock=lambda: device.now, **options)


def up_to(most: int) -> Callable[[int], float]:
    return lambda trials: 500.0 * min(trials, most)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        *((Device(total=up_to(most)), most) for most in (1, 2, 4, 16)),
        (Device(total=up_to(1000)), MOST),
        (Device(total=lambda trials: 500.0 if trials < 4 else 100.0), 1),  # more train less
        # The first is quick, all later ones are slow: the sum of slices would go down.
        (Device(total=up_to(8), cost=lambda trial: 4.0 if trial else 0.4), 8),
        (Device(total=lambda trials: 8 * up_to(8)(trials), lifetime=300), 8),  # short trials
    ],
)
def test_it_finds_how_many_pay(device: Device, expected: int) -> None:
    found = packing(device)
    assert device.run(found, 60) == expected
    assert device.run(found, 60) == expected  # for good


def test_no_more_than_fit() -> None:
    asked = []

    def fits(trials: int, running: int) -> bool:
        asked.append((trials, running))
        return trials <= 4

    device = Device(total=lambda trials: 500.0 * trials)
    assert device.run(packing(device, fits=fits), 60) == 4
    assert asked == [(2, 1), (4, 2), (8, 4)]


def test_out_of_memory_lowers_the_number_for_good() -> None:
    device = Device(total=lambda trials: 500.0 * trials)
    found = packing(device, limit=16)
    found.no_room(11)
    assert found.limit == 11
    assert device.run(found, 10) == 11  # and not 22
    fixed = Packing(limit=3)
    fixed.no_room(0)
    assert fixed.limit == 1


def test_a_number_that_was_given_stays() -> None:
    device = Device(total=lambda trials: 500.0 * trials)
    assert device.run(Packing(limit=3, clock=lambda: device.now), 10) == 3
