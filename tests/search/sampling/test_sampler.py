"""Samples: the same after a restart, in the space, better than random, using unfinished trials."""

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import insert

from search.sampling.chooser import Contenders
from search.sampling.priors import prior_for
from search.sampling.registry import SAMPLERS, STARTUP_TRIALS, Sampler
from search.sampling.sampler import StudySampler
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.parameters import read_parameter
from search.spec.space import suggest
from search.store.claims import claim
from search.store.database import transaction
from search.store.leases import Lease, finish, release, sample
from search.store.opening import open_database
from search.store.schema import trial_user_attributes
from search.store.studies import StudyHandle, find_study, require_study
from tests.search.long_studies import SPEC, fill
from tests.search.sampling.test_forecast import prior_file

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "depth": {"low": 1, "high": 4},
    "width": {"low": 8, "high": 64, "step": 8},
    "dropout": {"low": 0.0, "high": 0.5},
    "weight_decay_kind": ["none", "coupled", "decoupled"],
}


def spec_of(sampler: str, seed: int = 0, epochs: int = 2) -> StudySpec:
    space = {name: read_parameter(name, written) for name, written in SPACE.items()}
    return StudySpec(dataset="digits", space=space, sampler=sampler, seed=seed, epochs=epochs)


def final_loss(params: dict[str, object], noise: float = 0.0) -> float:
    """A made-up loss, lowest (0.3) in the interior of the space."""
    rate, depth, width, dropout = (
        float(params[name])  # type: ignore[arg-type]
        for name in ("learning_rate", "depth", "width", "dropout")
    )
    away = (math.log10(rate) + 2.5) ** 2 + (depth - 3) ** 2 / 4 + (width - 48) ** 2 / 900
    kinds = {"none": 0.3, "coupled": 0.0, "decoupled": 0.5}
    away += (2 * dropout - 0.25) ** 2 + kinds[str(params["weight_decay_kind"])]
    return 0.3 * math.exp(away / 4 + noise)


def search(spec: StudySpec, trials: int, restart_every: int = 1000) -> optuna.Study:
    """Trials are stopped after their first epoch unless they are among the best third."""
    study = optuna.create_study()
    firsts: list[float] = []
    for number in range(trials):
        if number % restart_every == 0:
            study.sampler = StudySampler(spec, prior_for(spec.dataset))
        trial = study.ask()
        suggest(trial, spec)
        trial.set_user_attr("parameters", trial.params["width"])
        end = final_loss(trial.params, random.Random(number).gauss(0, 0.02))
        trial.report(1.5 * end, 1)
        goes_on = sum(first < end for first in firsts) <= len(firsts) / 3
        firsts.append(end)
        if goes_on:
            trial.report(end, 2)
            study.tell(trial, end)
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return study


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random"])
def test_a_restart_changes_no_proposal(sampler: str) -> None:
    whole, restarted, other = (
        [trial.params for trial in search(spec, 13, restart_every).trials]
        for spec, restart_every in (
            (spec_of(sampler, seed=7), 1000),
            (spec_of(sampler, seed=7), 4),
            (spec_of(sampler, seed=8), 1000),
        )
    )
    assert restarted == whole
    assert len({str(params) for params in whole}) == 13
    assert not any(params in whole for params in other)


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_samplers_learn_from_trials_that_were_stopped(sampler: str) -> None:
    """Means of two studies with equal random starts, compared with random search."""
    ours, chance = (
        sum(search(spec_of(name, seed), 20).best_value for seed in range(2)) / 2
        for name in (sampler, "random")
    )
    assert ours < chance


@pytest.mark.parametrize(("sampler", "trials"), [("gp", 13), ("tpe", 18)])
def test_a_study_that_also_minimises_size_samples_smaller_networks(
    sampler: str, trials: int
) -> None:
    spec = spec_of(sampler)
    usual, small = (
        np.mean([it.params["width"] for it in search(one, trials).trials[10:]])
        for one in (spec, replace(spec, minimize_also="parameters"))
    )
    assert small < usual - 8


