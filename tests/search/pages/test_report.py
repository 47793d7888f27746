"""Whole reports of made-up studies: what they say, and which files are written."""

from __future__ import annotations

import html
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from search.analysis.measures import measure_of
from search.figures import FIGURES, Figure
from search.pages import report
from search.pages.note import study_note
from search.pages.render import page
from search.pages.report import make_report, write_index, write_report
from search.running.results import Study
from search.spec.arms import Expectation, JournalEntry
from search.spec.objectives import OBJECTIVES
from search.store.records import ResultRow
from search.store.views import StudyView, TrialView
from search.terminal.summary import status_text
from tests.search.made_up_views import comparison_view, study_view, trial_view

NOW = datetime(2026, 3, 5, 8, 0, tzinfo=UTC)
ARMS = {"base": [0.5, 0.52, 0.48], "low": [0.40, 0.43, 0.39], "lost": [None] * 3}
REPORTED = {
    "base": {"validation_loss": 0.2383, "parameters": 221_950},
    "low": {"test_accuracy": 0.915, "test_loss": 0.25},
    "lost": {"validation_accuracy": 0.9},
}
EXPECTED = tuple(
    Expectation(arm=arm, than="base", metric="validation_loss", outcome="better")
    for arm in ("low", "lost")
)
JOURNAL = [
    JournalEntry(objective="See.", hypothesis="It helps", methodology="Only one", expect=EXPECTED),
    JournalEntry(objective="Think.", hypothesis="Nothing can be expected."),
]


def text_of(view: StudyView) -> str:
    """A report without figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "FIGURES", {})
        return html.unescape(make_report(view, NOW).markdown)


def tables(view: StudyView, *columns: str) -> list[list[dict[str, str]]]:
    """The rows of each table that has these columns."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text_of(view), re.MULTILINE):
        lines = [line.strip("|\n") for line in table.splitlines()]
        header, _, *rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
        if set(columns) <= set(header):
            found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


@pytest.fixture
def compared() -> StudyView:
    values = {"low": {"dropout": 0.2}}
    return comparison_view(ARMS, values=values, reported=REPORTED, journal=JOURNAL)


def test_each_arm_with_mean_spread_and_count(compared: StudyView) -> None:
    ((base, _, lost),) = tables(compared, "arm", "seeds", "learning rate")
    assert base["validation loss"] == "0.5000 ± 0.0200"
    assert base["validation error (%)"] == "16.67 ± 0.67"
    assert base["validation accuracy (%)"] == "83.33 ± 0.67"
    assert int(base["parameters"].replace(" ", "")) == compared.trials[0].parameters
    assert (base["best epoch"], base["learning rate"]) == ("3.0 ± 0.0", "0.002")
    assert (lost["seeds"], lost["validation loss"]) == ("0 of 3, 3 diverged", "")
    ((train, *_),) = tables(compared, "training error (%)")
    assert train["training loss"] == "0.4500 ± 0.0180"


def test_published_values_beside_ours(compared: StudyView, result_row: ResultRow) -> None:
    (rows,) = tables(compared, "reported (single run)")
    first = ["base", "validation loss", "0.2383", "0.5000 ± 0.0200 (3 seeds)"]
    assert list(rows[0].values()) == first
    assert rows[1]["reported (single run)"] == "221 950"
    assert rows[2]["ours"] == "test set not evaluated"
    assert rows[4]["ours"] == "0 of 3, 3 diverged"
    assert "do not repeat" not in text_of(compared)
    # The first evaluation of this arm's trials counts, not another arm's, not a later one, and none
    # of a deleted study of the same name.
    trial = next(t.number for t in compared.trials if t.arm == "low")
    later = {**(result_row.figures or {}), "accuracy": 0.99}
    ours = replace(result_row, trial_number=trial)
    results = (
        replace(ours, trial_number=0, figures=later),
        replace(ours, figures=later, is_ours=False),
        ours,
        replace(ours, figures=later),
    )
    opened = replace(compared, results=results)
    ((_, _, accuracy, loss, _),) = tables(opened, "reported (single run)")
    assert accuracy["ours"] == "93.12 % ± 0.12 (3 seeds)"
    assert loss["ours"] == "0.2101 ± 0.0030 (3 seeds)"


