"""A study in plain words: at its end, and for reports."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sqlalchemy import func, select

from data.errors import grouped
from search.analysis.comparison_words import standing_of_arms
from search.analysis.findings import (
    advice_in_words,
    front_in_words,
    named,
    pareto_front,
    size_name,
)
from search.analysis.measures import (
    MEASURES,
    accuracy_of,
    legend,
    measure_of,
    objective_in_words,
    sampling_error,
    time_spent,
)
from search.analysis.time_left import time_left
from search.analysis.wording import (
    all_counts,
    counted,
    data_in_words,
    describe_network,
    describe_training,
    printable,
    warm_start_in_words,
)
from search.spec.recipe import PARTIAL_EPOCH
from search.store.database import read
from search.store.schema import trials
from search.store.studies import StudyHandle
from search.store.views import StudyView, TrialView
from search.terminal.status import (
    WIDTH,
    failures,
    next_commands,
    stopped_in_words,
    time_left_in_words,
    wrap,
)


def score_in_words(trial: TrialView, view: StudyView) -> str:
    """`calibrated loss 0.2021, accuracy 92.93 % ± 0.26 (sampling)`.

    At the best epoch, or after part of the first; with the other metrics that the study names:
    `..., macro f1 0.9251`.
    """
    row = trial.best or trial.partial_epoch
    if row is None or not math.isfinite(row.value):
        return f"no finite {view.spec.value.word}"
    images = view.dataset.validation_count
    if row.epoch == 0:
        images = math.ceil(images * PARTIAL_EPOCH)  # it was scored on these
    accuracy = accuracy_of([row.validation_error], images)
    named = {name: row.metrics[name] for name in view.spec.metrics if name in row.metrics}
    more = "".join(f", {measure_of(name).words} {x:.4f}" for name, x in named.items())
    value = f"{view.spec.value.word} {objective_in_words(view, row.value)}"
    return f"{value}, accuracy {accuracy}{more}"


def score_at_epoch(trial: TrialView, view: StudyView) -> str:
    """Its score, and the epoch that reached it."""
    best = trial.best
    if best is None:
        return score_in_words(trial, view)
    so_far = " so far" if trial.state in ("running", "paused") else ""
    return f"{score_in_words(trial, view)}, epoch {best.epoch} of {len(trial.curve)}{so_far}"


def gain_in_words(view: StudyView, trial: TrialView | None = None) -> str | None:
    """How a trial, by default the best, differs from the baseline; None if it is the baseline
    itself, or they cannot be compared."""
    best, baseline = trial or view.best, view.baseline
    if best is None or baseline is None or best.best is None or baseline.best is None:
        return None
    if baseline.state != "complete" or best.number == baseline.number:
        return None
    gained = baseline.best.value - best.best.value
    size = MEASURES[view.spec.objective].size(gained)
    points = 100 * (baseline.best.validation_error - best.best.validation_error)
    link = "and" if (gained >= 0) == (points >= 0) else "but"
    trend = "higher" if points >= 0 else "lower"
    errors, images = (best.best, baseline.best), view.dataset.validation_count
    sigma = math.hypot(*(sampling_error(one.validation_error, images) for one in errors))
    noise = ", which is within the sampling error" if abs(points) < 2 * 100 * sigma else ""
    head = f"{view.spec.value.word} {size} {'lower' if gained >= 0 else 'higher'}"
    return f"{head} {link} accuracy {abs(points):.2f} points {trend}{noise}"


def standing_in_words(view: StudyView) -> str:
    """The time left, and whether any worker is training."""
    return time_left_in_words(time_left(view), idle=not view.in_state("running"))


def status_text(view: StudyView) -> str:
    """How a study stands and what it found, for standard output at its end."""
    finished = f"{view.finished} of {view.spec.trials} trials finished"
    lines = wrap(f"Study {view.name}: {finished} ({all_counts(view)})")
    lines += wrap(f"{data_in_words(view)}. {view.hardware}.")
    for one in view.earlier:
        lines += wrap(f"{warm_start_in_words(one)}.")
    lines += wrap(f"Trained for {time_spent(view)}.")
    lines += stopped_in_words(view.stopped)
    if view.finished < view.spec.trials:
        lines += wrap(f"Time: {standing_in_words(view)}.")
    lines += failures([(one.number, one.reason) for one in view.in_state("failed")])
    lines += ["", *_best_lines(view)]
    if view.spec.minimize_also and view.best:
        lines += ["", *wrap(front_in_words(view)), *wrap(other_point_in_words(view))]
    missing = view.spec.trials - view.finished
    has_best, tested = view.best is not None, bool(view.results)
    commands = next_commands(view.name, view.storage, missing, has_best, evaluated=tested)
    return "\n".join([*lines, "", "Next:", *(f"  {one}" for one in commands)])


def other_point_in_words(view: StudyView) -> str:
    """How to finalise a trial of the Pareto front other than the best."""
    smaller = pareto_front(view)[:-1]
    fewest = f"the network with the fewest {size_name(view).replace('_', '-')}"
    other = f", and with --trial {smaller[0].number} {fewest}" if smaller else ""
    return f"finalize takes the lowest {view.spec.value.word}{other}."


def fallback_notice(reason: str) -> str:
    """A prominent notice, for the start and the end of a study that was given no data set."""
    rule = "!" * WIDTH
    return "\n".join([rule, *wrap(fallback_words(reason)), rule])


def fallback_words(reason: str) -> str:
    """The same as plain sentences."""
    return (
        f"Fashion-MNIST is unavailable: {printable(reason).rstrip('.')}. This study runs on "
        "digits instead, 1 797 images of 8x8 pixels that come with this package. Its results say "
        "nothing about Fashion-MNIST."
    )


def resumed_in_words(study: StudyHandle | None) -> list[str]:
    """That the study has trials, which in a shared database may be somebody else's."""
    if study is None:
        return []
    when = select(func.min(trials.c.datetime_start), func.count(trials.c.datetime_start))
    when = when.where(trials.c.study_id == study.study_id)
    began, count = read(study.db, lambda connection: connection.execute(when).one())
    if not count:
        return []
    so_far = f"begun on {began:%Y-%m-%d}, {counted(count, 'trial')} so far"
    return [f"resumes study {study.name!r}, {so_far}; --study NAME begins another"]


