"""Speed, from the times of reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from search.analysis.measures import busy_seconds, images_per_second, time_spent
from search.figures.study import time_by_outcome
from search.pages.note import study_note
from search.pages.report import make_report
from search.store.views import StudyView, TrialView
from search.terminal.summary import final_summary

Spans = list[tuple[float, float]]


@pytest.fixture
def study(
    make_trial: Callable[..., TrialView], make_view: Callable[..., StudyView]
) -> Callable[..., StudyView]:
    """A study of one trial for each list of (start, end) of its reports, 1000 images each."""

    def make(*trials: Spans) -> StudyView:
        made = []
        for number, spans in enumerate(trials):
            plain = make_trial(number, [0.5] * len(spans))
            rows = [
                replace(row, reported_at=1e9 + end, seconds=end - start, images=1000)
                for row, (start, end) in zip(plain.curve, spans, strict=True)
            ]
            made.append(replace(plain, curve=tuple(rows)))
        return make_view(made)

    return make


def test_pauses_count_for_nothing(study: Callable[..., StudyView]) -> None:
    assert busy_seconds(study([(0, 10), (10, 20), (50_000, 50_010)])) == pytest.approx(30)


def test_time_of_parallel_trials_counts_once(study: Callable[..., StudyView]) -> None:
    assert busy_seconds(study([(0, 30)], [(10, 20), (20, 40)], [(5, 35)])) == pytest.approx(40)


def test_speed_adds_up_over_parallel_trials(study: Callable[..., StudyView]) -> None:
    assert images_per_second(study([(0, 10), (10, 20)])) == pytest.approx(100)
    assert images_per_second(study([(0, 10), (10, 20)], [(0, 10), (10, 20)])) == pytest.approx(200)


def test_speed_is_that_of_the_last_minute(study: Callable[..., StudyView]) -> None:
    """20 seconds of the slow report, at one image a second, and two fast ones."""
    slow_then_fast = [(0, 1000), (1000, 2000), (2000, 2020), (2020, 2040)]
    assert images_per_second(study(slow_then_fast)) == pytest.approx((20 + 2 * 1000) / 60)


def test_without_reports_there_is_no_speed(study: Callable[..., StudyView]) -> None:
    assert images_per_second(study([])) is None
    assert images_per_second(study([(5, 5)])) is None
    assert busy_seconds(study()) == 0


def test_both_times_are_named_for_what_they_are(study: Callable[..., StudyView]) -> None:
    alone = study([(0, 10), (10, 200)])
    assert time_spent(alone) == "3 min, pauses not counted"
    together = study([(0, 600)], [(0, 600)], [(5_000, 5_600)])
    words = "20 min (30 min added up over trials), pauses not counted"
    assert time_spent(together) == words
    for text in (study_note(together), " ".join(final_summary(together).split())):
        assert f"Trained for {words}" in text
    report = make_report(together, datetime(2026, 3, 5, tzinfo=UTC))
    assert f"- trained for: **{words}**" in report.markdown
    assert "30 min added up over trials" in str(time_by_outcome(together).layout.title)
