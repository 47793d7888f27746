"""Ctrl-C, SIGTERM and time limits while the database's server is away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from search import study, worker
from search.running.pool import WorkerPool
from search.running.run import Run
from search.training.epoch import StoppedError
from tests.search.conftest import Call

START = ["--dataset", "digits", "--limit", "200", "--epochs", "1", "--trials", "1"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("main", "workers", "number", "code"),
    [
        (study.main, "2", signal.SIGINT, 130),
        (study.main, "2", None, 2),  # None: a time limit
        (study.main, "1", signal.SIGINT, 130),
        (worker.main, "1", signal.SIGTERM, 143),
        (worker.main, "1", None, 75),
    ],
)
def test_it_ends(
    ended: Call,
    postgres: Any,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    main: Any,
    workers: str,
    number: signal.Signals | None,
    code: int,
) -> None:
    def go_away(run: Run) -> None:
        assert not run.stop.is_set()
        postgres.stop()
        request.addfinalizer(postgres.start)
        run.stop.set() if number is None else signal.raise_signal(number)

    def train_trial(run: Run, *_: object) -> Iterator[None]:
        yield
        go_away(run)
        raise StoppedError

    where = ["--study", "s", "--device", "cpu", "--storage", str(postgres.new_database())]
    words = [*START, "--workers", workers, *where]
    if main is worker.main:
        with monkeypatch.context() as patch:
            patch.setattr("search.running.study.train_shown", lambda *_, **__: None)
            ended(study.main, words, 0)
        words = where
    monkeypatch.setattr("search.running.worker.train_trial", train_trial)
    monkeypatch.setattr(WorkerPool, "train", lambda _, run: go_away(run))
    out, err = ended(main, words, code)
    assert out == "" or main is worker.main
    assert "Traceback" not in err
    assert ("Interrupted, nothing is lost. Resume with: " in err) == (code == 130)
    assert err.count("error: postgresql:") == (code in (2, 75))
