"""One vocabulary for what becomes of trials."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest

from search.analysis.wording import MEANINGS, WORDS, all_counts, counts_in_words
from search.pages.note import study_note
from search.store.views import State, StudyView, TrialView
from search.terminal.summary import final_summary, standing_in_words, status_text

MakeTrial = Callable[..., TrialView]
MakeView = Callable[..., StudyView]


def test_every_state_has_a_word_and_a_meaning() -> None:
    assert WORDS.keys() == MEANINGS.keys() == set(get_args(State))


def test_counts_leave_out_what_there_is_none_of(make_trial: MakeTrial, make_view: MakeView) -> None:
    assert counts_in_words(make_view([])) == "0 complete"
    pruned = make_view([make_trial(0, [1.0], state="pruned")])
    assert counts_in_words(pruned) == "0 complete, 1 pruned"
    left = make_view([make_trial(0, [1.0], state="interrupted"), make_trial(1, state="waiting")])
    assert all_counts(left) == "0 complete, 1 interrupted, 1 queued"


@pytest.fixture
def interrupted(small_study: StudyView) -> StudyView:
    """Nobody trains: the one running trial was left by its worker."""
    trials = [replace(t, state="interrupted") if t.number == 6 else t for t in small_study.trials]
    return replace(small_study, trials=tuple(trials))


def test_an_interrupted_trial_is_called_so_everywhere(interrupted: StudyView) -> None:
    texts = [study_note(interrupted), status_text(interrupted), final_summary(interrupted)]
    for text in texts:
        words = " ".join(text.split())
        assert "2 failed, 1 interrupted, 1 queued" in words
        assert not re.search("abandoned|[0-9] running|[0-9] waiting", words)
    assert "the next worker carries it on" in texts[0]
    assert "no worker" not in texts[0]


def test_the_time_left_is_the_same_wherever_it_is_shown(
    small_study: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = max(t.reports[-1].reported_at for t in small_study.trials if t.reports)
    monkeypatch.setattr("time.time", lambda: latest)
    words = standing_in_words(small_study)
    assert re.fullmatch("about .* left, give or take .* %", words)
    assert f"Time: {words}." in status_text(small_study)
    assert f"{words[0].upper()}{words[1:]} as of " in study_note(small_study)


def test_an_estimate_without_workers_says_so(interrupted: StudyView) -> None:
    assert standing_in_words(interrupted, 1e12).endswith("with one worker; none is training now")
