"""The forecast shown before a study runs."""

import re
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from data.datasets import default_data_dir
from models import ConvNetConfig
from models.summary import count_parameters
from search.spec.arms import Arm
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import Choice, Domain, Range
from search.spec.space import make_config
from search.store.views import State
from search.terminal.forecast import epoch_seconds, forecast
from search.training.task import Task, load_study_task
from search.training.train import train
from tests.search.made_up_views import study_view, trial_view

SMALL: dict[str, Domain] = {"depth": 1, "width": 4}


@pytest.fixture(scope="module")
def task() -> Task:
    spec = StudySpec(dataset="digits", limit=500)
    return load_study_task(spec, default_data_dir(), torch.device("cpu"))


ARMS = (
    Arm(name="narrow"),
    Arm(name="wide", values={"width": 8, "hidden": (120, 84)}),
    Arm(name="narrow, faster", values={"learning_rate": 0.1}),
)
COMPARISON = StudySpec(
    dataset="digits", title="Widths", epochs=10, limit=500, space=SMALL, arms=ARMS, repeats=2
)


def by_width(config: TrialConfig, *_: object) -> float:
    """An epoch takes as many seconds as the first convolution has channels."""
    assert isinstance(config.architecture, ConvNetConfig)
    return float(config.architecture.channels[0])


def full(*_: object) -> float:
    raise MemoryError


@pytest.fixture(autouse=True)
def _measured_by_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.terminal.forecast.epoch_seconds", by_width)


def said(spec: StudySpec, task: Task, **given: Any) -> str:
    return " ".join(forecast("mine", spec, task, **given).split())


def test_a_comparison_in_words(task: Task) -> None:
    text = said(COMPARISON, task)
    assert "Study mine: Widths" in text
    assert "3 arms x 2 repeats of up to 10 epochs on 500 images: 6 trials in total" in text
    assert "500 training and 287 validation images" in text
    network = make_config(ARMS[2].values, COMPARISON).architecture
    size = f"{count_parameters(network, (1, 8, 8), 10):,}".replace(",", " ")
    assert f"narrow, faster: learning_rate = 0.1; {size} parameters" in text
    assert "width = 8, hidden = [120, 84]" in text
    # 2 repeats x 10 epochs x (4 + 8 + 4) s = 320 s
    assert "About 5 min with 1 worker," in text
    assert "3 of 3 arms, 4 to 8 s per epoch" in text


def test_workers_share_the_work(task: Task) -> None:
    assert "About 3 min with 2 workers" in said(COMPARISON, task, workers=2)
    assert "About 53 s" in said(COMPARISON, task, workers=99)  # one trial


def test_a_begun_study_is_judged_by_its_trials(task: Task) -> None:
    """An epoch takes 10 s; with the time until the next trial, its first one takes a minute."""
    losses = [1.0] * 10
    two = study_view([trial_view(0, losses), trial_view(1, losses)])
    text = said(COMPARISON, task, begun=two.trials)
    assert "2 of them finished already" in text
    assert "About 8 min with 1 worker, give or take" in text
    assert "An estimate from the trials so far." in text
    done = study_view([trial_view(number, losses) for number in range(6)])
    assert "About 0 s" in said(COMPARISON, task, begun=done.trials)
    silent = study_view([trial_view(0, state="interrupted")])
    assert "3 of 3 arms, 4 to 8 s per epoch" in said(COMPARISON, task, begun=silent.trials)
    spec = StudySpec(dataset="digits", trials=20, epochs=4, space=SMALL, pruner="promotion")
    states: list[State] = ["failed", "paused"] * 10
    spent = study_view([trial_view(it, [0.9], state=state) for it, state in enumerate(states)])
    text = said(replace(spec, budget=0.5), task, begun=spent.trials)  # 20 of 40 epochs are left
    assert "finished" not in text
    assert "About 20 min with 1 worker" in text


def test_a_search_in_words(task: Task) -> None:
    space: dict[str, Domain] = {
        **SMALL,
        "width": Range(low=4, high=16, step=4),
        "learning_rate": Range(low=1e-3, high=1e-1, log=True),
        "augmentation": Choice(values=("none", "flip-crop")),
        "hidden": Choice(values=((), (32,))),
    }
    spec = StudySpec(dataset="digits", trials=20, epochs=4, space=space, pruner="none")
    text = forecast("mine", spec, task)
    assert "Searched: width, learning_rate, augmentation, hidden" in text.splitlines()
    assert re.search(r"About \d+ min with 1 worker, give or take \d+ %\.", text)
    more = said(replace(spec, pruner="halving", patience=2), task)
    assert "if trials are stopped as early as they usually are" in more
    assert "less if trials stop 2 epochs after their best" in more


def test_a_small_study_exceeds_its_budget(task: Task) -> None:
    space = {**SMALL, "learning_rate": Range(low=1e-3, high=1e-1, log=True)}
    small = StudySpec(
        dataset="digits", trials=10, epochs=10, space=space, pruner="promotion", budget=0.13
    )
    text = said(small, task)
    assert "with a budget of 13 epochs for all of them, but at least 2 whole trainings" in text
    # 2 x 10 epochs and 8 x 0.8, of 4 s each
    assert "About 2 min with 1 worker" in text
    brief = said(replace(small, epochs=1, budget=0.3), task)
    assert "a budget of 3 epochs for all of them, but at least 2 whole trainings" not in brief
    assert "but at least 3 to bring every trial to its first rung and 2 whole trainings" in brief
    assert "whole training" not in said(replace(small, pruner="halving"), task)
    assert "at least 1 whole training" in said(replace(small, trials=1), task)


def test_few_of_many_arms_are_measured_and_lack_of_memory_is_no_crash(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = tuple(Arm(name=str(width), values={"width": width}) for width in range(1, 31))
    many = replace(COMPARISON, arms=arms)
    assert "8 of 30 arms, 1 to 29 s per epoch" in said(many, task)
    monkeypatch.setattr("search.terminal.forecast.epoch_seconds", full)
    assert "No estimate" in said(COMPARISON, task)


def test_an_epoch_is_extrapolated_from_single_steps(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loosely, and without what other processes take; torch's random state is left alone."""
    monkeypatch.setattr(time, "perf_counter", time.thread_time)
    config = make_config(ARMS[0].values, COMPARISON)
    state = torch.get_rng_state()
    estimated = epoch_seconds(config, task, 0.2)
    assert torch.equal(torch.get_rng_state(), state)
    training = train(config.architecture, config.recipe, task, seed=0)
    next(training)
    began = time.perf_counter()
    next(training)
    real = time.perf_counter() - began
    assert real / 10 < estimated < 10 * real
    one_step = replace(config, recipe=replace(config.recipe, batch_size=4096))
    assert 0 < epoch_seconds(one_step, task, 0.0) < 5
