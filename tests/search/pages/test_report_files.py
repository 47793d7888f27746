"""Whole reports, made of studies by hand: what they say, and that names stay text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from search.pages import report_comparison, report_effects, report_search
from search.pages.document import Details, Document, Facts, Table, as_html, as_markdown
from search.pages.report_files import NAMES, report, write_report
from search.spec.journal import Expectation, JournalEntry
from search.store.records import ResultRow
from search.store.views import StudyView

Make = Callable[..., Any]
NOW = datetime(2026, 3, 5, 8, 0, tzinfo=UTC)
ARMS = {"base": [0.5, 0.52, 0.48], "low": [0.40, 0.43, 0.39], "lost": [None] * 3}
REPORTED = {
    "base": {"validation_loss": 0.2383, "parameters": 221_950},
    "low": {"test_accuracy": 0.915, "test_loss": 0.25},
    "lost": {"validation_accuracy": 0.9},
}
JOURNAL = [
    JournalEntry(
        objective="See what it does.",
        hypothesis="It helps",
        methodology="Only one thing is changed",
        expect=(
            Expectation(arm="low", than="base", metric="validation_loss", outcome="better"),
            Expectation(arm="lost", than="base", metric="validation_loss", outcome="better"),
        ),
    ),
    JournalEntry(objective="Think.", hypothesis="Nothing can be expected."),
]


class Structure(HTMLParser):
    """The elements of a page with their attributes' names, in order, without any text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def tables(document: Document) -> list[Table]:
    inside = [part for block in document.blocks if isinstance(block, Details)
              for part in block.blocks]  # fmt: skip
    return [block for block in (*document.blocks, *inside) if isinstance(block, Table)]


def table(document: Document, *columns: str) -> list[dict[str, str]]:
    """The rows of the first table that has these columns."""
    found = next(t for t in tables(document) if set(columns) <= set(t.header))
    return [dict(zip(found.header, row, strict=True)) for row in found.rows]


@pytest.fixture
def compared(make_comparison: Make) -> StudyView:
    view: StudyView = make_comparison(
        ARMS, values={"low": {"dropout": 0.2}}, reported=REPORTED, journal=JOURNAL
    )
    return view


def test_each_arm_with_mean_spread_and_count(compared: StudyView) -> None:
    rows = table(report(compared, NOW), "arm", "seeds", "validation loss")
    assert [row["arm"] for row in rows] == ["base", "low", "lost"]
    base, _, lost = rows
    assert base["validation loss"] == "0.5000 ± 0.0200"
    assert base["validation error (%)"] == "16.67 ± 0.67"
    assert base["validation accuracy (%)"] == "83.33 ± 0.67"
    assert base["parameters"].isprintable()
    assert int(base["parameters"].replace(" ", "")) == compared.trials[0].parameters
    assert base["best epoch"] == "3.0 ± 0.0"
    assert base["learning rate"] == "0.002"
    assert (lost["seeds"], lost["validation loss"]) == ("0 of 3, 3 diverged", "")
    (train,) = [t for t in tables(report(compared, NOW)) if "training loss" in t.header]
    assert train.rows[0][1] == "0.4500 ± 0.0180"


def test_published_figures_beside_ours(compared: StudyView, result_row: ResultRow) -> None:
    rows = table(report(compared, NOW), "reported (single run)")
    assert [(r["arm"], r["figure"], r["ours"], r["ours − reported"]) for r in rows[:1]] == [
        ("base", "validation loss", "0.5000 ± 0.0200 (3 seeds)", "+0.2617")
    ]
    assert rows[1]["reported (single run)"] == "221 950"
    assert rows[2]["ours"] == "test set not opened"
    assert (rows[4]["ours"], rows[4]["ours − reported"]) == ("0 of 3, 3 diverged", "")
    # The first reading of this arm's trials counts, not another arm's and not a later one.
    trial = next(t.number for t in compared.trials if t.arm == "low")
    assert result_row.figures is not None
    later = {**result_row.figures, "accuracy": 0.99}
    opened = dataclasses.replace(
        compared,
        results=(
            dataclasses.replace(result_row, trial_number=0, figures=later),
            dataclasses.replace(result_row, trial_number=trial),
            dataclasses.replace(result_row, trial_number=trial, figures=later),
        ),
    )
    accuracy, loss = table(report(opened, NOW), "reported (single run)")[2:4]
    assert (accuracy["ours"], accuracy["ours − reported"]) == ("93.12 ± 0.12 (3 seeds)", "+1.62")
    assert (loss["ours"], loss["ours − reported"]) == ("0.2101 ± 0.0030 (3 seeds)", "−0.0399")


def test_what_each_arm_changed(compared: StudyView) -> None:
    low, lost = table(report(compared, NOW), "changes", "in words")
    assert (low["changes"], low["pairs"]) == ("dropout 0 → 0.2", "3")
    assert low["difference"] == "−0.0933"
    assert low["in words"] == "better"
    assert float(low["p after Holm"].lstrip("< ")) < 0.05
    assert (lost["in words"], lost["p"]) == ("worse: it diverged in every seed", "")


