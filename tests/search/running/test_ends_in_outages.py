"""Ctrl-C, SIGTERM and time limits while the database's server is away."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from search import study, worker
from search.running.pool import WorkerPool
from search.running.run import Run
from search.training.epoch import StoppedError
from tests.search.conftest import Call

WORDS = ["--dataset", "digits", "--limit", "200", "--epochs", "1", "--trials", "1", "--study", "s"]


@pytest.fixture
def url(postgres: Any) -> str:
    return str(postgres.new_database())


@pytest.fixture
def go_away(postgres: Any) -> Iterator[Callable[[Run, signal.Signals | None], None]]:
    """Stops the server, and then the run by a signal, or as a time limit does."""
    is_away = False

    def go(run: Run, number: signal.Signals | None) -> None:
        nonlocal is_away
        assert not run.stop.is_set()
        postgres.stop()
        is_away = True
        run.stop.set() if number is None else signal.raise_signal(number)

    yield go
    if is_away:
        postgres.start()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (None, 2)])
def test_a_study_with_several_workers(
    ended: Call,
    url: str,
    go_away: Any,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals | None,
    code: int,
) -> None:
    monkeypatch.setattr(WorkerPool, "train", lambda _, run: go_away(run, number))
    out, err = ended(study.main, [*WORDS, "--workers", "2", "--storage", url], code)
    assert out == ""
    assert "Traceback" not in err
    assert ("Interrupted, nothing is lost. Resume with: " in err) == (code == 130)
    assert err.count("error: postgresql:") == (code == 2)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("main", "number", "code"),
    [(study.main, signal.SIGINT, 130), (worker.main, signal.SIGTERM, 143), (worker.main, None, 75)],
)
def test_one_worker(
    ended: Call,
    url: str,
    go_away: Any,
    monkeypatch: pytest.MonkeyPatch,
    main: Any,
    number: signal.Signals | None,
    code: int,
) -> None:
    words = [*WORDS, "--workers", "1"]
    if main is worker.main:
        with monkeypatch.context() as patch:
            patch.setattr("search.running.study.train_shown", lambda *_, **__: None)
            ended(study.main, [*words, "--storage", url], 0)
        words = ["--study", "s"]

    def train(run: Run, *_: object) -> Iterator[None]:
        yield
        go_away(run, number)
        raise StoppedError

    monkeypatch.setattr("search.running.worker.train_trial", train)
    _, err = ended(main, [*words, "--device", "cpu", "--storage", url], code)
    assert "Traceback" not in err
    assert ("Interrupted, nothing is lost. Resume with: " in err) == (main is study.main)
