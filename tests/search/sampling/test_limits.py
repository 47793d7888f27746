"""A study's limits: no trial exceeds them, and the total number of trials is still reached."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import optuna
import pytest

from models.summary import sizes
from search.running.study import run_study
from search.sampling.limits import Limits, limits_of
from search.sampling.sampler import StudySampler
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.parameters import read_parameter
from search.spec.space import OVERRIDES, check_space, queued_trial, suggest
from search.store.opening import open_database
from search.store.studies import require_study
from search.study import main

DIGITS = ((1, 8, 8), 10)
SPACE: dict[str, Any] = {
    "depth": {"low": 1, "high": 4},
    "width": {"low": 4, "high": 32, "step": 14},  # few networks: each is looked into once
    "hidden": [[], [64]],
    "label_smoothing": {"low": 0.0, "high": 0.5},
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
}
FILE = """
[study]
trials = 4
epochs = 1
limit = 200
max_parameters = 9_000
sampler = "tpe"
pruner = "none"
[space]
depth = { low = 1, high = 4 }
width = { low = 4, high = 32, step = 14 }
hidden = [[], [64]]
[baseline]
width = 32
"""


def spec_of(**fields: Any) -> StudySpec:
    space = {name: read_parameter(name, written) for name, written in SPACE.items()}
    return StudySpec(**{"dataset": "digits", "space": space, **fields})


def search(spec: StudySpec, trials: int, restart_every: int = 1000) -> optuna.Study:
    """Larger networks are better here, so that samplers favour those beyond the limits."""
    study = optuna.create_study()
    for number in range(trials):
        if number % restart_every == 0:
            study.sampler = StudySampler(spec, None, limits_of(spec, *DIGITS))
        trial = study.ask()
        loss = 1e5 / sizes(suggest(trial, spec).architecture, *DIGITS)["parameters"]
        trial.report(loss, 1)
        study.tell(trial, loss)
    return study


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random"])
def test_no_trial_exceeds_a_limit(sampler: str) -> None:
    spec = spec_of(sampler=sampler, epochs=1, max_parameters=9_000, max_multiply_adds=150_000)
    trials = search(spec, 14).trials
    found = [sizes(suggest(one, spec).architecture, *DIGITS) for one in trials]
    assert all(it["parameters"] <= 9_000 and it["multiply_adds"] <= 150_000 for it in found)
    assert len({str(one.params) for one in trials}) == 14
    if sampler == "gp":
        return  # slow
    assert [one.params for one in search(spec, 14, 5).trials] == [one.params for one in trials]
    free = search(dataclasses.replace(spec, max_parameters=None, max_multiply_adds=None), 14)
    found = [sizes(suggest(one, spec).architecture, *DIGITS) for one in free.trials]
    assert max(it["parameters"] for it in found) > 9_000


def test_a_proposal_that_is_too_large_keeps_its_recipe() -> None:
    limits = Limits(spec_of(max_parameters=9_000), *DIGITS)
    wanted = {
        "depth": 2,
        "width": 32,
        "hidden": "64",
        "label_smoothing": 0.2,
        "learning_rate": 0.03,
    }
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = limits.nearest(wanted, random)
    assert limits.fit(found)
    assert found["learning_rate"] == 0.03
    assert {**found, "width": 4} == limits.nearest({**found, "width": 4}, random)  # fits as it is


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize(
    ("stored", "outside"),
    [({"depth": 4}, {}), ({}, {"depth": 5}), ({"width": 18}, {"kernel_sizes": [5]})],
    ids=str,
)
def test_what_is_sampled_for_a_queued_trial_fits_what_it_holds(
    sampler: str, stored: dict[str, Any], outside: dict[str, Any]
) -> None:
    spec = spec_of(sampler=sampler, epochs=1, max_parameters=9_000)
    study = optuna.create_study(sampler=StudySampler(spec, None, limits_of(spec, *DIGITS)))
    for _ in range(4):
        study.add_trial(queued_trial(spec, stored, {OVERRIDES: outside}))
        trial = study.ask()
        assert sizes(suggest(trial, spec).architecture, *DIGITS)["parameters"] <= 9_000
        assert stored.items() <= trial.params.items()
        study.tell(trial, 1.0)
    assert len({str(trial.params) for trial in study.trials}) == 4


def test_a_queued_trial_that_fits_with_nothing_says_what_it_holds() -> None:
    held, overrides = {"depth": 4}, {"width": 64}
    limits = Limits(spec_of(max_parameters=9_000), *DIGITS, held=held, overrides=overrides)
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    said = "none of 1 000 random draws with depth = 4, width = 64 fits: the smallest network has "
    with pytest.raises(SpecError, match=said + r"[\d ]+ parameters, and max_parameters is 9 000$"):
        limits.draw(random)
    whole = dataclasses.replace(limits, held={**held, "hidden": "64"})
    with pytest.raises(SpecError, match=r"^its network has [\d ]+ parameters, and max_parameters"):
        whole.draw(random)


def test_part_of_a_configuration_fits_if_something_fits_beside_it() -> None:
    limits = Limits(spec_of(max_parameters=9_000), *DIGITS)
    assert limits.fit_with({"depth": 1})
    assert not limits.fit_with({"depth": 4, "width": 32})
    assert limits.fit_with({})


def test_a_study_whose_space_does_not_fit_is_refused() -> None:
    limits = limits_of(spec_of(max_parameters=100), *DIGITS)
    assert limits is not None
    with pytest.raises(SpecError) as raised:
        limits.check({})
    assert raised.value.key == "max_parameters"
    said = "none of 100 random draws from [space] fits: the smallest network has "
    assert said in str(raised.value)
    assert "and max_parameters is 100; raise the limit" in str(raised.value)


@pytest.mark.usefixtures("unseen")
def test_a_configuration_of_ones_own_is_sampled_to_fit_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.sampling.limits.MOST_DRAWS", 50)
    file = tmp_path / "small.toml"
    file.write_text(FILE.replace("[[], [64]]", "[[64], []]"))  # the first choice is too large
    small: dict[str, Any] = {"dataset": "digits", "trials": 1, "seed": 0, "progress": False}
    small["storage"] = f"sqlite:///{tmp_path / 's.db'}"
    said = r"enqueue 2: none of 50 random draws with .*depth = 3 fits: the .* has \d.* parameters, "
    with pytest.raises(SpecError, match=said + "and max_parameters is 9 000; raise the limit or"):
        run_study(file, **{**small, "trials": 2}, enqueue=["width=18", "width=32, depth=3"])
    (trial,) = run_study(file, **small, enqueue="width=18").trials
    assert (trial.params["width"], trial.params["hidden"]) == (18, "-")
    assert 0 < (trial.parameters or 0) <= 9_000


def test_an_arm_that_is_too_large_is_refused() -> None:
    arms = (Arm(name="small", values={"width": 4}), Arm(name="wide", values={"width": 64}))
    spec = StudySpec(dataset="digits", arms=arms, max_multiply_adds=500_000)
    with pytest.raises(
        SpecError, match=r"'wide': it has \d.* multiply-adds, and max_multiply_adds"
    ):
        check_space(spec, *DIGITS)
    assert limits_of(spec, *DIGITS) is None


@pytest.mark.usefixtures("unseen")
def test_a_study_with_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, storage = tmp_path / "small.toml", f"sqlite:///{tmp_path / 's.db'}"
    file.write_text(FILE)
    options = ["--config", str(file), "--dataset", "digits", "--storage", storage]
    assert main([*options, "--seed", "0", "--trials", "3"]) == 0
    said = capsys.readouterr().err
    assert "of 100 random draws fit max_parameters = 9_000" in said
    assert "The baseline is left out: it has " in said
    db = open_database(storage)
    study = require_study(db, None).study
    study.enqueue_trial({"depth": 4, "width": 32, "hidden": "64"})  # by hand: reported, not trained
    db.close()
    view = run_study(file, dataset="digits", storage=storage, seed=0, progress=False)
    (large,) = view.in_state("failed")
    assert (view.finished, view.count(), view.baseline, large.curve) == (4, 5, None, ())
    assert "too large: it has " in str(large.reason)
    assert all((one.parameters or 0) <= 9_000 for one in view.in_state("complete"))
