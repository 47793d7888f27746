"""Seeds in processes of their own: the same bits, and an error if one is killed."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from data.datasets import default_data_dir
from models import ConvNetConfig, to_dict
from search.final import runs
from search.final.runs import processes_for, train_apart, train_in_turn
from search.spec.config import StudySpec
from search.spec.extensions import load_extension
from search.spec.recipe import Recipe
from search.spec.schedules import SCHEDULES
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.repeat import Job
from search.training.task import Task
from tests.search.blobs import train_job

EXTENSION = """
from search.spec.schedules import SCHEDULES

SCHEDULES["own"] = SCHEDULES["cosine"]
"""


def make_job(folder: Path, spec: StudySpec, epochs: int = 2, **recipe: Any) -> Job:
    return Job(
        spec=spec,
        architecture=to_dict(ConvNetConfig(channels=(8, 16), batch_norm=True, hidden=(32,))),
        recipe=Recipe(epochs=epochs, batch_size=32, augmentation="flip-crop", **recipe),
        epochs=epochs,
        seed=0,
        data_dir=default_data_dir(),
        checkpoints=folder,
    )


def seeds_of(job: Job, count: int) -> list[Job]:
    return [replace(job, seed=seed) for seed in range(count)]


def apart(jobs: list[Job], **options: Any) -> None:
    usual = {"processes": 2, "stop": threading.Event(), "on_epoch": lambda *_: None}
    train_apart(jobs, **{**usual, **options})


def with_own_schedule(spec: StudySpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> StudySpec:
    """A study that adds the schedule `own`, which other processes do not know yet."""
    monkeypatch.setitem(SCHEDULES, "own", SCHEDULES["cosine"])  # forgotten afterwards
    (folder / "own.py").write_text(EXTENSION)
    return replace(spec, extensions=(load_extension("own.py", folder / "own.py"),))


def test_alone_or_together_the_bits_are_the_same(
    tmp_path: Path,
    spec: StudySpec,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With the study's extensions. What the user must fix, such as a missing one, is said once."""
    own = with_own_schedule(spec, tmp_path, monkeypatch)
    together, turns, alone, usual = (
        seeds_of(make_job(tmp_path / name, own, schedule=schedule), 3)
        for name, schedule in (("a", "own"), ("b", "own"), ("c", "own"), ("d", "cosine"))
    )
    told: list[tuple[int, int]] = []
    apart(together[:2], on_epoch=lambda job, epoch: told.append((job.seed, epoch.epoch)))
    assert sorted(told) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    task, taken = alone[0].load(torch.device("cpu")), list[int]()
    in_turn = train_in_turn(
        turns,
        task,
        at_a_time=2,
        stop=threading.Event(),
        on_epoch=lambda job, _: taken.append(job.seed),
    )
    assert taken == [0, 1, 0, 1, 2, 2]
    for seed in (0, 1):
        theirs = train_job(together[seed], task, on_epoch=lambda _: pytest.fail("trained again"))
        mine, cosine = (train_job(jobs[seed], task) for jobs in (alone, usual))
        for other in (theirs, in_turn[seed], cosine):
            assert (other.seed, other.training) == (seed, mine.training)
            assert all(torch.equal(it, mine.weights[name]) for name, it in other.weights.items())

    (tmp_path / "own.py").unlink()
    capfd.readouterr()
    with pytest.raises(RepeatError, match="seed 2 ended with the error above"):
        apart([together[2]])
    [line] = capfd.readouterr().err.splitlines()
    assert "error: the study needs own.py" in line


def test_a_run_that_does_not_fit_beside_others_continues_alone(
    tmp_path: Path, spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, failed = make_job(tmp_path, spec), list[int]()

    def small(job: Job, task: Task, **options: Any) -> Any:
        for done, epoch in enumerate(real(job, task, **options)):
            if job.seed == 1 and done == 60 and not failed:  # in its second epoch
                failed.append(job.seed)
                raise torch.OutOfMemoryError("out of memory")
            yield epoch
        return train_job(job, task)

    real = runs.train_slices
    monkeypatch.setattr(runs, "train_slices", small)
    told: list[tuple[int, int]] = []
    trained = train_in_turn(
        seeds_of(job, 2),
        job.load(torch.device("cpu")),
        at_a_time=2,
        stop=threading.Event(),
        on_epoch=lambda job, epoch: told.append((job.seed, epoch.epoch)),
    )
    assert failed == [1]
    assert told == [(0, 1), (1, 1), (0, 2), (1, 2)]
    assert [run.seed for run in trained] == [0, 1]


def test_a_killed_process_is_an_error_that_says_so(tmp_path: Path, spec: StudySpec) -> None:
    children = []

    def kill(*_: object) -> None:
        if not children:
            everyone = psutil.Process().children()  # perhaps with other tests' database server
            children.extend(one for one in everyone if "bootstrap.py" in " ".join(one.cmdline()))
            children[0].kill()

    with pytest.raises(RepeatError, match=r"seed [01] died \(SIGKILL.*same command again"):
        apart(seeds_of(make_job(tmp_path, spec, epochs=5000), 2), on_epoch=kill)
    assert len(children) == 2
    assert not any(child.is_running() for child in children)  # the other was terminated


def test_all_stop_in_time_on_request_and_keep_their_epochs(tmp_path: Path, spec: StudySpec) -> None:
    jobs = seeds_of(make_job(tmp_path, spec, epochs=5000), 3)
    stop = threading.Event()
    asked: list[float] = []

    def tell(_: Job, epoch: Epoch) -> None:
        if epoch.epoch == 2 and not stop.is_set():
            asked.append(time.monotonic())
            stop.set()

    with pytest.raises(StoppedError):
        apart(jobs, stop=stop, on_epoch=tell)
    assert time.monotonic() - asked[0] < 5
    assert max(len(job.saved()["curve"]) for job in jobs[:2]) >= 2
    assert not jobs[2].saved()["curve"]


@pytest.mark.parametrize(
    ("count", "cores", "processes"),
    [(1, 1, 1), (3, 1, 1), (1, 2, 1), (3, 2, 3), (4, 2, 2), (5, 2, 3), (3, 8, 3), (9, 8, 9)],
)
def test_no_core_idles_at_the_end(count: int, cores: int, processes: int) -> None:
    assert processes_for(count, cores) == processes
