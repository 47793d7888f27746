"""A study in plain words and tables: at its end, for `--status`, and for reports."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from search.reporting.describe import describe_network, describe_training
from search.reporting.estimate import time_left
from search.reporting.speed import busy_seconds, images_per_second
from search.reporting.wording import (
    binomial_sigma,
    data_in_words,
    duration,
    grouped,
    printable,
    single_accuracy,
)
from search.trials.config import TrialConfig
from search.trials.holder import display_name
from search.trials.status import Status
from search.trials.view import State, StudyView, TrialView

WIDTH = 80
DEFAULT_STORAGE = "sqlite:///studies.db"
ENDED: tuple[State, ...] = ("complete", "pruned", "failed")
FIRST_GUESSES = 3  # finished trials before an estimate deserves to be called one


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardRow:
    """A complete trial at the epoch of its lowest validation loss.

    Attributes:
        rank: 1 for the best.
        accuracy, sigma: shares in [0, 1]; sigma is binomial, of scoring one run on the validation
            images.
        epoch, epochs: the epoch with the lowest loss, and how many were trained.
        parameters: trained weights and biases; None while unknown.
        seconds: of training and validation.
    """

    rank: int
    number: int
    is_baseline: bool
    loss: float
    accuracy: float
    sigma: float
    epoch: int
    epochs: int
    parameters: int | None
    seconds: float
    config: TrialConfig | None


def leaderboard_rows(view: StudyView, count: int) -> list[LeaderboardRow]:
    """The best complete trials, at most `count`, lowest validation loss first."""
    return [
        LeaderboardRow(
            rank=rank,
            number=trial.number,
            is_baseline=trial.is_baseline,
            loss=best.validation_loss,
            accuracy=1 - best.validation_error,
            sigma=binomial_sigma(best.validation_error, view.dataset.validation_count),
            epoch=best.epoch,
            epochs=len(trial.curve),
            parameters=trial.parameters,
            seconds=trial.seconds,
            config=trial.config,
        )
        for rank, trial in enumerate(view.leaderboard[:count], start=1)
        if (best := trial.best) is not None
    ]


def counts_in_words(view: StudyView) -> str:
    """`6 complete, 11 pruned, 1 failed`; what there is none of is left out, but for the first."""
    counted = [(len(view.in_state(state)), state) for state in ENDED]
    return ", ".join(f"{n} {state}" for n, state in counted if n or state == "complete")


def score_in_words(trial: TrialView, view: StudyView) -> str:
    """`loss 0.2021, accuracy 92.93 ± 0.26 %`, at the trial's best epoch."""
    if trial.best is None:
        return "no finite loss"
    accuracy = single_accuracy(trial.best.validation_error, view.dataset.validation_count)
    return f"loss {trial.best.validation_loss:.4f}, accuracy {accuracy}"


def gain_in_words(view: StudyView) -> str | None:
    """What the best trial gained over the baseline; None where there is nothing to compare."""
    best, baseline = view.best, view.baseline
    if best is None or baseline is None or best.best is None or baseline.best is None:
        return None
    if best is baseline:
        return "no trial beat the baseline"
    loss = baseline.best.validation_loss - best.best.validation_loss
    points = 100 * (baseline.best.validation_error - best.best.validation_error)
    if loss < 0:  # a baseline that did not run to its end takes no part in the leaderboard
        return f"none: its loss is {-loss:.4f} higher than the baseline's was"
    link = "and" if points >= 0 else "but"
    course = "higher" if points >= 0 else "lower"
    return f"loss {loss:.4f} lower {link} accuracy {abs(points):.2f} points {course}"


def time_left_in_words(view: StudyView, seconds: float | None) -> str:
    """`about 14 min left`, `no estimate yet`."""
    if seconds is None:
        return "no estimate yet"
    rough = ", a first guess" if view.finished < FIRST_GUESSES else ""
    return f"about {duration(seconds)} left{rough}"


def final_summary(view: StudyView) -> str:
    """What a study found and what to do next, for standard output; also for an unfinished one."""
    speed = images_per_second(view)
    lines = [
        f"Study {view.name}: {view.finished} of {view.spec.trials} trials finished "
        f"({counts_in_words(view)})",
        *_paragraph(f"{data_in_words(view)}. {printable(view.hardware)}."),
        f"Trained for {duration(busy_seconds(view))}"
        + ("." if speed is None else f", {grouped(round(speed))} images a second at the end."),
        "",
        *(_best_lines(view) if view.best else _no_best_lines(view)),
        "",
        "Next:",
        *(f"  {command}" for command in next_commands(view)),
    ]
    return "\n".join(lines)


