"""The halving rule, and pruners of every kind asked after the epochs of stored trials."""

import math
from collections.abc import Mapping
from itertools import pairwise

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from search.sampling.chooser import should_prune
from search.sampling.halving import expected_epochs, rule, rungs
from search.sampling.registry import PRUNERS, Pruner, find_pruner
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.space import OVERRIDES
from search.store.claims import claim
from search.store.database import Database
from search.store.leases import Lease, finish
from search.store.studies import StudyHandle
from tests.search.worker_processes import report


def test_rungs_and_how_far_trials_get() -> None:
    assert rungs(20) == [0, 1, 2, 4, 8, 16]
    assert rungs(16) == [0, 1, 2, 4, 8]  # after the last epoch none is stopped
    assert 2.5 < expected_epochs(10) < 4  # 3.1 measured, on Fashion-MNIST
    for entry in PRUNERS.values():
        expected = [entry.expected_epochs(epochs) for epochs in (1, 2, 10, 100)]
        assert all(early <= late for early, late in pairwise(expected))
        assert 0 < expected[0] <= 1


@pytest.mark.parametrize(
    ("epoch", "loss", "rivals", "goes_on"),
    [
        (4, 9.0, [], True),
        (4, 9.0, [1.0], True),  # too few to tell
        (4, 1.0, [1.0, 2.0], True),  # tied for first of three
        (4, 1.1, [1.0, 2.0], False),
        (1, 1.1, [1.0, 2.0, 3.0], True),  # the second of four: a third of them, rounded up
        (1, 2.1, [1.0, 2.0, 3.0], False),
        (4, 1.1, [1.0, 2.0, 3.0, 4.0], False),  # a fifth of them
        (4, 1.1, [1.0, 2.0, 3.0, 4.0, 5.0], True),
        (2, 1.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], True),  # the second of seven: a quarter
        (2, 2.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], False),
        (0, 3.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], True),  # the fourth of seven: half of them
        (0, 4.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], False),
        (4, 2.1, [1.0, math.nan, math.inf], True),  # those do not count as rivals
        (4, math.nan, [], False),
        (4, math.inf, [], False),
    ],
)
def test_the_rule_of_halving(epoch: int, loss: float, rivals: list[float], goes_on: bool) -> None:
    assert rule(epoch, loss, rivals) is not goes_on


losses = st.floats(0.01, 10)


@given(st.sampled_from(rungs(100)), losses, st.lists(losses), losses)
def test_halving_is_fair(epoch: int, loss: float, rivals: list[float], other: float) -> None:
    """The best always continues, and so does any trial better than one that continues."""
    assert not rule(epoch, min([loss, *rivals]), rivals)
    if not rule(epoch, loss, rivals) and other <= loss:
        assert not rule(epoch, other, rivals)


Curve = Mapping[int, float]


def train(
    db: Database, spec: StudySpec, curves: list[Curve], study: StudyHandle
) -> list[int | None]:
    """Reports each curve until the trial is stopped; returns the epochs after which that was."""
    stopped: list[int | None] = []
    for curve in curves:
        lease = claim(study, total=100)
        assert isinstance(lease, Lease)
        found = None
        for epoch, loss in curve.items():
            report(db, lease, epoch, loss)
            if should_prune(study, spec, lease, epoch):
                found = epoch
                break
        state = TrialState.COMPLETE if found is None else TrialState.PRUNED
        value = min(curve.values()) if found is None else None
        finish(study, lease, state=state, value=value)
        stopped.append(found)
    return stopped


def flat(loss: float) -> Curve:
    return dict.fromkeys(range(6), loss)


def test_halving_stops_all_but_the_best_at_a_rung(db: Database, study: StudyHandle) -> None:
    spec = spec_of("halving")
    curves = [flat(1.0), flat(2.0), flat(3.0), flat(1.5), flat(0.5)]
    late = {0: 1.2, 1: 1.2, 2: 1.2, 3: 0.1, 4: 1.2, 5: 1.2}  # its lowest counts, of epoch 3
    assert train(db, spec, [*curves, late], study) == [None, None, 0, 1, None, 1]
    study.study.enqueue_trial({}, user_attrs={OVERRIDES: {}})
    assert train(db, spec, [flat(9.0)], study) == [None]  # the baseline runs to its end


def test_optunas_median_and_none(db: Database, study: StudyHandle) -> None:
    curves = [*(flat(float(loss)) for loss in range(1, 6)), flat(9.0)]
    assert train(db, spec_of("median"), curves, study) == [None] * 5 + [1]
    assert train(db, spec_of("none"), [flat(99.0)], study) == [None]


def spec_of(pruner: str) -> StudySpec:
    return StudySpec(dataset="digits", epochs=5, pruner=pruner)


def test_a_custom_rule_and_any_optuna_pruner(
    db: Database, study: StudyHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Pruner(
        description="a test's",
        make=lambda _spec: lambda _epoch, loss, rivals: bool(rivals) and loss > max(rivals),
        rungs=lambda _epochs: [3],
    )
    optunas = Pruner(
        description="a test's",
        make=lambda _spec: optuna.pruners.ThresholdPruner(upper=5.0),
    )
    monkeypatch.setitem(PRUNERS, "own", own)
    monkeypatch.setitem(PRUNERS, "optunas", optunas)
    assert train(db, spec_of("own"), [flat(1.0), flat(2.0), flat(1.5)], study) == [None, 3, None]
    assert train(db, spec_of("optunas"), [flat(9.0), flat(4.0)], study) == [1, None]


def test_a_rule_that_forgets_its_answer_is_an_error(
    db: Database, study: StudyHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetful = Pruner(description="", make=lambda _: lambda *_: None)  # type: ignore[return-value]
    monkeypatch.setitem(PRUNERS, "own", forgetful)
    with pytest.raises(TypeError, match="pruner 'own' must return True or False, but got None"):
        train(db, spec_of("own"), [flat(1.0)], study)


def test_the_error_for_an_unknown_pruner_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="one of halving, median, none, promotion, but got 'best'"):
        find_pruner("best")
