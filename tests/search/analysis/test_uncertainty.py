"""One meaning of each ±, and its label beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from statistics import stdev
from typing import Any

import numpy as np
import pytest

from search.analysis.final_result import FinalResult, figures_on_test, metrics
from search.analysis.measures import accuracy_of, legend, recorded_accuracy, sampling_error
from search.pages.final_page import final_text
from search.pages.note import evaluation_in_words, study_note
from search.store.records import ResultRow
from search.store.views import StudyView
from search.terminal.summary import final_summary

LABELLED = re.compile(r"± [0-9.]+ (points \(one binomial|\(sampling\)|\([0-9]+ seeds\))")


def test_one_run_has_the_sampling_error_of_its_images() -> None:
    assert str(accuracy_of([0.07], 10_000)) == "93.00 % ± 0.26 (sampling)"
    # Ten times the images: smaller by the root of ten.
    assert str(accuracy_of([0.07], 100_000)) == "93.00 % ± 0.08 (sampling)"


def test_more_seeds_leave_the_meaning_of_the_first_sign() -> None:
    """The images stay the same, however many networks are scored on them."""
    one, two = accuracy_of([0.02], 360), accuracy_of([0.01, 0.03], 360)
    assert one.sampling_error == pytest.approx(two.sampling_error)
    assert one.seed_std is None
    assert two.seed_std == pytest.approx(stdev([0.01, 0.03]))
    assert str(one) == "98.00 % ± 0.74 (sampling)"
    assert str(two) == "98.00 % ± 0.74 (sampling) ± 1.41 (2 seeds)"


def test_the_sampling_error_is_that_of_counting() -> None:
    """Against what drawing test sets gives."""
    draws = np.random.default_rng(0).binomial(500, 0.9, 20_000) / 500
    assert sampling_error(0.9, 500) == pytest.approx(draws.std(), rel=0.03)


def test_no_mistake_is_not_certainty() -> None:
    assert 0 < sampling_error(1.0, 360) < sampling_error(0.99, 360)
    assert sampling_error(0.0, 360) == pytest.approx(sampling_error(1.0, 360))
    assert math.isfinite(sampling_error(0.5, 1))


def test_what_was_recorded_reads_as_it_was_computed(
    make_final: Callable[..., FinalResult], result_row: ResultRow
) -> None:
    for accuracies in [(0.93,), (0.93, 0.94, 0.95)]:
        final = make_final(accuracies=accuracies)
        figures = json.loads(json.dumps(figures_on_test(final)))
        told = str(accuracy_of([1 - accuracy for accuracy in accuracies], final.test_count))
        assert str(recorded_accuracy(figures)) == told == figures["uncertainty"]["in_words"]
        assert told in evaluation_in_words(replace(result_row, figures=figures))
        assert told in " ".join(final_text(final).split())
        # One that an earlier version recorded, without the new key.
        del figures["uncertainty"]
        assert str(recorded_accuracy(figures)) == told


def test_metrics_keep_their_keys_and_name_what_is_new(
    make_final: Callable[..., FinalResult],
) -> None:
    test: dict[str, Any] = metrics(make_final(accuracies=(0.93, 0.94)))["test"]
    assert test["std"] == pytest.approx(stdev([0.93, 0.94])) == test["uncertainty"]["seed_std"]
    assert test["uncertainty"]["sampling_error"] == pytest.approx(math.sqrt(0.935 * 0.065 / 500))
    assert "binomial" in test["uncertainty"]["meaning"]
    validation = metrics(make_final(accuracies=(0.93,)))["validation"]
    assert validation["uncertainty"]["seed_std"] is None


def test_no_sign_stands_without_its_label(
    small_study: StudyView, result_row: ResultRow, make_final: Callable[..., FinalResult]
) -> None:
    study = replace(small_study, results=(result_row,))
    texts = [study_note(study), final_summary(study)]
    texts += [final_text(make_final(accuracies=a)) for a in ((0.93,), (0.93, 0.94))]
    for text in texts:
        # In columns, which their caption explains, a ± stands between two numbers of one cell.
        prose = [line for line in text.splitlines() if not re.match(r"(training|test) \(", line)]
        said = " ".join(" ".join(prose).split())
        for place in re.finditer(r"± [0-9]", said):
            start = place.start()
            assert LABELLED.match(said[start:]), said[max(0, start - 40) : start + 40]


def test_the_legend_explains_both_signs() -> None:
    assert "one binomial standard error of 10 000 images" in legend(10_000)
    assert "one seed" in legend(10_000)
    assert "± (3 seeds) is the standard deviation" in legend(10_000, 3)
