"""The leaderboard: of trials and of arms, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pandas
import pytest
from rich.console import Console

from search import leaderboard
from search.running.exports import encoded
from search.running.results import Study, load_study
from search.store.views import StudyView
from tests.search.made_up_views import comparison_view

ARMS = {"none": [0.30, 0.31, 0.30], "drop|[b]": [0.20, 0.22, 0.21], "bad": [None, None, None]}


def text(view: StudyView, width: int, top: int | None = None) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(Study.of(view).standings(top))
    return file.getvalue().splitlines()


@pytest.mark.usefixtures("place")
def test_the_command_ranks_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    rows = load_study("digits").to_pandas("leaderboard").to_dict("records")
    assert leaderboard.main(["--study", "digits"]) == 0
    printed = capsys.readouterr().out
    assert "digits, 1 150 training and 287 validation images" in " ".join(printed.split())
    assert leaderboard.main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["trial"] for row in told] == [row["trial"] for row in rows]
    assert leaderboard.main(["--csv", "--top", "1"]) == 0
    ((best),) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (best["rank"], best["trial"]) == ("1", str(rows[0]["trial"]))
    assert float(best["value"]) == rows[0]["value"]
    assert any(name.startswith("params_") for name in best)
    with pytest.raises(SystemExit) as refused:
        leaderboard.main(["--csv", "--json"])
    assert refused.value.code == 2


def test_its_csv_is_in_utf_8_with_its_own_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows writes redirected text in a small encoding, and ends lines once more."""
    study = Study.of(comparison_view({"none": [0.3], "ł→": [0.2]}))

    def load(*_: Any, **_options: Any) -> Study:
        print("the user's own file prints this when it is loaded")
        return study

    monkeypatch.setattr("search.running.results.load_study", load)
    out = io.BytesIO()
    text = io.TextIOWrapper(out, encoding="cp1252", errors="replace", newline="\r\n")
    monkeypatch.setattr("sys.stdout", text)
    assert leaderboard.main(["--csv"]) == 0
    assert out.getvalue() == encoded(study.to_pandas("leaderboard"), "csv")
    assert "ł→".encode() in out.getvalue()


def test_complete_trials_have_a_rank_and_the_others_follow(small_study: StudyView) -> None:
    order = [3, 1, 0, 9, 6, 2, 4, 5, 7, 8]  # by value: 0.25, 0.3, 0.4, 0.44; 0.5, 0.6, none
    table = Study.of(small_study).to_pandas("leaderboard")
    assert list(table["trial"]) == order
    assert list(table["rank"].dropna()) == [1, 2, 3, 4]
    lines = text(small_study, 100)
    assert all(len(line) <= 100 for line in lines)
    assert lines[2].split()[:5] == ["1", "3", "complete", "0.2500", "8.33"]
    assert "± 0.28" in lines[2]
    assert "baseline: 32-64" in lines[4]
    assert lines[6].split()[:2] == ["6", "running"]
    assert [line.split()[1] for line in text(small_study, 100, top=2)[2:4]] == ["3", "1"]


def test_a_front_is_listed_with_the_size_that_it_minimises(small_study: StudyView) -> None:
    front = {"minimize_also": "multiply_adds", "pruner": "promotion"}
    sizes = [replace(it, multiply_adds=30_000) for it in small_study.trials]
    spec = replace(small_study.spec, **front)
    heads, first = text(replace(small_study, spec=spec, trials=tuple(sizes)), 120, top=1)[1:3]
    assert "multiply_adds" in heads
    assert "parameters" not in heads
    assert "30 000" in first


def test_a_comparison_ranks_its_arms() -> None:
    view = comparison_view(ARMS)
    rows = json.loads(encoded(Study.of(view).to_pandas("leaderboard"), "json"))
    ranks = [(row["rank"], row["arm"]) for row in rows]
    assert ranks == [(1, "drop|[b]"), (2, "none"), (None, "bad")]
    best, base, bad = rows
    assert best["validation_loss"] == pytest.approx(0.21)
    assert best["validation_loss_std"] == pytest.approx(0.01)
    assert best["difference"] == pytest.approx(-0.28 / 3)
    assert (best["verdict"], base["verdict"]) == ("better", "the base")
    assert (bad["seeds"], bad["failed"], bad["validation_loss"]) == (0, 3, None)
    assert bad["verdict"] == "worse: it diverged in every seed"
    printed = " ".join(" ".join(text(view, 120)).split())
    assert "1 drop|[b] 3 0 0.2100 ± 0.0100 7.00 ± 0.33" in printed
    assert "against “none”: paired t test, corrected after Holm" in printed


def test_long_names_of_arms_are_not_cut() -> None:
    names = [f"{'a' * 100}{number}" for number in range(2)]
    lines = text(comparison_view(dict(zip(names, ARMS.values(), strict=False))), 80)
    printed = "".join("".join(lines).split())
    assert "…" not in printed
    assert [printed.count(name[-9:]) for name in names] == [2, 1]  # the base also in the caption


def test_arms_without_trials_are_not_left_out() -> None:
    table = Study.of(comparison_view({"none": [], "some": []}, repeats=2)).to_pandas("leaderboard")
    assert list(zip(table["arm"], table["seeds"], strict=True)) == [("none", 0), ("some", 0)]


def test_a_notebook_shows_it(small_study: StudyView, hostile_names: Any) -> None:
    study = Study.of(replace(small_study, name=hostile_names[0]))
    page = study._repr_html_()
    assert "<script" not in page
    assert "8.33 ± 0.28" in page
    assert repr(study).endswith("6 of 50 trials finished)")
    frame = study.to_pandas()
    assert list(frame["trial"]) == list(range(10))
    assert "accuracy" in study.to_pandas("results")  # of a study without any
    assert study.to_pandas("leaderboard")["rank"].count() == 4
    with pytest.raises(ValueError, match="trials, epochs, results, leaderboard, but got 'x'"):
        study.to_pandas("x")
    assert "drop|[b]" in Study.of(comparison_view(ARMS))._repr_html_()
    table = pandas.DataFrame([{"arm": "=1+1", "value": -0.5, "rank": None}])  # no formula
    assert encoded(table, "csv") == b"arm,value,rank\r\n'=1+1,-0.5,\r\n"
