"""What is said of a study before it runs."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data.datasets import default_data_dir
from models.anatomy import count_parameters
from search.spec.config import StudySpec
from search.spec.design import Arm
from search.spec.domains import Choice, Domain, Fixed, Range
from search.spec.ready_made import listing, size_in_words
from search.spec.space import arm_config
from search.spec.study_file import ready_made
from search.terminal import forecast as module
from search.terminal.forecast import forecast, measure
from search.training.task import Task, load_task

SMALL: dict[str, Domain] = {"depth": Fixed(value=1), "width": Fixed(value=4)}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("digits", default_data_dir(), torch.device("cpu"), seed=0, limit=500)


def comparison(**fields: Any) -> StudySpec:
    usual = {
        "dataset": "digits",
        "title": "Widths",
        "trials": 6,
        "epochs": 10,
        "limit": 500,
        "sampler": "grid",
        "pruner": "none",
        "space": SMALL,
        "arms": (
            Arm(name="narrow"),
            Arm(name="wide", values={"width": 8, "hidden": (120, 84)}),
            Arm(name="narrow, faster", values={"learning_rate": 0.1}),
        ),
        "base": "narrow",
        "repeats": 2,
    }
    return StudySpec(**{**usual, **fields})


def unwrapped(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An epoch takes as many seconds as the first convolution has channels; what was measured."""
    measured: list[int] = []

    def seconds(architecture: Any, *_: Any, **__: Any) -> float:
        measured.append(architecture.channels[0])
        return float(architecture.channels[0])

    monkeypatch.setattr(module, "epoch_seconds", seconds)
    return measured


def test_a_comparison_in_words(task: Task, timed: list[int]) -> None:
    text = forecast("mine", comparison(), task)
    assert "Study mine: Widths" in text
    assert "3 arms x 2 repeats of up to 10 epochs on 500 images: 6 trials in all" in text
    assert "500 training and 287 validation images" in text
    (row,) = (line.split() for line in text.splitlines() if line.startswith("  narrow, faster"))
    network = arm_config(comparison(), comparison().arms[2]).architecture
    assert int(row[2] + row[3]) == count_parameters(network, (1, 8, 8), 10)
    assert row[4:] == ["4", "learning_rate", "=", "0.1"]
    assert "width = 8, hidden = [120, 84]" in text
    assert sorted(timed) == [4, 8]  # what costs the same is measured once
    # 2 repeats x 10 epochs x (4 + 8 + 4) s = 320 s
    assert "About 5 min with 1 worker." in text
    assert "all 3 arms" in text


@pytest.mark.usefixtures("timed")
def test_workers_share_the_work_and_what_is_done_is_done(task: Task) -> None:
    assert "About 3 min with 2 workers" in forecast("s", comparison(), task, workers=2)
    rest = forecast("s", comparison(), task, begun=4)  # wide and narrow, faster: 120 s
    assert "4 of them begun already" in unwrapped(rest)
    assert "About 2 min" in rest
    assert "About 80 s" in forecast("s", comparison(), task, workers=99)  # the longest of them
    assert "About 0 s" in forecast("s", comparison(), task, begun=6)


@pytest.mark.usefixtures("timed")
def test_early_stopping_is_said(task: Task) -> None:
    text = unwrapped(forecast("s", comparison(patience=5), task))
    assert "5 epochs after its best" in text


def test_a_search_in_words(task: Task, timed: list[int]) -> None:
    space: dict[str, Domain] = {
        **SMALL,
        "width": Range(low=4, high=16, step=4),
        "learning_rate": Range(low=1e-3, high=1e-1, log=True),
        "augmentation": Choice(values=("none", "flip-crop")),
        "hidden": Choice(values=((), (32,))),
    }
    spec = StudySpec(dataset="digits", trials=20, epochs=4, space=space, pruner="none")
    text = forecast("mine", spec, task)
    for line in (
        "width: 4 to 16 in steps of 4",
        "learning_rate: 0.001 to 0.1, evenly in the logarithm",
        "augmentation: none, flip-crop",
        "hidden: [], [32]",
    ):
        assert line in text
    assert set(timed) <= {4, 8, 12, 16}
    halving = StudySpec(dataset="digits", trials=20, epochs=4, space=space)
    assert "as early as they usually are" in forecast("mine", halving, task)


def test_measuring_ends_in_time(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow(*_: object, **__: object) -> float:
        now[0] += 7
        return 1.0

    monkeypatch.setattr(module, "epoch_seconds", slow)
    arms = tuple(Arm(name=str(width), values={"width": width}) for width in range(1, 31))
    spec = comparison(arms=arms, base="1", trials=60)
    costs = measure([arm_config(spec, arm) for arm in arms], task)
    assert costs == [1.0] * 3 + [None] * 27  # begun after 0, 7 and 14 of 20 seconds
    now[0] = 0.0
    text = forecast("s", spec, task)
    assert "3 of 30 arms" in text
    assert "About 10 min" in text  # 60 trials of 10 epochs of 1 s, the others taken to be alike


def test_no_memory_is_no_crash(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> float:
        raise MemoryError

    monkeypatch.setattr(module, "epoch_seconds", full)
    assert "No estimate" in forecast("s", comparison(), task)
    search = StudySpec(dataset="digits", space={**SMALL, "width": Range(low=4, high=8)})
    assert "No estimate" in forecast("s", search, task)


@pytest.mark.usefixtures("timed")
def test_what_people_typed_cannot_steer_the_terminal(task: Task) -> None:
    assert "\x1b" not in forecast("s", comparison(title="a\x1b[2J"), task)


def test_the_list_has_a_line_for_each_study() -> None:
    lines = listing().splitlines()
    assert [line.split()[0] for line in lines] == [file.stem for file in ready_made()]
    assert lines[0].startswith("default ")
    (dropout,) = (line for line in lines if line.startswith("a4_dropout"))
    assert "Dropout in the linear part: 4 arms x 3 repeats of up to 100 epochs" in dropout


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "3 arms x 2 repeats of up to 10 epochs on 500 images"),
        ({"repeats": 1, "trials": 3, "limit": None}, "3 arms x 1 repeat of up to 10 epochs"),
    ],
)
def test_sizes_in_words(fields: dict[str, Any], words: str) -> None:
    assert size_in_words(comparison(**fields)) == words
