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
from search.final.runs import train_all
from search.spec.domains import SpecError
from search.training.epoch import Epoch, StoppedError
from tests.search.blobs import train_job
from tests.search.final.test_runs import make_job, seeds_of, spec_with_own_schedule

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


def test_a_killed_task_and_an_interrupt_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise other tests would starve its workers. The name is Ray's own.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    spec = spec_with_own_schedule(tmp_path, monkeypatch)
    job, alone = (
        make_job(tmp_path / name, EPOCHS, spec, schedule="own") for name in ("ray", "alone")
    )
    task = job.load(torch.device("cpu"))
    jobs, told, killed = seeds_of(job, 2), list[tuple[int, int]](), list[int]()
    stop = threading.Event()

    def on_epoch(index: int, epoch: Epoch) -> None:
        told.append((index, epoch.epoch))
        if not killed:
            found = tasks()[0]
            found.kill()
            killed.append(found.pid)
        elif len(told) == EPOCHS + 1:
            stop.set()

    monkeypatch.setattr(final_runs, "shown_progress", lambda *_: nullcontext(on_epoch))
    with joined("local"):  # for both calls
        with pytest.raises(StoppedError):
            train_all(jobs, task, stop=stop, progress=True, ray="local")
        assert killed
        assert EPOCHS < len(told) < 2 * EPOCHS
        stop.clear()
        ended = train_all(jobs, task, stop=stop, progress=True, ray="local")
    assert sorted(told) == [(index, epoch) for index in (0, 1) for epoch in range(1, EPOCHS + 1)]
    expected = [train_job(it, task) for it in seeds_of(alone, 2)]
    for ours, theirs in zip(ended, expected, strict=True):
        assert ours.training == theirs.training
        assert all(torch.equal(it, theirs.weights[name]) for name, it in ours.weights.items())


def test_an_interrupt_leaves_no_task_behind_in_a_ray_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")
    jobs = seeds_of(make_job(tmp_path, 10_000), 2)
    task = jobs[0].load(torch.device("cpu"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(final_runs, "shown_progress", lambda *_: nullcontext(interrupt))
    with joined("local"):
        with pytest.raises(KeyboardInterrupt):
            train_all(jobs, task, stop=threading.Event(), progress=True, ray="local")
        deadline = time.monotonic() + 20
        while tasks():
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_an_unreachable_ray_is_reported_in_a_line(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    task = job.load(torch.device("cpu"))
    with pytest.raises(SpecError, match=r"cannot join Ray at '127\.0\.0\.1:9'"):
        train_all([job], task, stop=threading.Event(), ray="127.0.0.1:9")