def _best_lines(view: StudyView) -> Iterator[str]:
    best = view.best
    assert best is not None
    yield f"Best: trial {best.number}" + (", the baseline itself" if best.is_baseline else "")
    if best.config is not None:
        yield from _entry("network", describe_network(best.config.architecture, best.parameters))
        yield from _entry("training", describe_training(best.config))
    yield from _entry("validation", f"{score_in_words(best, view)} ({_epoch_in_words(best)})")
    gain, baseline = gain_in_words(view), view.baseline
    if gain is not None and baseline is not None:
        where = f"trial {baseline.number}, {_epoch_in_words(baseline)}"
        yield from _entry("baseline", f"{score_in_words(baseline, view)} ({where})")
        yield from _entry("gained", gain)
    yield ""
    yield from _paragraph(
        f"± is one binomial standard deviation of {grouped(view.dataset.validation_count)} "
        "validation images; each trial ran once, with one seed. The best of "
        f"{len(view.leaderboard)} complete trials, picked on the images that it is judged by, "
        "looks a little better than it is: finalize scores it on the test set, without that bias."
    )


def _no_best_lines(view: StudyView) -> Iterator[str]:
    yield "No trial has run to its end yet, so there is no best one."
    yield from _failures(view.in_state("failed")[-3:])


def next_commands(view: StudyView) -> list[str]:
    """What to type next. A masked password stays masked."""
    named = f"--study {shlex.quote(view.name)}"
    if view.storage != DEFAULT_STORAGE:
        named += f" --storage {shlex.quote(view.storage)}"
    missing = view.spec.trials - view.finished
    carry_on = [f"python -m search.study {named}   # the other {missing} trials"]
    results = [
        f"python -m search.finalize {named}",
        f"optuna-dashboard {shlex.quote(view.storage)}",
    ]
    return (carry_on if missing > 0 else []) + (results if view.best else results[1:])


def status_text(view: StudyView, status: Status) -> str:
    """How a study stands: for `--status`, on standard output."""
    workers = {trial.worker for trial in status.running}
    speed = images_per_second(view)
    lines = [
        f"Study {view.name}: {view.finished} of {view.spec.trials} trials finished "
        f"({counts_in_words(view)}), {len(status.running)} running, "
        f"{len(status.abandoned)} abandoned",
        *_paragraph(f"{data_in_words(view)}. {printable(view.hardware)}."),
        *_paragraph(f"Database: {printable(view.storage)}"),
    ]
    if view.finished < view.spec.trials:
        left = time_left_in_words(view, time_left(view, max(1, len(workers))))
        pace = "" if speed is None else f"{grouped(round(speed))} images a second, "
        idle = "" if workers else " once somebody trains (nobody does now)"
        lines.append(f"{pace}{left}{idle}")
    by_number = {trial.number: trial for trial in view.trials}
    if status.running:
        lines += ["", "Running:"]
    for running in status.running:
        trial = by_number.get(running.trial_number)
        again = f", attempt {running.attempt}" if running.attempt > 1 else ""
        lines.append(
            f"  trial {running.trial_number}, {_course_in_words(trial, view)}, on "
            f"{printable(display_name(running.worker))}{again}"
        )
    if status.abandoned:
        lines += ["", "Abandoned, to be taken over by the next worker:"]
    for number in status.abandoned:
        lines.append(f"  trial {number}, {_course_in_words(by_number.get(number), view)}")
    if view.in_state("failed"):
        lines += ["", "Failed:", *_failures(view.in_state("failed"))]
    if view.best:
        lines += ["", *_best_lines(view)]
    return "\n".join(lines)


def fallback_notice(reason: str) -> str:
    """Prominent, for the start and the end of a study that nobody gave a data set."""
    rule = "!" * WIDTH
    lines = textwrap.wrap(
        f"Fashion-MNIST could not be had: {printable(reason)}. This study runs on digits instead, "
        "the 1 797 images of 8x8 pixels that come with scikit-learn. Its figures say nothing "
        "about Fashion-MNIST. Once there is a network, or the files are in place (python -m "
        "data.prepare fashion_mnist says where), the same command starts the real study.",
        WIDTH - 4,
    )
    return "\n".join([rule, *(f"! {line:<{WIDTH - 4}} !" for line in lines), rule])


def _course_in_words(trial: TrialView | None, view: StudyView) -> str:
    if trial is None or not trial.reports:
        return "nothing reported yet"
    done = f"epoch {len(trial.curve)} of {view.spec.epochs}" if trial.curve else "early look"
    return f"{done}, validation loss {trial.reports[-1].validation_loss:.4f}"


def _epoch_in_words(trial: TrialView) -> str:
    assert trial.best is not None
    return f"epoch {trial.best.epoch} of {len(trial.curve)}"


def _failures(trials: Iterable[TrialView]) -> Iterator[str]:
    for trial in trials:
        reason = printable(trial.reason or "for an unknown reason")
        yield from textwrap.wrap(
            f"trial {trial.number}: {reason}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )


def _entry(name: str, text: str) -> list[str]:
    """A name and its text, which hangs beside it over as many lines as it needs."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14)


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
