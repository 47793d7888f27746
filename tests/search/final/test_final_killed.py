"""finalise killed between scoring and the end: one evaluation on record, and all files from it."""

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.final import final
from search.final.final import finalise
from search.running.results import load_study
from search.training.bundle import read_bundle

# Functions that `finalise` calls once it has scored, in their order.
STEPS = (
    "complete_result",
    "write_bundle",
    "save_pictures",
    "final_page",
    "write_atomically",
    "lead_to_first",
    "delete_checkpoint",
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final, "default_workers", lambda _: 1)
    monkeypatch.setattr(final, "save_pictures", lambda *_: [])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_killed_process(work: Callable[[], object]) -> None:
    """Run it in a copy of this process, which must not outlive it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_killed_at_any_step_after_scoring(
    searched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int, int], int],
) -> None:
    moments = [(step, when) for step in STEPS for when in ("before", "after")]
    few = [("complete_result", "before"), ("complete_result", "after"), ("final_page", "after")]
    for index, (step, when) in enumerate(moments if times(0, 1) else few):
        place = tmp_path / str(index)
        shutil.copytree(searched, place, ignore=shutil.ignore_patterns("final*"))
        monkeypatch.chdir(place)
        with sqlite3.connect("studies.db") as connection:
            connection.execute("DELETE FROM results")  # of other tests of this session
        real = getattr(final, step)

        def fatal(*arguments: Any, real: Any = real, when: str = when, **options: Any) -> Any:
            if when == "before":
                die()
            given = real(*arguments, **options)
            die()
            return given

        with monkeypatch.context() as patch:
            patch.setattr(final, step, fatal)
            in_a_killed_process(lambda: finalise("digits", seeds=1))
        [killed] = load_study("digits").results

        again = finalise("digits", seeds=1)
        [row] = load_study("digits").results
        assert row.result_id == killed.result_id, (step, when)
        assert row.opened_at == killed.opened_at
        assert killed.figures in (None, row.figures)
        assert row.figures is not None
        stored = json.loads((again.folder / "metrics.json").read_text())
        assert stored["test"] == {name: row.figures[name] for name in stored["test"]}
        assert stored["confusion"] == row.figures["confusion"]
        assert read_bundle(place / "runs/digits/final").study == "digits"
        assert (again.folder / "report.html").exists()


def test_the_numbers_on_record_are_those_that_are_written(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever scoring the same weights once more gives, on another machine perhaps."""
    monkeypatch.chdir(shutil.copytree(searched, tmp_path / "copy"))
    first = finalise("digits", seeds=1)
    with monkeypatch.context() as patch:
        patch.setattr("search.final.scoring.score", lambda *_: first.result.runs[0].training)
        again = finalise("digits", seeds=1)
    assert again.metrics["test"] == first.metrics["test"]
    assert again.result.runs[0].test == first.result.runs[0].test
