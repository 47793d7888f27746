"""The study's note in optuna-dashboard: Markdown whose raw HTML reaches the browser unsanitised."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from search.analysis.describe import describe_config, short_config
from search.analysis.findings import (
    LeaderboardRow,
    leaderboard_rows,
    named,
    overfitting_in_words,
    stop_in_words,
    stopped_rows,
)
from search.analysis.measures import recorded_accuracy, seeds_in_words
from search.analysis.times import time_spent
from search.analysis.wording import (
    MEANINGS,
    all_counts,
    data_in_words,
    grouped,
    notes_in_words,
    percent,
    printable,
    split_in_words,
)
from search.store.records import ResultRow
from search.store.views import StudyView, TrialView
from search.terminal.command_line import as_called
from search.terminal.reproduce import AGAIN, REPEATABLE, command, study_file
from search.terminal.summary import gain_in_words, score_in_words, standing_in_words

TOP = 10
FAILURES = 3  # shown, the latest
MOST_REASON = 200  # characters


def study_note(view: StudyView) -> str:
    """Markdown: progress, leaderboard, gain over the baseline, test readings, data, commands.

    About 4 kB, however long the study.
    """
    sections = {
        "Best trials": _leaderboard(view),
        "Against the baseline": _gain(view),
        "What mattered": _mattered(view),
        "Test set": _test(view),
        "Data and machine": _data(view),
        "How to go on, and how to repeat it": _commands(view),
    }
    parts = [f"# {escape(view.spec.title or view.name)}", *_progress(view)]
    for title, paragraphs in sections.items():
        said = list(paragraphs)
        parts += [f"## {title}", *said] if said else []
    return "\n\n".join(parts) + "\n"


def trial_note(trial: TrialView) -> str | None:
    """Why a trial failed, or that it over-fits; None where there is neither to say."""
    if trial.state == "failed":
        return f"**Failed**: {_reason(trial)}\n"
    sentence = overfitting_in_words(trial)
    return None if sentence is None else f"{sentence}\n"


def escape(text: str) -> str:
    """Text that people typed, as plain Markdown on one line, in a table, too.

    As entities, not with backslashes, which a table cell or a block of raw HTML would not heed.
    """
    return re.sub(r"[\\`*_\[\]<>#|~&]", lambda sign: f"&#{ord(sign.group())};", printable(text))


def _progress(view: StudyView) -> Iterator[str]:
    yield (
        f"{_standing(view)}: **{grouped(view.finished)} of {grouped(view.spec.trials)} trials "
        f"finished** ({all_counts(view)}), at most {view.spec.epochs} epochs a trial. Trained for "
        f"{time_spent(view)}."
    )
    if view.in_state("interrupted"):
        yield (
            f"Interrupted: {MEANINGS['interrupted']}. This dashboard's own pages list such trials "
            "as running."
        )
    for trial in view.in_state("failed")[-FAILURES:]:
        yield f"Trial {trial.number} failed: {_reason(trial)}"


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


def _reason(trial: TrialView) -> str:
    return escape((trial.reason or "for an unknown reason")[:MOST_REASON])


def _leaderboard(view: StudyView) -> Iterator[str]:
    rows = leaderboard_rows(view, TOP)
    if not rows:
        yield "No trial has run to its end yet."
        return
    header = ("", "trial", "validation loss", "accuracy", "parameters", "best epoch", "network")
    stopped = stopped_rows(view, TOP - len(rows))
    yield _table(header, [_row(row) for row in (*rows, *stopped)])
    if stopped:
        yield f"Without a rank: pruned, {MEANINGS['pruned']}; those that came furthest."
    yield (
        f"At the epoch of the lowest validation loss (cross entropy, nats), on "
        f"{grouped(view.dataset.validation_count)} images. One run each; the sampling error of an "
        f"accuracy is ± {100 * rows[0].sigma:.2f} points (one binomial standard error), so smaller "
        "differences mean little."
    )


def _row(row: LeaderboardRow) -> tuple[str, ...]:
    described = "" if row.config is None else escape(short_config(row.config))
    return (
        "" if row.rank is None else str(row.rank),
        f"#{row.number}",
        f"{row.loss:.4f}",
        percent(row.accuracy),
        "" if row.parameters is None else grouped(row.parameters),
        f"{row.epoch} of {row.epochs}" + ("" if row.rank else ", pruned"),
        f"baseline: {described}" if row.is_baseline else described,
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _gain(view: StudyView) -> Iterator[str]:
    best, baseline = view.best, view.baseline
    if best is None:
        yield "Nothing to compare yet."
        return
    described = "" if best.config is None else f" ({describe_config(best.config, best.parameters)})"
    yield f"Best is {escape(named(best))}: {score_in_words(best, view)}{escape(described)}."
    for sentence in (overfitting_in_words(best), stop_in_words(view)):
        if sentence is not None:
            yield escape(sentence)
    if baseline is None:
        yield "This study has no baseline."
        return
    if baseline.number == best.number:
        yield "No trial has beaten the baseline."
        return
    yield f"The baseline, trial {baseline.number}: {score_in_words(baseline, view)}."
    yield (
        f"Gained: {gain_in_words(view) or 'unknown yet'}. Each ran once, and the best was picked "
        "on the images that it is judged by, so it looks a little better than it is."
    )


def _mattered(view: StudyView) -> Iterator[str]:
    """What this dashboard's own plot of importances is made from."""
    if view.spec.is_comparison:
        return
    complete, pruned = (grouped(view.count(state)) for state in ("complete", "pruned"))
    yield (
        f"The plot “Hyperparameter Importance” of this dashboard (PED-ANOVA) is made from the "
        f"{complete} complete trials alone, without the {pruned} pruned ones, each at its own best "
        "epoch: it says what sets the best of them apart, not what trials were pruned for. The "
        "importances of the report (fANOVA) compare all trials after the same number of epochs, "
        "with their uncertainty, and may differ:"
    )
    yield _code(command("report", view))


