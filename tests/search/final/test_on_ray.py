"""Final trainings on a real Ray on this machine: the same bits, and nothing lost with a task."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
import pytest
import torch

from search.final import runs as final_runs
from search.final.runs import OnEpoch, train_all
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.training.epoch import Epoch, StoppedError
from search.training.repeat import Job, TrainedRun
from tests.search.blobs import train_job
from tests.search.final.test_runs import make_job, seeds_of, with_own_schedule

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
from search.running.on_ray import joined

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
EPOCHS = 12


def tasks() -> list[psutil.Process]:
    """The processes that are training."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # just ended
            if "train_there" in " ".join(one.cmdline()):
                found.append(one)
    return found


def test_a_killed_task_and_an_interrupt_lose_nothing_and_leave_nothing_behind(
    tmp_path: Path, spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one Ray for all, which takes seconds to start."""
    # Otherwise other tests would starve its workers. The name is Ray's own.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    own = with_own_schedule(spec, tmp_path, monkeypatch)
    job, alone = (
        make_job(tmp_path / name, own, EPOCHS, schedule="own") for name in ("ray", "alone")
    )
    task = job.load(torch.device("cpu"))
    jobs, told, killed = seeds_of(job, 2), list[tuple[int, int]](), list[int]()
    stop = threading.Event()

    def on_epoch(job: Job, epoch: Epoch) -> None:
        told.append((job.seed, epoch.epoch))
        if not killed:
            found = tasks()[0]
            found.kill()
            killed.append(found.pid)
        elif len(told) == EPOCHS + 1:
            stop.set()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def train(jobs: list[Job], tell: OnEpoch) -> list[TrainedRun]:
        monkeypatch.setattr(final_runs, "shown_progress", lambda *_: nullcontext(tell))
        return train_all(jobs, task, stop=stop, progress=True, ray="local")

    with joined("local"):  # for all calls
        with pytest.raises(StoppedError):
            train(jobs, on_epoch)
        assert killed
        assert EPOCHS < len(told) < 2 * EPOCHS
        stop.clear()
        ended = train(jobs, on_epoch)
        with pytest.raises(KeyboardInterrupt):
            train([make_job(tmp_path / "long", spec, 10_000)], interrupt)
        deadline = time.monotonic() + 120
        while tasks():  # none is left behind in a Ray that goes on
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert sorted(told) == [(seed, epoch) for seed in (0, 1) for epoch in range(1, EPOCHS + 1)]
    expected = [train_job(it, task) for it in seeds_of(alone, 2)]
    for ours, theirs in zip(ended, expected, strict=True):
        assert ours.training == theirs.training
        assert all(torch.equal(it, theirs.weights[name]) for name, it in ours.weights.items())


def test_an_unreachable_ray_is_reported_in_a_line(tmp_path: Path, spec: StudySpec) -> None:
    job = make_job(tmp_path, spec)
    task = job.load(torch.device("cpu"))
    with pytest.raises(SpecError, match=r"cannot join Ray at '127\.0\.0\.1:9'"):
        train_all([job], task, stop=threading.Event(), ray="127.0.0.1:9")
