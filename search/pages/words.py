"""The functions and phrases that templates can use by name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from data.errors import grouped
from models.family import compact
from search.analysis import comparison, comparison_words, describe, findings, measures, wording
from search.figures.style import axis
from search.spec.space import make_config
from search.spec.study_file import write_study_file
from search.store.records import ResultRow
from search.store.views import StudyView, TrialView
from search.terminal import command_line, summary

MOST_REASON = 200  # characters


def in_utc(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def evaluation_in_words(result: ResultRow) -> str:
    """One test evaluation: when, which trial, and the result with seeds and spread."""
    seeds = ", ".join(map(str, result.seeds))
    of = "" if result.is_ours else " of an earlier study of this name"
    head = f"{in_utc(result.opened_at)}: trial {result.trial_number}{of}, seeds {seeds}"
    found = result.figures
    if found is None:
        return f"{head}: started, but not finished"
    accuracy = measures.recorded_accuracy(found)
    measure, images = measures.MEASURES["test_loss"], grouped(accuracy.images)
    loss = measure.shown(found["loss"]) + measure.of_seeds(found.get("loss_std"), accuracy.seeds)
    return f"{head}: accuracy {accuracy}, loss {loss}, on {images} images"


def evaluated_before(view: StudyView) -> str:
    """A warning if a test evaluation is not the first."""
    count = len(view.results)
    times = "once" if count == 1 else f"{count} times"
    return (
        f"The test set had been evaluated {times} before, first on "
        f"{in_utc(view.results[0].opened_at)}. Choosing among test evaluations biases the result "
        "upward: trust the first."
    )


def reason_in_words(trial: TrialView) -> str:
    """Why a trial failed, truncated; not escaped."""
    return (trial.reason or "for an unknown reason")[:MOST_REASON]


def value(trial: TrialView, name: str) -> str:
    """`0.2383`, `91.53` (percent), `221 950`, at the best epoch; empty if not measured."""
    found = measures.measured(trial, name)
    return "" if found is None else measures.measure_of(name).bare(found)


def listed(versions: Mapping[str, str]) -> str:
    """`torch 2.11, numpy 2.4`."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


_MODULES = comparison, comparison_words, describe, findings, measures, wording
_OURS = in_utc, evaluation_in_words, evaluated_before, reason_in_words, value, listed
_OTHERS = make_config, axis, compact, write_study_file
WORDS: dict[str, Any] = {
    name: it
    for module in (*_MODULES, command_line, summary)
    for name, it in vars(module).items()
    if name[0] != "_"
} | {function.__name__: function for function in (*_OURS, *_OTHERS)}