def test_each_test_evaluation_names_its_arm(
    compared: StudyView, result_row: ResultRow, tmp_path: Path
) -> None:
    results = [replace(result_row, trial_number=number) for number in (0, 1)]
    results.append(replace(result_row, is_ours=False))
    opened = replace(compared, results=tuple(results))
    told = re.findall(r"UTC: (trial .*), seeds 0, 1, 2: accuracy 93.12 %", text_of(opened))
    assert told == [
        *("trial 0, arm base", "trial 1, arm low", "trial 3 of an earlier study of this name")
    ]
    arms = Study.of(opened).to_pandas("results").arm
    assert list(arms.fillna("")) == ["base", "low", ""]
    index = write_index([(opened, tmp_path / "s")], NOW, tmp_path).read_text()
    assert "± 0.12 (3 seeds), arm base</td>" in index.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("published", "limit", "says"),
    [
        ({"epochs": 100, "repeats": 3}, None, "trained for at most 3 epochs, not 100"),
        ({"epochs": 3, "limit": 800}, 4000, "trained on 4 000 images, not 800"),
        ({"epochs": 3, "repeats": 4}, None, "3 seeds an arm, not 4"),
        # A limit that leaves nothing out and more seeds than theirs are no deviation.
        ({"epochs": 3, "repeats": 1}, 50_000, None),
    ],
)
def test_deviations_are_stated_beside_published_values(
    compared: StudyView, published: dict[str, int], limit: int | None, says: str | None
) -> None:
    spec = replace(compared.spec, published=published, limit=limit)
    text = text_of(replace(compared, spec=spec))
    assert ("do not repeat the published experiment" in text) == bool(says)
    assert (says or "") in text


def test_seeds_that_diverged_are_named_in_the_first_sentence() -> None:
    lost = "1 of 3 seeds of “base” diverged and cannot be compared.\n"
    view = comparison_view({"base": [0.5, None, 0.52], "low": [0.4, 0.41, 0.421]})
    assert f"Against the base, “base”: better; {lost}" in text_of(view)
    view = comparison_view({"base": [0.3, None, 0.32], "high": [0.5, None, 0.52]})
    assert f"Against the base, “base”: it is the base itself; {lost}" in text_of(view)


def test_what_each_arm_changed(compared: StudyView) -> None:
    (low, lost), _ = tables(compared, "changes", "in words")
    assert (low["changes"], low["pairs"]) == ("dropout 0 → 0.2", "3")
    assert (low["difference"], low["in words"]) == ("−0.0933", "better")
    assert float(low["p after Holm"].lstrip("< ")) < 0.05
    assert (lost["in words"], lost["p"]) == ("worse: it diverged in every seed", "")


def test_the_journal_of_a_comparison(compared: StudyView) -> None:
    text = text_of(compared)
    for piece in (
        "### Entry 1: contradicted",
        "**Objective.** See.\n\n**Hypothesis.** It helps\n\n**Methodology.** Only one\n\n",
        "\n\nThe base, “base”: cnn, channels 8, 16",
        "“low” changes dropout 0 → 0.2.",
        "at most 3 epochs; the same 3 seeds for each arm.",
        "**Evaluation.** Contradicted.",
        "contradicted (expected: lower): “lost” diverged in every seed, which counts as worse than "
        "“base”",
        "### Entry 2: undecided",
        "**Methodology.** Not given.",
    ):
        assert piece in text, piece


def test_the_columns_of_a_search(small_study: StudyView) -> None:
    rows, everything = tables(small_study, "trial", "validation loss", "learning rate")
    assert [row["trial"] for row in rows] == ["#3", "#1", "#0 (baseline)", "#9"]
    first = rows[0]
    assert (first["train loss"], first["validation loss"]) == ("0.2250", "0.2500")
    assert (first["val. error (%)"], first["val. acc. (%)"]) == ("8.33", "91.67")
    assert (first["parameters"], first["best epoch"]) == ("300 000", "2 of 3")
    numbers = [row["trial"] for row in everything]
    assert numbers == ["#0 (baseline)", "#1", "#2 (pruned)", "#3", "#6 (running)", "#9"]
    assert "All 6 trials with a finished epoch" in text_of(small_study)
    text = text_of(small_study)
    # Without label smoothing, see `search.training.epoch.Epoch`.
    assert "while the weights change, with augmentation and dropout.\n" in text
    assert "32·1·3·3 + 32 = 320" in text
    sums = re.search(r"Parameters: (.*?) = ([\d ]+);", text)
    assert sums is not None
    parts = [int(part.replace(" ", "")) for part in sums[1].split(" + ")]
    assert sum(parts) == int(sums[2].replace(" ", ""))


def test_trials_stopped_late_are_listed_among_the_best() -> None:
    half = study_view().spec.epochs // 2
    late, early = ([0.4] * half, [0.3] * (half - 1))
    stopped = [trial_view(1, late, state="pruned"), trial_view(2, early, state="pruned")]
    view = study_view([trial_view(0, [0.5]), trial_view(3, [0.2]), *stopped])
    rows, everything = tables(view, "trial", "validation loss")
    assert [row["trial"] for row in rows] == ["#3", "#1 (pruned)", "#0"]
    assert len(everything) == 4
    assert "The best 3 of 3 trials that are complete or past half their epochs" in text_of(view)


