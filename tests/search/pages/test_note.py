from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from search.analysis.final_result import FinalResult, figures_on_test
from search.analysis.times import time_left_now
from search.analysis.wording import duration
from search.pages.note import escape, reading_in_words, study_note
from search.store.records import ResultRow
from search.store.views import StudyView

MakeTrial = Callable[..., Any]
MakeView = Callable[..., StudyView]
HOSTILE = "<script>alert(1)</script> <img src=x onerror=y> **b** `c` | [l](javascript:x) \n# h &lt;"


def tokens(markdown: str) -> Iterator[Token]:
    """Of a renderer that lets raw HTML through, as the dashboard's does."""
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown):
        yield token
        yield from token.children or []


def rows(markdown: str) -> list[list[str]]:
    """The cells of the first table, header left out."""
    html = MarkdownIt("commonmark").enable("table").render(markdown)
    body = html.split("<tbody>")[1].split("</tbody>")[0]
    return [
        [cell.split("</td>")[0].split(">", 1)[-1] for cell in row.split("<td")[1:]]
        for row in body.split("<tr>")[1:]
    ]


def test_the_leaderboard_has_complete_trials_then_stopped_ones(
    small_study: StudyView,
) -> None:
    table = rows(study_note(small_study))
    assert [row[:6] for row in table] == [
        ["1", "#3", "0.2500", "91.67 %", "300 000", "2 of 3"],
        ["2", "#1", "0.3000", "90.00 %", "400 000", "3 of 3"],
        ["3", "#0", "0.4000", "86.67 %", "221 950", "3 of 3"],
        ["4", "#9", "0.4400", "85.33 %", "60 000", "2 of 2"],
        ["", "#2", "0.6000", "80.00 %", "90 000", "2 of 2, pruned"],
    ]
    assert table[2][6].startswith("baseline: ")


def test_progress_counts_every_state(small_study: StudyView) -> None:
    note = study_note(small_study)
    assert (
        "**6 of 50 trials finished** (4 complete, 2 pruned, 2 failed, 1 running, 1 queued)" in note
    )
    assert "Trial 4 failed: out of memory: &#60;b&#62;GPU&#60;/b&#62;" in note


def test_the_note_says_how_far_the_study_is(
    make_view: MakeView, make_trial: MakeTrial, small_study: StudyView
) -> None:
    done = dataclasses.replace(small_study, spec=small_study.spec.with_total(6))
    assert "\nDone: **6 of 6 trials finished**" in study_note(done)
    assert "\nNot begun: **0 of 50" in study_note(make_view())
    # The estimate itself has its own tests.
    latest = max(t.reports[-1].reported_at for t in small_study.trials if t.reports)
    left = time_left_now(small_study, latest)
    assert left is not None
    assert 5 * 60 < left.seconds < 120 * 60
    about = f"\nAbout {duration(left.seconds)} left, give or take {100 * left.spread:.0f} %"
    assert f"{about} as of 2026-03-01 09:09 UTC: " in study_note(small_study)
    guess = study_note(make_view([make_trial(0, [0.5], state="running")]))
    assert " % as of 2026-03-01" in guess


def test_the_gain_is_told_with_its_spread(small_study: StudyView) -> None:
    note = study_note(small_study)
    assert "Best is trial 3: loss 0.2500, accuracy 91.67 % ± 0.28 (sampling)" in note
    assert "The baseline, trial 0: loss 0.4000, accuracy 86.67 % ± 0.34 (sampling)" in note
    assert "Gained: loss 0.1500 lower and accuracy 5.00 points higher" in note


def test_data_split_and_commands_are_there(small_study: StudyView) -> None:
    note = study_note(small_study)
    assert "50 000 training and 10 000 validation images, 5 classes, 1 × 28 × 28 pixels" in note
    assert "stratified split, seed 7" in note
    assert (
        "python -m search.study --study fashion --storage sqlite:///studies.db --trials 100" in note
    )


def test_no_password_reaches_the_note(make_view: MakeView) -> None:
    note = study_note(make_view(storage="postgresql://me:***@host/db"))
    assert "--storage postgresql://me@host/db" in note
    assert "***" not in note


def test_nothing_that_people_typed_becomes_markup(
    make_view: MakeView, make_trial: MakeTrial
) -> None:
    trials = [make_trial(0, [0.5]), make_trial(1, state="failed", reason=HOSTILE)]
    storage = "sqlite:///a```\n<script>x</script>.db"
    hostile = make_view(trials, title=HOSTILE, data_title=HOSTILE, storage=storage)
    tame = make_view(
        [trials[0], make_trial(1, state="failed", reason="r")], title="t", data_title="d"
    )
    kinds = [token.type for token in tokens(study_note(hostile))]
    assert "html_block" not in kinds
    assert "html_inline" not in kinds
    # Not one heading, link, cell or code block more than without.
    assert [k for k in kinds if k != "text"] == [
        token.type for token in tokens(study_note(tame)) if token.type != "text"
    ]


def test_escaped_text_reads_as_typed() -> None:
    typed = "a_b *c* <d> & `e` | #f ~g~ \\h [i](j)"
    assert MarkdownIt("commonmark").renderInline(escape(typed)) == (
        typed.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def test_readings_of_the_test_set_carry_date_seeds_and_spread(
    make_view: MakeView, result_row: ResultRow
) -> None:
    assert "Not opened yet." in study_note(make_view())
    unfinished = dataclasses.replace(result_row, figures=None)
    alone = {**(result_row.figures or {}), "std": None, "loss_std": None, "seeds": 1}
    single = dataclasses.replace(result_row, seeds=(5,), figures=alone)
    note = study_note(make_view(results=[result_row, unfinished, single]))
    assert (
        "- 2026-03-02 10:30 UTC: trial 3, seeds 0, 1, 2: accuracy 93.12 % ± 0.25 (sampling) ± 0.12 "
        "(3 seeds), loss 0.2101 ± 0.0030 (3 seeds), on 10 000 images"
    ) in note
    assert "seeds 0, 1, 2: opened, but scoring did not end" in note
    assert "seeds 5: accuracy 93.12 % ± 0.25 (sampling), loss 0.2101, on 10 000 images" in note


def test_what_finalize_records_is_what_is_read(
    make_final: Callable[..., FinalResult], result_row: ResultRow
) -> None:
    figures = figures_on_test(make_final(accuracies=(0.93, 0.94)))
    words = reading_in_words(dataclasses.replace(result_row, seeds=(0, 1), figures=figures))
    assert "accuracy 93.50 % ± 1.10 (sampling) ± 0.71 (2 seeds), loss 0.2050 ± 0.0071 (2" in words


@pytest.mark.parametrize("trials", [0, 1000])
def test_any_study_has_a_short_note(
    trials: int, big_study: Callable[[int, int], StudyView]
) -> None:
    assert 500 < len(study_note(big_study(trials, 12))) < 6_000


def test_the_dashboards_own_importances_are_explained(
    small_study: StudyView, make_comparison: MakeView
) -> None:
    note = study_note(small_study)
    assert "made from the 4 complete trials alone, without the 2 pruned ones" in note
    assert "What mattered" not in study_note(make_comparison({"base": [0.5]}))
