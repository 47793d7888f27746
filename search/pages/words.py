"""The functions and phrases that templates call by their names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from models.family import compact
from search.analysis import comparison, comparison_words, findings, measures, wording
from search.analysis.describe import describe_config, short_config
from search.figures.style import axis
from search.spec.space import arm_config
from search.spec.study_file import write_study_file
from search.store.records import ResultRow
from search.store.views import TrialView
from search.terminal import command_line, summary
from search.terminal.command_line import as_called

MOST_REASON = 200  # characters


def in_utc(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def evaluation_in_words(result: ResultRow) -> str:
    """One test evaluation: when, which trial, what came out, with seeds and spread."""
    head = (
        f"{in_utc(result.opened_at)}: trial {result.trial_number}, "
        f"seeds {', '.join(map(str, result.seeds))}"
    )
    found = result.figures
    if found is None:
        return f"{head}: begun, but not ended"
    accuracy = measures.recorded_accuracy(found)
    seeds = measures.seeds_in_words(found.get("loss_std"), accuracy.seeds, 4)
    return (
        f"{head}: accuracy {accuracy}, loss {found['loss']:.4f}{seeds}, on "
        f"{wording.grouped(accuracy.images)} images"
    )


def reason_in_words(trial: TrialView) -> str:
    """Why a trial failed, cut; not escaped."""
    return (trial.reason or "for an unknown reason")[:MOST_REASON]


def value(trial: TrialView, name: str) -> str:
    """`0.2383`, `91.53` (percent), `221 950`, at the best epoch; empty where not measured."""
    found, measure = measures.measured(trial, name), measures.measure_of(name)
    return "" if found is None else measure.bare(found)


def listed(versions: Mapping[str, str]) -> str:
    """`torch 2.11, numpy 2.4`."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


_CALLED = (
    *(in_utc, evaluation_in_words, reason_in_words, value, listed, compact, arm_config, as_called),
    *(axis, measures.objective_in_words),
    *(describe_config, short_config, write_study_file),
    *(comparison.against_base, comparison_words.changes_in_words, comparison_words.mean_in_words),
    *(comparison_words.interval_in_words, comparison_words.p_in_words, command_line.command),
    *(comparison_words.trained_in_words, comparison_words.value_in_words),
    *(comparison_words.verdict_in_words, findings.named, findings.overfitting_in_words),
    *(findings.stop_in_words, measures.accuracy_of, measures.legend, measures.measure_of),
    *(measures.sampling_error, measures.time_spent, summary.gain_in_words, summary.score_in_words),
    *(wording.all_counts, wording.counts_in_words, wording.data_in_words, wording.duration),
    *(wording.grouped, wording.mean_and_spread, wording.notes_in_words, wording.percent),
    wording.split_in_words,
)
WORDS: Mapping[str, Any] = {
    **{function.__name__: function for function in _CALLED},
    "ALPHA": comparison.ALPHA,
    "SPREAD": comparison_words.SPREAD,
    "INTERVAL": comparison_words.INTERVAL,
    "AGAIN": command_line.AGAIN,
    "REPEATABLE": command_line.REPEATABLE,
    "MEANINGS": wording.MEANINGS,
}
