"""Metrics, how they are written, and their stated uncertainty."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from statistics import stdev
from typing import Any

import numpy as np
import pytest

from search.analysis.final_result import figures_on_test, metrics
from search.analysis.measures import (
    MEASURES,
    accuracy_of,
    busy_seconds,
    legend,
    measure_of,
    measured,
    recorded_accuracy,
    sampling_error,
    time_spent,
)
from search.pages.final_page import final_text
from search.pages.note import study_note
from search.store.records import ResultRow
from search.store.views import StudyView
from search.terminal.summary import status_text
from tests.search.made_up_views import final_result, study_view, trial_view

Spans = list[tuple[float, float]]
LABELLED = re.compile(r"± [0-9.]+ (points \(one binomial|\(sampling\)|\([0-9]+ seeds\))")


def test_metrics_are_those_of_the_best_epoch() -> None:
    trial = trial_view(0, [0.6, 0.3, 0.45])
    assert measured(trial, "validation_loss") == 0.3
    assert measured(trial, "validation_accuracy") == pytest.approx(0.9)
    assert measured(trial, "train_loss") == pytest.approx(0.27)
    assert measured(trial, "parameters") == 221_950
    assert measured(trial, "test_accuracy") is None
    assert measured(trial_view(1, [math.nan]), "validation_loss") is None
    assert measured(trial_view(2), "train_error") is None
    for name in ("macro_f1", "tested_twice"):  # whatever a user's own metric is called
        rows = tuple(replace(row, metrics={name: row.epoch / 10}) for row in trial.curve)
        assert measured(replace(trial, curve=rows), name) == 0.2
    of_it = measure_of("macro_f1")
    assert (of_it.words, of_it.lower_is_better) == ("macro f1", False)


def test_metrics_as_text() -> None:
    loss, share, count = (MEASURES[n] for n in ("validation_loss", "test_accuracy", "parameters"))
    assert [loss.shown(0.23834), loss.shown(991_165.3)] == ["0.2383", "9.91e+05"]
    signed = list(map(loss.signed, (-0.0144, 0.0, -1e-5)))
    assert signed == ["−0.0144", "0.0000", "0.0000"]  # no sign before what is shown as zero
    assert (share.shown(0.9153), share.signed(0.0085)) == ("91.53 %", "+0.85")
    assert [count.shown(221_950), count.signed(1536)] == ["221 950", "+1 536"]


def test_the_sampling_error_is_binomial() -> None:
    """Compared with simulated test sets; zero mistakes are not certainty."""
    draws = np.random.default_rng(0).binomial(500, 0.9, 20_000) / 500
    assert sampling_error(0.9, 500) == pytest.approx(draws.std(), rel=0.03)
    assert 0 < sampling_error(1.0, 360) < sampling_error(0.99, 360)
    assert sampling_error(0.0, 360) == pytest.approx(sampling_error(1.0, 360))
    assert math.isfinite(sampling_error(0.5, 1))


def test_more_seeds_do_not_change_the_sampling_error() -> None:
    """The images stay the same, however many networks are scored on them."""
    one, two = accuracy_of([0.02], 360), accuracy_of([0.01, 0.03], 360)
    assert one.sampling_error == pytest.approx(two.sampling_error)
    assert two.seed_std == pytest.approx(stdev([0.01, 0.03]))
    assert str(one) == "98.00 % ± 0.74 (sampling)"
    assert str(two) == "98.00 % ± 0.74 (sampling) ± 1.41 (2 seeds)"
    assert "one binomial standard error of 10 000 images" in legend(10_000)
    assert "one seed" in legend(10_000)
    assert "± (3 seeds) is the standard deviation" in legend(10_000, 3)


def test_recorded_results_read_as_they_were_computed(
    result_row: ResultRow, small_study: StudyView
) -> None:
    for accuracies in [(0.93,), (0.93, 0.94, 0.95)]:
        final = final_result(accuracies=accuracies)
        figures = json.loads(json.dumps(figures_on_test(final)))
        told = str(accuracy_of([1 - accuracy for accuracy in accuracies], final.test_count))
        assert str(recorded_accuracy(figures)) == told == figures["uncertainty"]["in_words"]
        read = replace(small_study, results=(replace(result_row, figures=figures),))
        assert told in " ".join(study_note(read).split())
        assert told in " ".join(final_text(final).split())
        # As recorded by an earlier version, without the new key.
        del figures["uncertainty"]
        assert str(recorded_accuracy(figures)) == told
    test: dict[str, Any] = metrics(final_result(accuracies=(0.93, 0.94)))["test"]
    assert test["std"] == pytest.approx(stdev([0.93, 0.94])) == test["uncertainty"]["seed_std"]
    assert "binomial" in test["uncertainty"]["meaning"]


def test_every_plus_minus_has_its_label(small_study: StudyView, result_row: ResultRow) -> None:
    study = replace(small_study, results=(result_row,))
    texts = [study_note(study), status_text(study)]
    texts += [final_text(final_result(accuracies=a)) for a in ((0.93,), (0.93, 0.94))]
    for text in texts:
        # In columns, explained by their caption, a ± stands between two numbers of one cell.
        prose = [line for line in text.splitlines() if not re.match(r"(training|test) \(", line)]
        said = " ".join(" ".join(prose).split())
        for place in re.finditer(r"± [0-9]", said):
            start = place.start()
            assert LABELLED.match(said[start:]), said[max(0, start - 40) : start + 40]


def study_of(*trials: Spans) -> StudyView:
    """A study with one trial for each list of (start, end) of its reports."""
    made = []
    for number, spans in enumerate(trials):
        plain = trial_view(number, [0.5] * len(spans))
        worker = f"host:{number}:a"
        rows = [
            replace(row, reported_at=1e9 + end, seconds=end - start, worker=worker)
            for row, (start, end) in zip(plain.curve, spans, strict=True)
        ]
        made.append(replace(plain, curve=tuple(rows)))
    return study_view(made)


def test_pauses_do_not_count_and_parallel_trials_count_once() -> None:
    assert busy_seconds(study_of([(0, 10), (10, 20), (50_000, 50_010)])) == pytest.approx(30)
    assert busy_seconds(study_of([(0, 30)], [(10, 20), (20, 40)], [(5, 35)])) == pytest.approx(40)
    assert busy_seconds(study_of()) == 0
    # Two that take turns in one worker: each reports at 20 and at 40, after 10 seconds of its own.
    turns = study_of([(10, 20), (30, 40)], [(10, 20), (30, 40)])
    one = [
        replace(it, curve=tuple(replace(row, worker="host:0:a") for row in it.curve))
        for it in turns.trials
    ]
    assert busy_seconds(replace(turns, trials=tuple(one))) == pytest.approx(40)
    assert time_spent(study_of([(0, 10), (10, 200)])) == "3 min, pauses not counted"
    together = study_of([(0, 600)], [(0, 600)], [(5_000, 5_600)])
    words = "20 min (30 min added up over trials), pauses not counted"
    assert time_spent(together) == words
    for text in (study_note(together), " ".join(status_text(together).split())):
        assert f"Trained for {words}" in text