def test_one_trial_is_no_choice_and_the_baseline_is_not_compared_with_itself() -> None:
    view = study_view([trial_view(0, [0.5], is_baseline=True)])
    view = replace(view, spec=replace(view.spec, epochs=1))
    texts = text_of(view), study_note(view), " ".join(status_text(view).split())
    for text in texts:
        for wrong in ("The best of 1", "no trial beat", "Over the baseline", "1 epochs", "gained"):
            assert wrong not in text
    assert "complete trials (1), without pruned ones (0)" in texts[1]


def test_the_table_of_all_trials_is_left_out_if_it_is_too_long() -> None:
    text = text_of(study_view([trial_view(number, [0.5]) for number in range(1001)]))
    assert "All 1 001 trials with a finished epoch, as a table:" in text
    assert "search.leaderboard --study fashion" in text
    assert text.count("\n| #") == 10


def test_a_study_that_has_hardly_begun() -> None:
    text = make_report(study_view([trial_view(0, state="running")]), NOW).markdown
    assert "Not finished: 0 of 50 trials" in text
    assert "No trial has run to its end yet" in text
    assert "Importances need 5 trials that have trained equally long" in text
    text = text_of(comparison_view({"base": [], "low": []}, repeats=2, journal=JOURNAL[1:]))
    assert "No arm has been trained to its end yet" in text
    assert "Not finished: 0 of 4 trials" in text
    alone = comparison_view({"base": [0.5], "low": [0.1]})
    assert "One seed an arm: there is no spread, and no test is possible" in text_of(alone)
    ((row,), _) = tables(alone, "changes", "in words")
    assert row["in words"] == "no evidence: 1 seed without a spread to test with"


def test_the_repeat_instructions_have_the_study_and_no_password(compared: StudyView) -> None:
    text = text_of(replace(compared, storage="postgresql://me:secret@host/db"))
    assert "python -m search.report --study fashion --storage postgresql://me@host/db" in text
    assert "secret" not in text
    assert 'name = "low"' in text


def test_every_figure_and_both_texts_are_written(compared: StudyView, tmp_path: Path) -> None:
    mine, stale = tmp_path / "figures" / "mine.png", tmp_path / "figures" / "kinds.png"
    mine.parent.mkdir()
    mine.write_bytes(b"a person's own")
    stale.write_bytes(b"of an earlier version")
    files = write_report(make_report(compared, NOW), tmp_path)
    assert all(file.stat().st_size for file in files)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.md", "figures"}
    linked = re.findall(r"\]\(figures/([a-z]+)\.png\)", (tmp_path / "report.md").read_text())
    assert {path.name for path in mine.parent.iterdir()} == {
        "mine.png", *(f"{name}.{kind}" for name in linked for kind in ("png", "svg"))
    }  # fmt: skip
    write_report(make_report(compared, NOW, "svg"), tmp_path, ["svg"])
    assert [path.name for path in mine.parent.glob("*.png")] == ["mine.png"]
    assert "](figures/curves.svg)" in (tmp_path / "report.md").read_text()


