"""One frame of the live view, rendered as a terminal of a given size would show it."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from search.analysis.time_left import time_left
from search.spec.config import StudySpec
from search.store.views import State, StudyView, TrialView
from search.terminal.frame import epochs_done, frame, outcome
from search.terminal.status import time_left_in_words
from search.terminal.summary import status_text
from tests.search.made_up_views import comparison_view, study_view, trial_view


def shown(view: StudyView, *, width: int = 80, height: int = 24) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, height=height)
    console.print(frame(view, height=height - 1, elapsed=492))
    return file.getvalue()


def test_a_frame_shows_the_state_of_a_study(small_study: StudyView) -> None:
    lines = [line.strip() for line in shown(small_study, width=120).splitlines()]
    assert lines[0] == "fashion  Fashion-MNIST, 50 000 training and 10 000 validation images"
    assert lines[1] == "2 cores of a test machine"
    left = time_left_in_words(time_left(small_study))
    assert lines[2].endswith(f"6/50 trials  0:08:12 elapsed  {left}")
    assert lines[3].startswith("4 complete, 2 pruned, 2 failed, 1 running")
    running = next(line for line in lines if line.split()[:2] == ["6", "1/12"])
    for part in ("0.5000", "83.33 %", "32-64, lr 0.001"):
        assert part in running
    assert any(line.startswith("best    trial 3: loss 0.2500") for line in lines)
    assert any(line.startswith("gained  loss 0.1500 lower") for line in lines)


def test_the_bar_counts_whole_trainings_beyond_the_budget() -> None:
    """10 trials with a budget of 13 epochs, which are spent before two of them are complete."""
    trials = [trial_view(0, [0.5] * 10), *(trial_view(n, [0.6], state="paused") for n in (1, 2, 3))]
    spec = StudySpec(dataset="digits", trials=10, epochs=10, pruner="promotion", budget=0.13)

    def share(*trials: TrialView) -> float:
        view = replace(study_view(trials), spec=spec)
        bar = shown(view, width=200).splitlines()[2].split(f"  {view.finished}/10 trials")[0]
        return bar.count("━") / len(bar)

    assert 0.4 < share(*trials) < 0.6
    assert share(*(trial_view(number, [0.5]) for number in range(10))) == 1


def test_the_trial_ahead_is_shown_apart_from_the_table() -> None:
    running, complete = trial_view(1, [0.5], state="running"), trial_view(0, [0.6])
    ahead, best = "ahead   trial 1: loss 0.5000", "best    trial 0: loss 0.6000"
    for trials, lines in (([running], ["", ahead]), ([complete, running], ["", best, ahead])):
        printed = shown(study_view(trials)).splitlines()[-len(lines) - 1 : -1]
        assert [line[: len(ahead)].strip() for line in printed] == lines


@pytest.mark.parametrize(("width", "height"), [(60, 15), (80, 24), (200, 50)])
def test_a_frame_fits_its_terminal(width: int, height: int) -> None:
    running = [trial_view(n, [0.5], state="running") for n in range(1, 9)]
    ended = [trial_view(n, [0.5], state="pruned") for n in range(9, 30)]
    failed = [trial_view(n, state="failed", reason="because " * 50) for n in range(30, 33)]
    view = study_view([trial_view(0, [0.4], is_baseline=True), *running, *ended, *failed])
    lines = shown(view, width=width, height=height).splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    rows = [line.split()[:2] for line in lines if line.split()]
    assert [row[0] for row in rows if row[1:] == ["1/12"]][:2] == ["1", "2"]


def test_frames_of_studies_in_every_state_can_be_drawn(small_study: StudyView) -> None:
    empty = shown(study_view([]))
    assert "0/50 trials" in empty
    assert "no estimate yet" in empty
    assert shown(replace(small_study, spec=replace(small_study.spec, trials=6))).count("done") == 1
    no_config = replace(trial_view(0, state="running"), config=None)
    assert "0/12" in shown(study_view([no_config]))
    assert "nan" in shown(study_view([trial_view(0, [math.nan], state="running")]))
    failed = trial_view(4, state="failed", reason="[bold red]out\x1b[2J of\nmemory[/]")
    text = shown(study_view([failed]), width=120)
    assert "[bold red]out" in text  # no markup was parsed
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("state", "losses", "early", "words", "done"),
    [
        ("pruned", [1.0, 1.0], None, "pruned at epoch 2", "2/12"),
        ("pruned", [], 1.0, "pruned in epoch 1", "0.3/12"),
        ("paused", [1.0], None, "paused at epoch 1", "1/12"),
        ("complete", [1.0] * 3, 1.0, "complete", "3/12"),
        ("running", [], None, "running", "0/12"),
    ],
)
def test_outcomes(state: State, losses: list[float], early: float, words: str, done: str) -> None:
    trial = trial_view(0, losses, early=early, state=state)
    assert (outcome(trial), epochs_done(trial, study_view([]))) == (words, done)


def test_arms_are_shown_best_first() -> None:
    losses = {"base": [0.5, 0.6, None], "dropout": [0.3, 0.4, 0.5], "none yet": []}
    lines = shown(comparison_view(losses, repeats=3)).splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("arm  "))
    names = [line.split("  ")[0] for line in lines[head + 1 : head + 4]]
    assert names == ["dropout", "base", "none yet"]
    assert "0.4000 ± 0.1000" in lines[head + 1]
    assert "86.67 ± 3.33" in lines[head + 1]
    assert "2 of 3, 1 diverged  0.5500 ± 0.0707" in lines[head + 2]
    many = comparison_view({f"arm {n}": [0.3 + n / 100] for n in range(40)})
    text = shown(many)
    assert len(text.splitlines()) < 24
    assert "arm 0 " in text
    assert "0.3000" in status_text(many)
    assert "arm 39" in status_text(many)