def test_one_seed_is_said_to_be_too_few(make_comparison: Make) -> None:
    document = report(make_comparison({"base": [0.5], "low": [0.1]}), NOW)
    text = as_markdown(document, "figures", "png")
    assert "One seed an arm: there is no spread, and no test is possible" in text
    (row,) = table(document, "changes", "in words")
    assert row["in words"] == "no evidence: one seed, no test possible"


def test_the_journal_of_a_comparison(compared: StudyView) -> None:
    text = as_markdown(report(compared, NOW), "figures", "png")
    for piece in (
        "### Entry 1: contradicted",
        "**Objective.** See what it does.",
        "**Hypothesis.** It helps",
        "**Methodology.** Only one thing is changed. The base, “base”: 2 convolutions of 8, 16",
        "“low” changes dropout 0 → 0.2.",
        "the same 3 seeds for each arm.",
        "**Evaluation.** Contradicted.",
        "contradicted: “lost” diverged in every seed, which counts as worse than “base”",
        "### Entry 2: undecided",
        "**Methodology.** Not given.",
    ):
        assert piece in text, piece


def test_failed_arms_appear_with_their_reason(compared: StudyView) -> None:
    rows = table(report(compared, NOW), "why")
    assert [row["arm"] for row in rows] == ["lost"] * 3
    assert {row["why"] for row in rows} == {"diverged: train loss became nan"}


def test_the_columns_of_a_search(small_study: StudyView) -> None:
    document = report(small_study, NOW)
    rows = table(document, "trial", "val. loss", "learning rate")
    assert [row["trial"] for row in rows] == ["#3", "#1", "#0 (baseline)", "#9"]
    first = rows[0]
    assert (first["train loss"], first["val. loss"]) == ("0.2250", "0.2500")
    assert (first["val. error (%)"], first["val. acc. (%)"]) == ("8.33", "91.67")
    assert (first["parameters"], first["best epoch"]) == ("300 000", "2 of 3")
    (all_of_them,) = [b for b in document.blocks if isinstance(b, Details) and "All" in b.summary]
    inside = all_of_them.blocks[0]
    assert isinstance(inside, Table)
    assert {row[0] for row in inside.rows} == {
        "#0 (baseline)", "#1", "#2 (pruned)", "#3", "#9"
    }  # fmt: skip


def test_parameters_by_formula(small_study: StudyView) -> None:
    text = as_markdown(report(small_study, NOW), "figures", "png")
    assert "32·1·3·3 + 32 = 320" in text
    sums = re.search(r"Parameters: (.*?) = ([\d ]+);", text)
    assert sums is not None
    parts = [int(part.replace(" ", "")) for part in sums[1].split(" + ")]
    assert sum(parts) == int(sums[2].replace(" ", ""))


def test_too_few_complete_trials_for_importances_is_said(small_study: StudyView) -> None:
    text = as_markdown(report(small_study, NOW), "figures", "png")
    assert "Importances take 5 trials that have trained equally long" in text
    assert "without the baseline, and losses that differ; " in text


@pytest.mark.parametrize("trials", [0, 1])
def test_a_study_that_has_hardly_begun(make_view: Make, make_trial: Make, trials: int) -> None:
    view = make_view([make_trial(0, state="running")][:trials])
    text = as_markdown(report(view, NOW), "figures", "png")
    assert "Not finished: 0 of 50 trials" in text
    assert "No trial has run to its end yet" in text
    assert as_html(report(view, NOW))


def test_a_comparison_that_has_not_begun(make_comparison: Make) -> None:
    view = make_comparison({"base": [], "low": []}, repeats=2, journal=JOURNAL[1:])
    text = as_markdown(report(view, NOW), "figures", "png")
    assert "No arm has been trained to its end yet" in text
    assert "Not finished: 0 of 4 trials" in text


def test_how_to_repeat_it_has_the_study_and_no_password(compared: StudyView) -> None:
    secret = dataclasses.replace(compared, storage="postgresql://me:secret@host/db")
    text = as_markdown(report(secret, NOW), "figures", "png")
    assert "python -m search.report --study fashion --storage postgresql://me@host/db" in text
    assert "secret" not in text
    assert "[[arm]]" in text


