import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from search.sampling.choosing import is_hopeless
from search.sampling.halving import (
    HalvingPruner,
    best_first,
    is_rung,
    losses_at_rungs,
    rungs,
    worth_continuing,
)
from search.spec.space import OVERRIDES
from search.store.history import Standing


def test_rungs() -> None:
    assert [epoch for epoch in range(20) if is_rung(epoch)] == [0, 1, 2, 4, 8, 16]
    assert rungs(16) == [0, 1, 2, 4, 8]


@pytest.mark.parametrize(
    ("epoch", "value", "rivals", "goes_on"),
    [
        (4, 9.0, [], True),
        (4, 9.0, [1.0], True),  # too few to tell
        (4, 1.0, [1.0, 2.0], True),  # the first of three, if not alone
        (4, 1.1, [1.0, 2.0], False),
        (1, 1.1, [1.0, 2.0, 3.0], True),  # the second of four: a third of them, rounded up
        (1, 2.1, [1.0, 2.0, 3.0], False),
        (4, 1.1, [1.0, 2.0, 3.0, 4.0], False),  # a fifth of them
        (4, 1.1, [1.0, 2.0, 3.0, 4.0, 5.0], True),
        (2, 1.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], True),  # the second of seven: a quarter
        (2, 2.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], False),
        (0, 3.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], True),  # the fourth of seven: half of them
        (0, 4.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], False),
        (4, 2.1, [1.0, math.nan, math.inf], True),  # those are no rivals
        (4, math.nan, [], False),
        (4, math.inf, [], False),
    ],
)
def test_worth_continuing(epoch: int, value: float, rivals: list[float], goes_on: bool) -> None:
    assert worth_continuing(epoch, value, rivals) is goes_on


def pruned_at(curve: list[float], others: dict[int, list[float]], **attributes: object) -> int:
    """The step at which a trial with these losses is stopped; -1 if it never is."""

    def standing_at(trial_id: int, epoch: int) -> Standing:
        best, rivals = min(curve[: epoch + 1]), others.get(epoch, [])
        better = sum(rival < best for rival in rivals)
        assert trial_id == trial._trial_id
        return Standing(loss=best, rivals=len(rivals), better=better)

    study = optuna.create_study(pruner=HalvingPruner(standing_at))
    study.enqueue_trial({}, user_attrs=attributes)
    trial = study.ask()
    for step, loss in enumerate(curve):
        trial.report(loss, step)
        hopeless = is_hopeless(study, trial._trial_id, step)
        assert trial.should_prune() is hopeless
        if hopeless:
            return step
    return -1


def test_the_worse_ones_stop_at_a_rung() -> None:
    others = {0: [2.0, 2.0], 1: [1.0, 1.0], 2: [0.5, 0.5], 4: [0.2, 0.2]}
    assert pruned_at([3.0], others) == 0
    assert pruned_at([1.0, 1.5], others) == -1  # its best so far, 1.0, was early
    assert pruned_at([2.0, 1.5], others) == 1
    assert pruned_at([2.0, 1.0, 0.9], others) == 2
    assert pruned_at([2.0, 1.0, 0.5, 0.4, 0.3], others) == 4
    assert pruned_at([2.0, 1.0, 0.5, 9.0, 0.1], others) == -1  # epoch 3 is no rung


def test_the_baseline_runs_to_its_end() -> None:
    others = {step: [0.0, 0.0, 0.0] for step in range(10)}
    assert pruned_at([3.0] * 9, others) == 0
    assert pruned_at([3.0] * 9, others, **{OVERRIDES: {}}) == -1


def ended(state: TrialState, losses: dict[int, float], value: float | None = None) -> list[float]:
    trial = create_trial(state=state, value=value, intermediate_values=losses)
    return losses_at_rungs(trial, [0, 1, 2, 4])


def test_losses_at_rungs_are_the_lowest_so_far() -> None:
    complete, pruned = TrialState.COMPLETE, TrialState.PRUNED
    losses = {0: 3.0, 1: 2.0, 2: 2.5, 3: 1.0, 4: 1.5, 5: 0.5}
    assert ended(complete, losses, 0.5) == [3.0, 2.0, 2.0, 1.0, 0.5]
    np.testing.assert_array_equal(
        ended(pruned, {0: 3.0, 1: 4.0}), [3.0, 3.0, math.nan, math.nan, math.nan]
    )
    # Out of patience after two epochs: nobody made it stop.
    assert ended(complete, {0: 3.0, 1: 2.0, 2: 2.5}, 2.0) == [3.0, 2.0, 2.0, 2.0, 2.0]
    assert ended(pruned, {0: math.nan})[0] == math.inf
    assert all(map(math.isnan, ended(pruned, {})))


def test_the_order_is_that_of_the_rungs() -> None:
    """At rung 1 a third of the five go on, rounded up; at rung 2 a third of those two."""
    nan = math.nan
    losses_TR = np.array(
        [
            [5.0, 0.1, 0.1],  # completed for want of rivals, though bad at rung 1
            [1.0, 0.9, nan],  # stopped at rung 2
            [2.0, 0.8, 0.5],
            [3.0, 0.7, 0.4],  # would now be stopped at rung 1
            [4.0, nan, nan],
            [nan, nan, nan],  # never reported
        ]
    )
    assert best_first(losses_TR, [1, 2]).tolist() == [2, 1, 3, 4, 0, 5]


def test_where_all_complete_the_last_value_decides_among_the_survivors() -> None:
    losses_TR = np.array([[2.0, 0.3], [1.0, 0.4], [3.0, 0.1], [4.0, 0.2]])
    assert best_first(losses_TR, [1]).tolist() == [0, 1, 2, 3]
    assert best_first(losses_TR[:, 1:], []).tolist() == [2, 3, 0, 1]
    assert best_first(np.empty((0, 2)), [1]).tolist() == []