def test_half_the_first_proposals_are_what_was_good_on_other_data_sets(tmp_path: Path) -> None:
    file = prior_file(tmp_path, -1.0, feature="depth")
    depths: dict[int, list[int]] = {0: [], 1: []}
    for seed in range(4):
        study = optuna.create_study(sampler=StudySampler(spec_of("tpe", seed), file))
        for number in range(10):
            trial = study.ask()
            suggest(trial, spec_of("tpe", seed))
            depths[number % 2].append(trial.params["depth"])
    assert np.mean(depths[1]) > 3.7
    assert len(set(depths[0])) > 2


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[FrozenTrial]:
    """What the sampler "watching" was shown for its latest proposal."""
    found: list[FrozenTrial] = []

    class Watching(RandomSampler):
        def infer_relative_search_space(self, study, trial):  # type: ignore[no-untyped-def]
            found[:] = [other for other in study.trials if other.number != trial.number]
            return {}

    watching = Sampler(description="", make=lambda _, seed: Watching(seed=seed), untried=25)
    monkeypatch.setitem(SAMPLERS, "watching", watching)
    return found


def test_the_study_in_memory_holds_what_is_known_about_others(seen: list[FrozenTrial]) -> None:
    spec = spec_of("watching")
    study = optuna.create_study(sampler=RandomSampler(seed=0))

    def add(state: str, losses: dict[int, float], **attributes: object) -> None:
        study.enqueue_trial({}, user_attrs=attributes)
        trial = study.ask()
        suggest(trial, spec_of("random"))
        for epoch, loss in losses.items():
            trial.report(loss, epoch)
        if state != "RUNNING":
            value = min(losses.values()) if state == "COMPLETE" else None
            study.tell(trial, value, TrialState[state])

    add("RUNNING", {})
    add("COMPLETE", {1: 0.9, 2: 0.6})
    add("FAIL", {1: 0.9, 2: 0.6})
    add("PRUNED", {1: 0.7})
    add("PRUNED", {})
    add("RUNNING", {1: 0.8})
    add("COMPLETE", {1: 0.9, 2: 0.6}, overrides={"learning_rate": 2.0})  # not in the space
    add("FAIL", {})
    study.sampler = StudySampler(spec, None)
    suggest(study.ask(), spec)
    assert [trial.params for trial in seen] == [study.trials[n].params for n in (0, 1, 3, 5)]
    assert [trial.state.name for trial in seen] == ["RUNNING"] + 3 * ["COMPLETE"]
    ended, stopped, running = (trial.value or 0.0 for trial in seen[1:])
    assert ended == pytest.approx(math.log(0.6))
    assert stopped < math.log(0.7)  # each is expected to fall as the one that has ended did
    assert running < math.log(0.8)


STRENGTH = {"augmentation": "flip-crop", "augmentation_strength": {"low": 0.1, "high": 0.6}}


@pytest.mark.parametrize(
    ("also", "feature", "name", "shown"),
    [
        ({}, "depth", "depth", 25),
        (STRENGTH, "flip-crop", "augmentation_strength", 25),
        ({"batch_size": [32, 64]}, "depth", "depth", 0),
    ],
)
def test_the_sampler_is_shown_what_other_data_sets_say_about_untried_points(
    seen: list[FrozenTrial],
    tmp_path: Path,
    also: dict[str, object],
    feature: str,
    name: str,
    shown: int,
) -> None:
    """Only if they know all parameters: unknown ones would seem not to matter."""
    space = {key: read_parameter(key, written) for key, written in (SPACE | also).items()}
    spec = replace(spec_of("watching"), space=space)
    study = optuna.create_study(
        sampler=StudySampler(spec, prior_file(tmp_path, -1.0, feature=feature))
    )
    for _ in range(STARTUP_TRIALS + 1):
        study.enqueue_trial({"depth": 2})
        trial = study.ask()
        suggest(trial, spec)
        trial.report(0.5, spec.epochs)
        study.tell(trial, 0.5)
    assert len(seen) == STARTUP_TRIALS + shown
    if untried := seen[STARTUP_TRIALS:]:
        found, values = zip(*((one.params[name], one.value) for one in untried), strict=True)
        assert np.corrcoef(found, values)[0, 1] < -0.8


def test_the_error_for_an_unknown_sampler_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="one of gp, tpe, random, grid, but got 'best'"):
        StudySampler(spec_of("best"), None)


def begin(study: StudyHandle, spec: StudySpec = SPEC) -> Lease:
    lease = claim(study, total=10**6)
    assert isinstance(lease, Lease)
    sample(study, lease, lambda trial: suggest(trial, spec))
    return lease