def test_every_figure_and_both_texts_are_written(compared: StudyView, tmp_path: Path) -> None:
    files = write_report(report(compared, NOW), tmp_path)
    assert all(file.stat().st_size for file in files)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.md", "figures"}
    text = (tmp_path / "report.md").read_text()
    linked = set(re.findall(r"\]\(figures/([a-z]+)\.png\)", text))
    figures = tmp_path / "figures"
    assert {path.name for path in figures.iterdir()} == {
        f"{name}.{kind}" for name in linked for kind in ("png", "svg")
    }
    assert (figures / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_figures_of_a_search_have_known_names(
    compared: StudyView, small_study: StudyView, tmp_path: Path
) -> None:
    plots = [plot for view in (compared, small_study) for plot in report(view, NOW).plots]
    assert {plot.name for plot in plots} <= set(NAMES)
    files = write_report(report(small_study, NOW), tmp_path, ["svg"])
    assert len(files) == 2 + len(report(small_study, NOW).plots)


def test_other_formats_and_what_an_earlier_report_left(compared: StudyView, tmp_path: Path) -> None:
    mine = tmp_path / "figures" / "mine.png"
    mine.parent.mkdir()
    mine.write_bytes(b"kept")
    (tmp_path / "figures" / "kinds.png").write_bytes(b"of another time")
    write_report(report(compared, NOW), tmp_path, ["svg"])
    assert [path.name for path in mine.parent.glob("*.png")] == ["mine.png"]
    assert "](figures/curves.svg)" in (tmp_path / "report.md").read_text()


def test_the_page_is_one_file_without_network(compared: StudyView) -> None:
    text = as_html(report(compared, NOW))
    without_scripts = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(src|href)=", without_scripts)
    assert text.count('class="figure"') == len(report(compared, NOW).plots) == 3
    assert "Content-Security-Policy" in text


@pytest.fixture
def called(make_comparison: Make, make_view: Make, make_trial: Make) -> Callable[[str], list[Any]]:
    """A comparison and a search in which all that people name is called so."""

    def make(name: str) -> list[StudyView]:
        line = "".join(sign if sign.isprintable() else "?" for sign in name[:150]).strip() or "?"
        other = f"{line} other"
        entry = JournalEntry(
            objective=line,
            hypothesis=line,
            methodology=line,
            expect=(
                Expectation(arm=other, than=line, metric="validation_loss", outcome="better"),
                Expectation(arm=f"{line} lost", than=line, metric="train_loss", outcome="worse"),
            ),
        )
        classes = (name, f"{name} ", "Pullover", "Dress", "Coat")
        compared = make_comparison(
            {line: [0.5, 0.6], other: [0.41, 0.5], f"{line} lost": [None, None]},
            journal=[entry],
            title=name,
            data_title=name,
            class_names=classes,
            reported={line: {"validation_loss": 0.3}},
            reason=name,
        )
        searched = make_view(
            [make_trial(0, [0.5], is_baseline=True), make_trial(1, state="failed", reason=name)],
            title=name,
            data_title=name,
            class_names=classes,
        )
        return [
            dataclasses.replace(
                view,
                hardware=name,
                versions={"torch": name},
                spec=dataclasses.replace(view.spec, source=line),
            )
            for view in (compared, searched)
        ]

    return make


def test_reports_have_the_same_structure_under_any_name(
    hostile_names: tuple[str, ...],
    called: Callable[[str], list[StudyView]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What takes time and is tested elsewhere: figures, and 4.8 MB that are always the same.
    for module, name in (
        (report_comparison, "loss_by_arm"),
        (report_comparison, "arm_curves"),
        (report_effects, "effects"),
    ):
        monkeypatch.setattr(module, name, lambda _: go.Figure())
    for name in (
        *("best_so_far", "learning_curves", "loss_against_parameters", "time_by_outcome"),
        *("parallel_coordinates", "kinds_side_by_side", "error_against_dropout"),
    ):
        monkeypatch.setattr(report_search, name, lambda _: go.Figure())
    monkeypatch.setattr("search.pages.page._plotly", str)

    def html(document: Document) -> list[tuple[str, tuple[str, ...]]]:
        text = as_html(document)
        return Structure(re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)).found

    def markdown(document: Document) -> list[tuple[str, int]]:
        """Of each line outside of listings what begins it, and its cells."""
        text = as_markdown(document, "figures", "png")
        text = re.sub(r"^(`{3,}).*?^\1$", "```", text, flags=re.DOTALL | re.MULTILINE)
        assert "<" not in text
        assert not re.search(r"\]\((?!figures/[a-z]+\.png\))", text)
        return [
            (re.sub(r"[^#|`>+*-].*", "", line), line.count("|"))
            for line in text.splitlines()
            if line
        ]

    expected = [(html(d), markdown(d)) for d in (report(v, NOW) for v in called("plain"))]
    for name in hostile_names:
        if not name or "\ud800" in name:  # what is empty is left out; no file can hold the other
            continue
        for view, (page, lines) in zip(called(name), expected, strict=True):
            document = report(view, NOW)
            assert html(document) == page, name[:100]
            assert markdown(document) == lines, name[:100]


def test_facts_hold_plain_values(compared: StudyView) -> None:
    (facts,) = [block for block in report(compared, NOW).blocks if isinstance(block, Facts)]
    assert dict(facts.pairs)["lowest mean validation loss"] == "low"
    assert dict(facts.pairs)["trials"] == "6 complete, 3 failed"
