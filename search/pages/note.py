"""The study's note in optuna-dashboard: Markdown whose raw HTML reaches the browser unsanitised."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import count

from search.analysis.describe import describe_config, short_config
from search.analysis.findings import (
    named,
    overfitting_in_words,
    stop_in_words,
    stopped_trials,
)
from search.analysis.measures import recorded_accuracy, sampling_error, seeds_in_words, time_spent
from search.analysis.wording import (
    MEANINGS,
    all_counts,
    data_in_words,
    grouped,
    notes_in_words,
    percent,
    split_in_words,
)
from search.pages.render import listed, markdown
from search.spec.study_file import write_study_file
from search.store.records import ResultRow
from search.store.views import StudyView, TrialView
from search.terminal.command_line import as_called
from search.terminal.reproduce import AGAIN, REPEATABLE, command
from search.terminal.summary import gain_in_words, score_in_words, standing_in_words

TOP = 10
FAILURES = 3  # shown, the latest
MOST_REASON = 200  # characters

BEGIN = (
    "<!-- cnn-search: begin. What stands up to the end mark is rewritten; write above or below -->"
)
END = "<!-- cnn-search: end -->"
# Each on a line of its own, where no text has them that a study file or a class name brings in.
_BEGIN = re.compile(r"^<!-- cnn-search: begin\b[^\n]*-->[ \t]*\r?\n", re.MULTILINE)
_END = re.compile(r"^<!-- cnn-search: end -->[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
# Its beginning and its end, as the versions wrote them that knew no marks.
_FIRST = re.compile(r"^# [^\n]*\n\n[^\n]*\btrials finished\*\*", re.MULTILINE)
_LAST = re.compile(r"^(`{3,})toml\n.*?^\1(?:\n|\Z)", re.MULTILINE | re.DOTALL)


def study_note(view: StudyView) -> str:
    """Markdown: progress, leaderboard, gain over the baseline, test evaluations, data, commands.

    About 4 kB, however long the study.
    """
    spec, best, baseline = view.spec, view.best, view.baseline
    ranked = view.leaderboard[:TOP]
    stopped = stopped_trials(view, TOP - len(ranked)) if ranked else []
    channels, height, width = view.dataset.image_shape
    findings = (best and overfitting_in_words(best), stop_in_words(view))
    error = best.best.validation_error if best and best.best else 0.0
    flag, total = ("--repeats", spec.repeats) if spec.is_comparison else ("--trials", spec.trials)
    more = command("study", view, flag, str(2 * total))
    return markdown(
        "note.md",
        view=view,
        standing=_standing(view),
        counts=all_counts(view),
        time=time_spent(view),
        interrupted=MEANINGS["interrupted"] if view.in_state("interrupted") else "",
        failures=[(t.number, reason_in_words(t)) for t in view.in_state("failed")[-FAILURES:]],
        ranked=[*map(_row, count(1), ranked), *(_row(None, trial) for trial in stopped)],
        pruned=MEANINGS["pruned"] if stopped else "",
        sampling_error=f"{100 * sampling_error(error, view.dataset.validation_count):.2f}",
        best=best,
        best_name=best and named(best),
        best_score=best and score_in_words(best, view),
        best_config=best and best.config and describe_config(best.config, best.parameters),
        findings=list(filter(None, findings)),
        baseline=baseline,
        baseline_score=baseline and score_in_words(baseline, view),
        gain=gain_in_words(view) or "unknown yet",
        evaluations=map(evaluation_in_words, view.results),
        machine=[
            f"{data_in_words(view)}, {len(view.dataset.class_names)} classes, {channels} × "
            f"{height} × {width} pixels; {split_in_words(view)}",
            *notes_in_words(view),
            view.hardware,
            listed(view.versions),
        ],
        commands={
            "report": command("report", view),
            "more": f"{more}\n{command('finalize', view)}",
            "again": as_called(AGAIN),
        },
        repeatable=REPEATABLE,
        study_file=write_study_file(spec),
    )


def _standing(view: StudyView) -> str:
    """`Done`, or `About 14 min left` as of the latest report: the note may outlive its study."""
    latest = max((t.reports[-1].reported_at for t in view.trials if t.reports), default=None)
    if latest is None:
        return "Not begun"
    if view.finished >= view.spec.trials:
        return "Done"
    left = standing_in_words(view, latest)
    when = in_utc(datetime.fromtimestamp(latest, UTC))
    return f"{left[0].upper()}{left[1:]} as of {when}"


def reason_in_words(trial: TrialView) -> str:
    """Why a trial failed, cut; not escaped."""
    return (trial.reason or "for an unknown reason")[:MOST_REASON]


def _row(rank: int | None, trial: TrialView) -> tuple[str, ...]:
    """At the epoch of the lowest validation loss; pruned trials have no rank."""
    best = trial.best
    assert best is not None
    described = "" if trial.config is None else short_config(trial.config)
    return (
        "" if rank is None else str(rank),
        f"#{trial.number}",
        f"{best.validation_loss:.4f}",
        percent(1 - best.validation_error),
        "" if trial.parameters is None else grouped(trial.parameters),
        f"{best.epoch} of {len(trial.curve)}" + ("" if rank else ", pruned"),
        f"baseline: {described}" if trial.is_baseline else described,
    )


def evaluation_in_words(result: ResultRow) -> str:
    """One test evaluation: when, which trial, what came out, with seeds and spread."""
    head = (
        f"{in_utc(result.opened_at)}: trial {result.trial_number}, "
        f"seeds {', '.join(map(str, result.seeds))}"
    )
    found = result.figures
    if found is None:
        return f"{head}: begun, but not ended"
    accuracy = recorded_accuracy(found)
    seeds = seeds_in_words(found.get("loss_std"), accuracy.seeds, 4)
    return (
        f"{head}: accuracy {accuracy}, loss {found['loss']:.4f}{seeds}, on "
        f"{grouped(accuracy.images)} images"
    )


def in_utc(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def placed(ours: str, note: str) -> str:
    """A study's note with our part, in Markdown, in place of the one that it had, else behind it.

    What people wrote around our part stays to the letter.
    """
    section = f"{BEGIN}\n\n{ours.rstrip()}\n\n{END}\n"
    found = _marked(note) or _unmarked(note)
    if found is not None:
        return note[: found[0]] + section + note[found[1] :]
    return f"{note.rstrip()}\n\n{section}" if note.strip() else section


def _marked(note: str) -> tuple[int, int] | None:
    """Where our part begins and ends."""
    first = _BEGIN.search(note)
    end = first and _END.search(note, first.end())
    if not end:
        return None
    *_, begin = _BEGIN.finditer(note, 0, end.start())
    return begin.start(), end.end()


def _unmarked(note: str) -> tuple[int, int] | None:
    first = _FIRST.search(note)
    last = first and _LAST.search(note, first.end())
    return (first.start(), last.end()) if first and last else None