@pytest.mark.parametrize("also", [None, "parameters"])
def test_proposals_from_our_tables_equal_those_from_optunas_full_study(
    tmp_path: Path, also: str | None
) -> None:
    spec = replace(SPEC, sampler="tpe", minimize_also=also)
    drawn = []
    for name in ("tables", "optuna"):
        db, study = fill(tmp_path / f"{name}.db", 40, spec)
        told = [(1, "parameters", "700"), (2, "overrides", '{"learning_rate": 0.5}')]
        with transaction(db) as connection:  # of trials that have ended
            columns = ("trial_id", "key", "value_json")
            rows = [dict(zip(columns, row, strict=True)) for row in told]
            connection.execute(insert(trial_user_attributes), rows)
        failed = begin(study, spec)
        finish(study, failed, state=TrialState.FAIL)
        contenders = Contenders(study, spec)
        by_tables = {"begun": lambda db=db, of=contenders: of.begun(db.connection)}
        study.study.sampler = StudySampler(spec, None, **(by_tables if name == "tables" else {}))
        leases = [begin(study, spec) for _ in range(3)]
        drawn.append([db.optuna.get_trial(lease.trial_id).params for lease in leases])
        db.close()
    assert drawn[0] == drawn[1]
    assert len({str(params) for params in drawn[0]}) == 3


def test_values_outside_the_space_are_replaced_independently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of each other, by the custom sampler that proposed them."""

    class Astray(RandomSampler):
        def sample_relative(self, *_):  # type: ignore[no-untyped-def]
            return {"learning_rate": 1.0, "dropout": 0.9}

    entry = Sampler(description="", make=lambda _, seed: Astray(seed=seed), on_estimates=False)
    monkeypatch.setitem(SAMPLERS, "astray", entry)
    (trial,) = search(spec_of("astray"), 1).trials
    quantiles = (math.log10(trial.params["learning_rate"]) + 4) / 3, trial.params["dropout"] / 0.5
    assert all(0 <= it <= 1 for it in quantiles)
    assert quantiles[0] != pytest.approx(quantiles[1])


def test_trials_taken_over_without_parameters_and_queued_ones(tmp_path: Path) -> None:
    db, study = fill(tmp_path / "studies.db", 30)
    dead = claim(study, total=10**6)
    assert isinstance(dead, Lease)
    release(db, dead)
    optuna.load_study(study_name="s", storage=db.optuna).enqueue_trial({"dropout": 0.125})
    again = find_study(db, "s")  # as by a process that never read them
    assert again is not None
    again.study.sampler = StudySampler(SPEC, prior_for(SPEC.dataset))
    leases = [begin(again), begin(again)]
    assert [lease.trial_number for lease in leases] == [30, 31]
    params = [db.optuna.get_trial(lease.trial_id).params for lease in leases]
    assert params[0].keys() == params[1].keys() == SPEC.space.keys()
    assert params[1]["dropout"] == 0.125
    db.close()


@pytest.mark.parametrize("samples", [False, True])
def test_others_can_write_while_a_proposal_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: bool
) -> None:
    """If one of them stores parameters, the proposal is drawn again, since it must differ."""
    db, study = fill(tmp_path / "studies.db", 40)
    other = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
    theirs = require_study(other, "s")
    lease, draws = claim(study, total=10**6), list[int]()
    assert isinstance(lease, Lease)
    contenders = Contenders(study, SPEC)
    study.study.sampler = StudySampler(SPEC, None, begun=lambda: contenders.begun(db.connection))
    propose = StudySampler._propose

    def watched(self: StudySampler, number: int, *rest: Any) -> dict[str, Any]:
        if number == lease.trial_number:
            draws.append(number)
            if len(draws) == 1 and samples:
                begin(theirs)
            elif len(draws) == 1:
                assert isinstance(claim(theirs, total=10**6), Lease)
        return propose(self, number, *rest)

    monkeypatch.setattr(StudySampler, "_propose", watched)
    config = sample(study, lease, lambda trial: suggest(trial, SPEC), ahead=True)
    assert len(draws) == 1 + samples
    assert db.optuna.get_trial(lease.trial_id).params.keys() == SPEC.space.keys()
    assert sample(study, lease, lambda trial: suggest(trial, SPEC), ahead=True) == config
    assert len(draws) == 1 + samples
    other.close()
    db.close()
