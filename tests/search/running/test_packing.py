"""The number of trials at a time, on devices made up of formulas."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from search.running.slots import MOST, Packing


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


@pytest.mark.parametrize(
    ("most_that_pay", "expected"), [(1, 1), (2, 2), (4, 4), (16, 16), (1000, MOST)]
)
def test_it_finds_how_many_pay(most_that_pay: int, expected: int) -> None:
    device = Device(total=lambda trials: 500.0 * min(trials, most_that_pay))
    assert device.run(packing(device), 60) == expected


def test_more_that_train_less_are_given_up() -> None:
    device = Device(total=lambda trials: 500.0 if trials < 4 else 100.0)
    found = packing(device)
    assert device.run(found, 60) == 1
    assert device.run(found, 60) == 1  # for good


def test_trials_of_different_cost_do_not_mislead_it() -> None:
    """The first is quick, all later ones are ten times as slow: the sum of slices would go down."""
    device = Device(
        total=lambda trials: 2000.0 * min(trials, 8), cost=lambda trial: 10.0 if trial else 1.0
    )
    assert device.run(packing(device), 60) == 8


def test_no_more_than_fit() -> None:
    asked = []

    def fits(trials: int, running: int) -> bool:
        asked.append((trials, running))
        return trials <= 4

    device = Device(total=lambda trials: 500.0 * trials)
    assert device.run(packing(device, fits=fits), 60) == 4
    assert asked == [(2, 1), (4, 2), (8, 4)]


def test_short_trials_do_not_stop_it_from_deciding() -> None:
    device = Device(total=lambda trials: 4000.0 * min(trials, 8), lifetime=300)
    assert device.run(packing(device), 60) == 8


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