def test_a_custom_figure_is_in_the_report(
    small_study: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(_: StudyView) -> go.Figure:
        return go.Figure(layout={"meta": {"caption": "What <it> says."}})

    monkeypatch.setitem(FIGURES, "my_own", Figure("Mine", "Something of mine", make))
    made = make_report(small_study, NOW)
    assert "## More figures\n\n![Something of mine](figures/my_own.png)\n\n" in made.markdown
    text = page(*made)
    assert "<p>What &lt;it&gt; says.</p>" in text
    assert text.count('class="figure"') == len(made.figures) == 7
    assert not re.search(r"\b(src|href)=", re.sub(r"<script.*?</script>", "", text, flags=re.S))


def test_a_figure_of_any_name_that_cannot_be_drawn_costs_nothing_else(
    small_study: StudyView, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make(_: StudyView) -> go.Figure:
        return go.Figure(go.Histogram(x=np.arange(5)), layout={"meta": "no caption"})

    mine = Figure("Mine", "Something of mine", make)
    both = {"loss/epoch, in %": mine, "curves": FIGURES["curves"]}
    monkeypatch.setattr(report, "FIGURES", both)
    made = make_report(small_study, NOW)
    assert "](figures/loss-epoch--in--.png)" in made.markdown
    assert page(*made).count('class="figure"') == 2
    first, second, *texts = write_report(made, tmp_path, ["svg"])
    assert [first.name, second.name] == ["loss-epoch--in--.svg", "curves.svg"]
    assert [file.name for file in texts] == ["report.html", "report.md"]
    assert b"cannot be drawn" in first.read_bytes()
    assert b"cannot be drawn" not in second.read_bytes()
    write_report(made, tmp_path, [])
    assert not [*first.parent.iterdir()]


def judged_by(view: StudyView, objective: str) -> StudyView:
    """The study as if it had been made with that objective: its last complete trial is best."""
    last = max(trial.number for trial in view.in_state("complete"))

    def changed(trial: TrialView) -> TrialView:
        curve = []
        for row in trial.curve:
            found = {objective: 0.0567} if trial.number == last else {}
            loss = found.pop("calibrated_validation_loss", row.validation_loss)
            row = replace(row, metrics={"calibrated_loss": loss}, **found)
            curve.append(replace(row, value=OBJECTIVES[objective].of(row)))
        return replace(trial, curve=tuple(curve))

    spec, trials = replace(view.spec, objective=objective), tuple(map(changed, view.trials))
    return replace(view, spec=spec, trials=trials)


def test_means_of_shares_have_their_unit() -> None:
    arms = comparison_view({"base": [0.6, 0.62], "other": [0.3, 0.3]})
    view = judged_by(arms, "validation_error")
    text = text_of(view)
    assert "“other” has the lowest mean validation error, 7.83 % ± 3.06 (2 seeds)." in text
    assert "- its error (%), ± over 2 seeds: **7.83 ± 3.06**" in text
    assert "error (%), mean ± s.d." in status_text(view)
    assert "loss, mean ± s.d." in status_text(arms)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_texts_and_figures_name_the_objective(small_study: StudyView, objective: str) -> None:
    label, words = OBJECTIVES[objective].label, measure_of(objective).words
    assert words == label
    arms = comparison_view({"base": [0.5, 0.52], "other": [0.3, 0.32]})
    mean = (0.0567 + (0.1 if objective == "validation_error" else 0.3)) / 2  # of both seeds
    for view, lowest in ((small_study, 0.0567), (arms, mean)):
        view = judged_by(view, objective)
        made = make_report(view, NOW)
        for text in (study_note(view), made.markdown):
            assert label in text
            assert measure_of(objective).shown(lowest) in text
        assert OBJECTIVES[objective].word in status_text(view)
        for name, figure in made.figures.items():
            if name not in ("importances", "contour"):
                assert label in figure.to_json(), name


@pytest.mark.parametrize("losses", [[], [math.nan]])
def test_why_everything_failed_comes_before_figures_none_of_which_is_empty(
    losses: list[float], tmp_path: Path
) -> None:
    search = study_view([trial_view(0, losses, state="failed", reason="no such layer")])
    arms = comparison_view({"base": [None], "low": [None]}, reason="no such layer")
    for view in (search, arms):
        made = make_report(view, NOW)
        assert not made.figures
        assert "Importances need" not in made.markdown
        heads = re.findall("^## (.*)", made.markdown, re.MULTILINE)
        assert heads[0] == "Failed trials"
        assert heads.count("Failed trials") == 1
        assert not {"How the search went", "Learning curves", "What mattered"} & set(heads)
        assert [file.name for file in write_report(made, tmp_path)] == ["report.html", "report.md"]


def test_tables_show_the_metrics_that_the_study_records() -> None:
    def scored(trial: TrialView) -> TrialView:
        metrics = ({"top2_accuracy": row.value / 10, "macro_f1": 0.25} for row in trial.curve)
        pairs = zip(trial.curve, metrics, strict=True)
        rows = (replace(row, metrics=found) for row, found in pairs)
        return replace(trial, curve=tuple(rows))

    search = study_view([trial_view(0, [0.5, 0.3, 0.4]), trial_view(1, state="failed")])
    arms = comparison_view({"base": [0.3, 0.5], "low": [None, None]})
    for view, shown, mean in ((search, "0.0300", 0.03), (arms, "0.0400 ± 0.0141", 0.04)):
        spec = replace(view.spec, metrics=("top2_accuracy", "macro_f1"))
        view = replace(view, spec=spec, trials=tuple(map(scored, view.trials)))
        ((first, *_), *_) = tables(view, "top2 accuracy", "macro f1")
        assert first["top2 accuracy"] == shown
        assert first["macro f1"].startswith("0.2500")
        study = Study.of(view)
        best, *_, failed = study.to_pandas().to_dict("records")
        assert (best["top2_accuracy"], best["macro_f1"]) == (pytest.approx(0.03), 0.25)
        assert math.isnan(failed["macro_f1"])
        assert study.to_pandas("leaderboard").top2_accuracy[0] == pytest.approx(mean)
