"""Comparisons: what they are made of, which trial trains what, and what counts."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FixedTrial

from data.datasets import default_data_dir
from search.running.run import Run
from search.running.trial import DivergedError
from search.running.worker import train_trials
from search.sampling.sampler import make_sampler
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.domains import Fixed, SpecError
from search.spec.journal import Expectation, JournalEntry
from search.spec.space import check_space, suggest
from search.store.opening import open_database
from search.store.reading import view_study
from search.store.studies import create_study
from search.store.views import StudyView
from search.training.task import load_task
from search.training.train import train

TINY = {"depth": 1, "width": 4, "hidden": (), "batch_norm": False}


def comparison(repeats: int = 2, **fields: Any) -> StudySpec:
    arms = (
        Arm(name="plain", reported={"validation_loss": 0.2383, "parameters": 100}),
        Arm(name="dropout", values={"dropout": 0.5, "hidden": (8,)}),
        Arm(name="plain again"),
    )
    usual = {
        "dataset": "digits",
        "trials": max(1, len(fields.get("arms", arms)) * repeats),
        "epochs": 2,
        "sampler": "grid",
        "pruner": "none",
        "space": {name: Fixed(value=value) for name, value in TINY.items()},
        "arms": arms,
        "base": "plain",
        "repeats": repeats,
    }
    return StudySpec(**{**usual, **fields})


def test_the_spec_survives_json() -> None:
    expectations = (
        Expectation(arm="dropout", than="plain", metric="validation_loss", outcome="better"),
        Expectation(
            arm="plain", than="plain again", metric="train_loss", outcome="no different", margin=0.1
        ),
    )
    entry = JournalEntry(objective="Why?", hypothesis="So.", expect=expectations)
    spec = comparison(source="A report", journal=(entry,))
    assert StudySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"trials": 5}, "leave trials out"),
        ({"base": "dropout"}, "the base arm is the first, "),
        ({"repeats": 100_000}, "1 to 1000"),
        ({"pruner": "halving"}, "trained to their end"),
        ({"baseline": {"depth": 2}}, "first"),
        ({"arms": (Arm(name="plain"), Arm(name="plain"))}, "two arms"),
        ({"arms": (), "base": None}, "no [[arm]]"),
        ({"arms": (), "base": None, "repeats": 1, "trials": 3}, "'grid' needs"),
    ],
)
def test_what_is_no_comparison(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        comparison(**fields)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"metric": "test_loss"},
        {"outcome": "bigger"},
        {"outcome": "no different"},
        {"outcome": "no different", "margin": float("inf")},
        {"margin": 0.1},
        {"than": "a"},
    ],
)
def test_expectations_that_are_refused(fields: dict[str, Any]) -> None:
    usual = {"arm": "a", "than": "b", "metric": "validation_loss", "outcome": "better"}
    Expectation(**usual)
    with pytest.raises(SpecError, match="expect"):
        Expectation(**{**usual, **fields})


def test_a_journal_speaks_of_arms_that_there_are() -> None:
    unknown = Expectation(arm="nobody", than="plain", metric="parameters", outcome="better")
    entry = JournalEntry(objective="Why?", hypothesis="So.", expect=(unknown,))
    with pytest.raises(SpecError, match="'nobody'; there are: plain, dropout, plain again"):
        comparison(journal=(entry,))
    with pytest.raises(SpecError, match="no \\[\\[arm\\]\\]"):
        StudySpec(dataset="digits", journal=(entry,))
    plain = JournalEntry(objective="Why?", hypothesis="So.")
    assert StudySpec(dataset="digits", journal=(plain,)).journal == (plain,)


def test_arms_take_turns_and_share_their_seeds() -> None:
    spec = comparison(repeats=3)
    places = [spec.place_of(number) for number in range(spec.trials)]
    assert [(arm.name, repeat) for arm, repeat in places] == [
        (name, repeat) for repeat in range(3) for name in ("plain", "dropout", "plain again")
    ]
    assert [spec.seed_number(number) for number in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    search = StudySpec(dataset="digits")
    assert [search.seed_number(number) for number in range(4)] == [0, 1, 2, 3]


def test_the_total_follows_the_repeats() -> None:
    assert comparison(repeats=2).with_total(15) == comparison(repeats=5)
    with pytest.raises(SpecError, match="trials"):
        comparison().with_total(7)
    assert StudySpec(dataset="digits").with_total(7).trials == 7


def test_live_stored_and_fixed_trials_give_the_arms_configuration() -> None:
    spec = comparison()
    study = optuna.create_study(sampler=make_sampler(spec))
    for number in range(spec.trials):
        study.sampler = make_sampler(spec)  # as after a restart
        trial = study.ask()
        live = suggest(trial, spec)
        arm, repeat = spec.place_of(number)
        assert trial.params == {"arm": arm.name, "repeat": repeat}
        study.tell(trial, 1.0)
        assert suggest(study.trials[-1], comparison(repeats=9)) == live  # raised since
        assert suggest(FixedTrial(trial.params), spec) == live
    plain, dropout = (suggest(study.trials[n], spec).architecture for n in (0, 1))
    assert plain.hidden == ()
    assert dropout.hidden == (8,)


def test_an_impossible_arm_is_named() -> None:
    spec = comparison(arms=(Arm(name="plain"), Arm(name="wrong", values={"dropout": 1.5})))
    with pytest.raises(SpecError, match="arm 'wrong': dropout"):
        check_space(spec, (1, 8, 8), 10)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[StudySpec], StudyView]:
    """Train a study to its total, by the loop itself, and view it."""
    torch_task = load_task("digits", default_data_dir(), torch.device("cpu"), seed=0, limit=200)

    def run(spec: StudySpec, train: Callable[..., Any] = train) -> StudyView:
        db = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
        study = create_study(db, "s", spec, torch_task.info, validation_count=287)
        train_trials(
            Run(
                study=study,
                spec=spec,
                task=torch_task,
                folder=tmp_path / "runs",
                stop=threading.Event(),
                train=train,
            )
        )
        view = view_study(study)
        db.close()
        return view

    return run


def test_equal_arms_have_equal_curves_and_repeats_have_not(
    run: Callable[[StudySpec], StudyView],
) -> None:
    view = run(comparison(repeats=2))
    assert [(trial.arm, trial.repeat) for trial in view.trials] == [
        (name, repeat) for repeat in range(2) for name in ("plain", "dropout", "plain again")
    ]
    curves = [[row.validation_loss for row in trial.curve] for trial in view.trials]
    assert curves[0] == curves[2]  # to the bit: weights, order of the data, draws
    assert curves[3] == curves[5]
    assert curves[0] != curves[3]
    assert curves[0] != curves[1]
    assert view.finished == 6


def test_an_arm_that_fails_counts_and_is_not_repeated(run: Callable[..., StudyView]) -> None:
    def train_or_fail(architecture: Any, *rest: Any, **more: Any) -> Any:
        if architecture.hidden == (8,):
            raise DivergedError("diverged: train loss became nan")
        return train(architecture, *rest, **more)

    view = run(comparison(repeats=2), train_or_fail)
    assert [trial.state for trial in view.trials] == ["complete", "failed", "complete"] * 2
    assert {trial.arm for trial in view.in_state("failed")} == {"dropout"}
    assert view.finished == view.spec.trials == 6
