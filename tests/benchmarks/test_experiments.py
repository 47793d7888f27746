"""The reports' experiments: run, stored, and written up from the stored results."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import candidates, crowd, experiments, headroom, warm_starts
from search import finalize, study

STUDY = """
[study]
title = "Two widths"
source = "Report Z"
dataset = "digits"
epochs = 2
repeats = 2
[space]
channels = [4]
hidden = []
[[arm]]
name = "narrow"
reported = { test_accuracy = 0.5, validation_loss = 1.0 }
[[arm]]
name = "wide"
channels = [8]
[[journal]]
objective = "Find a width."
hypothesis = "Wider is better."
expect = [{ arm = "wide", than = "narrow", metric = "validation_loss", is = "better" }]
"""


def test_the_page_matches_the_stored_results() -> None:
    assert experiments.PAGE.read_text(encoding="utf-8") == experiments.written()
    known = experiments.experiments()
    assert len(known) == 21
    assert {one["study"] for one in experiments.kept()} <= set(known)


@pytest.mark.usefixtures("plainly")
def test_a_second_run_evaluates_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "z.toml").write_text(STUDY)
    commands = {"study": study.main, "finalize": finalize.main}
    ran = []

    def command(module: str, *flags: str) -> None:
        ran.append(module)
        config = ["--config", "z.toml", "--study", "z", "--workers", "1"]
        given = [*config, *flags[2:]] if module == "study" else list(flags)
        assert commands[module](given) == 0

    monkeypatch.setattr(experiments, "_command", command)
    storage = "sqlite:///studies.db"
    for _ in range(2):
        experiments.run_whole("z", storage, 2)
    assert ran == ["study", "finalize", "study"]

    found: dict[str, Any] = experiments.collect(experiments.load_study("z", storage=storage))
    narrow, wide = found["arms"]
    assert narrow["test"]["seeds"] == 2
    assert wide["test"] is None
    assert found["journal"][0]["outcome"] in ("supported", "contradicted", "undecided")
    page = experiments.page([found], {"z": "A remark."})
    row = next(line for line in page.splitlines() if line.startswith("| narrow"))
    assert f"50.00, **{100 * narrow['test']['accuracy']:.2f} ± " in row
    assert "1.0000, **" in row
    assert page.index("## Report Z: Two widths") < page.index("A remark.")
    assert "`a6_final`" in page.partition("## Not run whole yet")[2]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("main", "flags", "told"),
    [
        (crowd.main, ["--pruners", "nonsense"], r"invalid choice: 'nonsense' \(choose from"),
        (headroom.main, ["no.gz"], "there is no no.gz; record one with python -m benchmarks.curv"),
        (candidates.main, ["no.gz"], "there is no no.gz; record one with python -m benchmarks.c"),
        (warm_starts.main, ["no.gz", "--sampler", "x"], "there is no no.gz; record one with"),
        (experiments.main, ["--run", "x"], r"--run: invalid choice: 'x' \(choose from .*a6_final"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(
    main: Callable[[list[str]], int],
    flags: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(flags)
    assert re.search(told, " ".join(capsys.readouterr().err.split()))
