"""Warm starts: the best first, weak evidence that fades, and little harm by a misleading study."""

import random

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial

from search.sampling.earlier import KEPT, standardised
from search.sampling.sampler import make_sampler
from search.sampling.warm_start import FIRST, SHOWN, TRUST, Evidence
from search.spec.earlier import Earlier, Params, adapted
from search.spec.parameters import read_parameter
from search.spec.space import distributions, suggest
from tests.search.sampling.test_sampler import final_loss, spec_of

SPEC = spec_of("gp")
SPACE = distributions(SPEC)


def earlier(sign: float = 1.0, count: int = 40) -> Earlier:
    """A study of random trials on the same problem, or on its opposite."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [study.ask(SPACE).params for _ in range(count)]
    ends = [(params, sign * float(np.log(final_loss(params)))) for params in drawn]
    return Earlier(
        source="old",
        data="digits",
        objective="validation_loss",
        best=None,
        configurations=standardised(ends),
    )


def own(count: int) -> list[FrozenTrial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    for _ in range(count):
        trial = study.ask(SPACE)
        study.tell(trial, np.log(final_loss(trial.params)))
    return study.trials


def test_every_other_of_the_first_trials_is_one_of_the_best_that_are_not_alike() -> None:
    known = earlier()
    best = known.configurations[0][0]
    double = {**best, "dropout": 0.9 * best["dropout"] + 0.01}
    pairs = (known.configurations[0], (double, -9.0), *known.configurations[1:])
    evidence = Evidence([Earlier(**{**known.to_dict(), "configurations": pairs})], SPACE)
    first = evidence.first(trials=50)
    assert first[0] == double
    assert best not in first
    assert len(first) == FIRST
    assert evidence.first(trials=10) == [double]
    given = [evidence.given(place, 50, []) for place in range(2 * FIRST + 4)]
    assert given == [
        double if 2 <= place <= 2 * FIRST and place % 2 == 0 else None
        for place in range(2 * FIRST + 4)
    ]
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(params=double, distributions=SPACE, value=0.1))
    assert evidence.given(4, 50, study.trials) == first[1]
    bad = Evidence([earlier(sign=-1.0)], SPACE)
    assert bad.given(4, 50, own(5)) is None
    study = optuna.create_study(sampler=make_sampler(SPEC, earlier=[known]))
    for _ in range(3):
        suggest(study.ask(), SPEC)
    assert study.trials[2].params == best


def test_evidence_fades_and_a_misleading_study_is_soon_forgotten() -> None:
    good, bad = Evidence([earlier()], SPACE), Evidence([earlier(sign=-1.0)], SPACE)

    def shown(evidence: Evidence, count: int) -> list[tuple[Params, float]]:
        return evidence.shown_beside(own(count), evidence.trust(own(count)))

    assert len(shown(good, 0)) == len(shown(bad, 0)) == TRUST * SHOWN
    assert len(shown(good, 5)) > 9
    assert 0 < len(shown(good, SHOWN - 5)) < 6
    assert not shown(good, SHOWN)
    assert not shown(bad, 5)
    # In the study's own unit: what is shown of a study on the same problem fits its own trials.
    errors = [value - np.log(final_loss(dict(params))) for params, value in shown(good, 8)]
    assert np.mean(np.abs(errors)) < 0.5


@pytest.mark.parametrize(("sign", "factor"), [(1.0, 0.85), (-1.0, 1.2)])
def test_it_finds_more_in_a_few_trials_and_loses_little_if_misled(
    sign: float, factor: float
) -> None:
    def lowest(known: list[Earlier], seed: int) -> float:
        spec = spec_of("tpe", seed)
        study = optuna.create_study(sampler=make_sampler(spec, None, earlier=known))
        for number in range(12):
            trial = study.ask()
            suggest(trial, spec)
            end = final_loss(trial.params, random.Random(number).gauss(0, 0.02))
            trial.report(end, 2)
            study.tell(trial, end)
        return float(np.log(study.best_value / 0.3))

    warm, cold = (np.mean([lowest(known, s) for s in range(4)]) for known in ([earlier(sign)], []))
    assert warm < factor * cold


def test_at_most_some_of_a_long_study_are_kept() -> None:
    kept = standardised([({"x": place}, float(place)) for place in range(500)])
    assert len(kept) == KEPT
    assert [params["x"] for params, _ in kept[:15]] == list(range(15))
    assert kept[-1][0]["x"] == 499


def test_values_of_another_space() -> None:
    space = {
        "depth": {"low": 2, "high": 4},
        "width": {"low": 16, "high": 32, "step": 8},
        "weight_decay_kind": ["none", "coupled"],
    }
    spec = spec_of("gp")
    read = {name: read_parameter(name, one) for name, one in space.items()}
    spec = type(spec)(dataset="digits", space=read)
    values = {"family": "cnn", "depth": 3, "width": 24, "weight_decay_kind": "none", "dropout": 0.3}
    assert adapted(values, spec) == ({"depth": 3, "width": 24, "weight_decay_kind": "none"}, False)
    moved = adapted({**values, "depth": 9, "width": 17}, spec)
    assert moved == ({"depth": 4, "width": 16, "weight_decay_kind": "none"}, True)
    assert adapted({**values, "weight_decay_kind": "decoupled"}, spec) is None
    assert adapted({**values, "family": "mlp"}, spec) is None