def _test(view: StudyView) -> Iterator[str]:
    yield "\n".join(f"- {reading_in_words(row)}" for row in view.results) or "Not opened yet."


def reading_in_words(result: ResultRow) -> str:
    """One reading of the test set: when, which trial, what came out, with seeds and spread."""
    head = (
        f"{in_utc(result.opened_at)}: trial {result.trial_number}, "
        f"seeds {', '.join(map(str, result.seeds))}"
    )
    found = result.figures
    if found is None:
        return f"{head}: opened, but scoring did not end"
    accuracy = recorded_accuracy(found)
    seeds = seeds_in_words(found.get("loss_std"), accuracy.seeds, 4)
    return (
        f"{head}: accuracy {accuracy}, loss {found['loss']:.4f}{seeds}, on "
        f"{grouped(accuracy.images)} images"
    )


def in_utc(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _data(view: StudyView) -> Iterator[str]:
    channels, height, width = view.dataset.image_shape
    versions = ", ".join(f"{name} {number}" for name, number in view.versions.items())
    lines = (
        f"{data_in_words(view)}, {len(view.dataset.class_names)} classes, {channels} × {height} × "
        f"{width} pixels; {split_in_words(view)}",
        *notes_in_words(view),
        view.hardware,
        versions,
    )
    yield "\n".join(f"- {escape(line)}" for line in lines if line)


def _commands(view: StudyView) -> Iterator[str]:
    yield "More trials, or the test set with the best one:"
    flag, total = "--trials", view.spec.trials
    if view.spec.is_comparison:
        flag, total = "--repeats", view.spec.repeats
    more = command("study", view, flag, str(2 * total))
    yield _code(f"{more}\n{command('finalize', view)}")
    yield (f"From the start: save this as `again.toml` and run `{as_called(AGAIN)}`. {REPEATABLE}")
    yield _code(study_file(view.spec), "toml")


def _code(text: str, language: str = "") -> str:
    """A block whose fence is longer than any run of its signs inside."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
