"""A study in plain words."""

from __future__ import annotations

import math
from dataclasses import replace

from search.analysis.findings import stopped_trials
from search.analysis.time_left import TimeLeft
from search.store.views import StudyView, TrialView
from search.terminal.status import time_left_in_words
from search.terminal.summary import (
    WIDTH,
    fallback_notice,
    gain_in_words,
    score_in_words,
    status_text,
)
from tests.search.made_up_views import comparison_view, study_view, trial_view


def flat(text: str) -> str:
    """Without line breaks and indents."""
    return " ".join(text.split())


def test_summary_says_what_was_found(small_study: StudyView) -> None:
    for line in status_text(small_study).splitlines():
        assert len(line) <= WIDTH
        assert not line.endswith(("±", " 10", " 50"))
    for said in (
        "Study fashion: 6 of 50 trials finished (4 complete, 2 pruned, 2 failed, ",
        "Fashion-MNIST, 50 000 training and 10 000 validation images. 2 cores",
        "Best: trial 3",
        "cnn, channels 32, 64",
        "300 000 parameters",
        "validation loss 0.2500, accuracy 91.67 % ± 0.28 (sampling), epoch 2 of 3",
        "baseline loss 0.4000, accuracy 86.67 % ± 0.34 (sampling), epoch 3 of 3, trial 0",
        "gained loss 0.1500 lower and accuracy 5.00 points higher",
        "± (sampling) is one binomial standard error of 10 000 images",
        "The best of 6 trials was picked on the images that it is judged by",
        "python -m search.finalize --study fashion",
    ):
        assert said in flat(status_text(small_study))


def test_the_gain_over_the_baseline_in_words() -> None:
    baseline = trial_view(0, [0.3], is_baseline=True)

    def gain(*trials: TrialView) -> str | None:
        return gain_in_words(study_view(trials))

    assert gain(baseline, trial_view(1, [0.4])) is None  # the best is the baseline itself
    assert gain(trial_view(0, [0.4])) is None
    assert gain(baseline, trial_view(1, [0.299])) == (
        "loss 0.0010 lower and accuracy 0.03 points higher, which is within the sampling error"
    )
    few = study_view([trial_view(0, [0.3], is_baseline=True), trial_view(1, [0.1])])
    few = replace(few, dataset=replace(few.dataset, validation_count=20))
    said = gain_in_words(few)  # 1.3 images
    assert (
        said
        == "loss 0.2000 lower and accuracy 6.67 points higher, which is within the sampling error"
    )
    mixed = trial_view(1, [0.29])
    mixed = replace(mixed, curve=(replace(mixed.curve[0], validation_error=0.12),))
    assert gain(baseline, mixed) == "loss 0.0100 lower but accuracy 2.00 points lower"
    worse = trial_view(2, [0.4])
    mixed = replace(worse, curve=(replace(worse.curve[0], validation_error=0.08),))
    view = study_view([baseline, trial_view(1, [0.1]), worse])
    assert gain_in_words(view, worse) == "loss 0.1000 higher and accuracy 3.33 points lower"
    assert gain_in_words(view, mixed) == "loss 0.1000 higher but accuracy 2.00 points higher"
    assert gain_in_words(view, baseline) is None
    spec = replace(view.spec, objective="validation_error")
    judged = [
        replace(it, curve=(replace(it.curve[0], value=it.curve[0].validation_error),))
        for it in view.trials
    ]
    errors = replace(study_view(judged), spec=spec)
    assert gain_in_words(errors, judged[2]) == (
        "error 3.33 points higher and accuracy 3.33 points lower"
    )
    # With several workers, others may end before the baseline does.
    assert gain(replace(baseline, state="running"), trial_view(1, [0.4])) is None


def test_without_complete_trials_the_failures_are_listed() -> None:
    failed = trial_view(0, [math.nan], state="failed", reason="loss is nan\x1b[2J in epoch 1")
    assert "0 of 50 trials finished (0 complete)" in status_text(study_view([]))
    text = status_text(study_view([failed]))
    assert "no best one" in text
    assert "trial 0: loss is nan" in text
    assert "\x1b" not in text
    assert "search.finalize" not in text
    assert "python -m search.study --study fashion   # the other 50 trials" in text


def test_a_trial_stopped_within_its_first_epoch_has_a_score() -> None:
    view = study_view([])
    assert score_in_words(trial_view(1, early=0.9, state="pruned"), view) == (
        "loss 0.9000, accuracy 70.00 % ± 0.79 (sampling)"  # on a third of the images
    )
    assert score_in_words(trial_view(1, early=math.nan, state="failed"), view) == "no finite loss"
    assert score_in_words(trial_view(1), view) == "no finite loss"
    trial = trial_view(1, [0.3])
    more = replace(trial, curve=(replace(trial.curve[0], metrics={"macro_f1": 0.92511}),))
    view = replace(view, spec=replace(view.spec, metrics=("macro_f1",)))
    assert score_in_words(more, view).endswith("± 0.30 (sampling), macro f1 0.9251")


def test_the_time_left_is_stated_with_its_spread() -> None:
    assert time_left_in_words(None) == "no estimate yet"
    assert time_left_in_words(TimeLeft(840, 0.4)) == "about 14 min left, give or take 40 %"
    assert time_left_in_words(TimeLeft(0.4, 0.4)) == "moments left"
    assert time_left_in_words(TimeLeft(0.0, 0.0)) == "done"


def test_a_study_that_nothing_trains(small_study: StudyView) -> None:
    trials = [replace(t, state="interrupted") if t.number == 6 else t for t in small_study.trials]
    text = flat(status_text(replace(small_study, trials=tuple(trials))))
    assert " with one worker; none is training now." in text
    assert "with one worker" not in flat(status_text(small_study))
    done = replace(small_study, spec=replace(small_study.spec, trials=6))
    assert "left" not in status_text(done)


def test_arms_with_long_names_are_told_apart() -> None:
    names = [f"32, 64, 64, kernels 5, {size}, 3" for size in (3, 5)]
    text = status_text(comparison_view({name: [0.5] for name in names}))
    assert "\n32, 64, 64, …els 5, 3, 3  " in text
    assert "\n32, 64, 64, …els 5, 5, 3  " in text


def test_fallback_notice_is_a_box_around_the_reason() -> None:
    notice = fallback_notice("no files in /a/very/long" * 9 + "\x1b[31m, and no network.")
    lines = notice.splitlines()
    assert max(map(len, lines)) == WIDTH
    assert "\x1b" not in notice
    assert "runs on digits instead" in flat(notice.replace("!", ""))
    assert "network. This" in flat(notice.replace("!", ""))


def test_stopped_trials_are_ordered_by_how_far_they_got() -> None:
    curves = [[0.9, 0.8], [0.5], [0.9, 0.7], []]
    view = study_view([trial_view(n, curve, state="pruned") for n, curve in enumerate(curves)])
    assert [trial.number for trial in stopped_trials(view, 3)] == [2, 0, 1]
    assert len(stopped_trials(view, 1)) == 1