def resampling_in_words(view: StudyView) -> str:
    """A sentence on the bias of the best of several trials; empty if there was no choice."""
    if view.finished < 2:
        return ""
    return (
        f"The best of {grouped(view.finished)} trials was picked on the images that it is judged "
        "by, so it looks a little better than it is."
    )


def _best_lines(view: StudyView) -> Iterator[str]:
    best = view.best
    if best is None:
        yield "No trial has run to its end yet, so there is no best one."
        return
    yield f"Best: {named(best)}"
    if best.config is not None:
        yield from _entry("network", describe_network(best.config.architecture, best.parameters))
        yield from _entry("training", describe_training(best.config))
    yield from _entry("validation", score_at_epoch(best, view))
    yield from standing_of_arms(view)
    gain, baseline = gain_in_words(view), view.baseline
    if gain is not None and baseline is not None:
        score = score_at_epoch(baseline, view)
        yield from _entry("baseline", f"{score}, trial {baseline.number}")
        yield from _entry("gained", gain)
    for sentence in advice_in_words(view):
        yield from ["", *wrap(sentence)]
    yield ""
    bias = resampling_in_words(view)
    told = f" {bias} Its score on the test set, from finalize, has no such bias." if bias else ""
    yield from wrap(legend(view.dataset.validation_count) + told)


def _entry(name: str, text: str) -> list[str]:
    """A name and its text, wrapped with a hanging indent."""
    return wrap(text, f"  {name:<12}", " " * 14)
