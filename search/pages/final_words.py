"""The sentences and table rows that finalize's page, pictures and summary share. All unescaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean

from search.analysis.describe import describe_config
from search.analysis.final_result import FinalResult, by_class, most_confused, test_accuracy
from search.analysis.measures import Accuracy, accuracy_of, legend, seeds_in_words
from search.analysis.wording import (
    grouped,
    mean_and_spread,
    percent,
    printable,
    spread,
)
from search.pages.note import in_utc
from search.store.views import StudyView
from search.terminal.summary import gain_in_words, score_in_words
from search.training.epoch import Score

SCORES = ("", "loss (nats)", "error (%)", "accuracy (%)", "sampling error (points)", "images")
SHORT_SCORES = ("", "loss", "error (%)", "accuracy (%)", "sampling", "images")

MOST_NAMES = 10  # of classes in a sentence


def recipe_in_words(final: FinalResult) -> str:
    config = final.trial.config
    assert config is not None
    return f"{describe_config(config, final.parameters)}; trained for {final.epochs} epochs."


def tested_on(final: FinalResult) -> str:
    """`Fashion-MNIST, 10 000 test images × 3 runs`."""
    title = printable(final.view.dataset.title)
    return f"{title}, {grouped(final.test_count)} test images × {_runs(final)}"


def score_rows(final: FinalResult) -> list[tuple[str, str, str, str, str, str]]:
    """A row of SCORES for training, validation and test each."""
    best, validation_count = final.trial.best, final.view.dataset.validation_count
    assert best is not None
    validation = Score(loss=best.validation_loss, error=best.validation_error)
    return [
        (
            f"training ({_runs(final)})",
            *in_figures([run.training for run in final.runs]),
            "",  # these images are not a sample of what is to come
            grouped(final.training_count),
        ),
        (
            f"validation (the trial's run, epoch {best.epoch})",
            *in_figures([validation]),
            _points(accuracy_of([validation.error], validation_count)),
            grouped(validation_count),
        ),
        (
            f"test ({_runs(final)})",
            *in_figures([run.test for run in final.runs]),
            _points(test_accuracy(final)),
            grouped(final.test_count),
        ),
    ]


def _points(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.sampling_error:.2f}"


def in_figures(scores: Sequence[Score]) -> tuple[str, str, str]:
    """Loss in nats, error and accuracy in percent: means with their spread over the runs."""
    return (
        mean_and_spread([score.loss for score in scores], 4),
        mean_and_spread([score.error for score in scores], 2, 100),
        mean_and_spread([score.accuracy for score in scores], 2, 100),
    )


def test_loss_in_words(final: FinalResult) -> str:
    losses = [run.test.loss for run in final.runs]
    return f"{mean(losses):.4f}{seeds_in_words(spread(losses), len(losses), 4)}"


def key_to_scores(final: FinalResult) -> str:
    """What the signs mean, and what was trained on what."""
    over = f" ± in a column is the standard deviation over {len(final.runs)} seeds."
    return (
        f"Test accuracy {test_accuracy(final)}. {legend(final.test_count, len(final.runs))}"
        f"{over if len(final.runs) > 1 else ''} All in evaluation mode, without "
        "augmentation. The runs were trained on training and validation images together, the "
        "trial on the former alone."
    )


def baseline_in_words(final: FinalResult) -> str:
    """What the search gained over the hand-made model, on validation images."""
    baseline = final.view.baseline
    if baseline is None:
        return "This study has no baseline to compare with."
    if baseline.number == final.trial.number:
        return "This is the study's baseline itself."
    return (
        f"On validation, the baseline (trial {baseline.number}) has "
        f"{score_in_words(baseline, final.view)}, trial {final.trial.number} has "
        f"{score_in_words(final.trial, final.view)}; one run each. "
        f"Gained: {gain_in_words(final.view) or 'unknown'}."
    )


def opened_before(view: StudyView) -> str | None:
    """A warning where the next look at the test set is not the first."""
    times = len(view.results)
    if times == 0:
        return None
    return (
        f"The test set had been opened {'once' if times == 1 else f'{times} times'} before, first "
        f"on {in_utc(view.results[0].opened_at)}. Whoever chooses between readings gets "
        "figures that look better than they are: trust the first."
    )


def confused_rows(final: FinalResult, n: int) -> list[tuple[str, str, str]]:
    """(pair, mistakes between them, how many each way)."""
    rows = []
    for pair in most_confused(final.confusion_KK, final.view.dataset.class_names, n):
        first, second = printable(pair.first), printable(pair.second)
        ways = (
            f"{grouped(pair.first_as_second)} × {first} taken for {second}, "
            f"{grouped(pair.second_as_first)} × the other way"
        )
        rows.append((f"{first} / {second}", grouped(pair.total), ways))
    return rows


def class_rows(final: FinalResult) -> list[tuple[str, str, str]]:
    """(class, its test images, accuracy over the runs in %)."""
    return [
        (
            printable(one.name),
            grouped(one.images) if one.images else "no pictures",
            "" if one.accuracy is None else f"{100 * one.accuracy:.2f}",
        )
        for one in by_class(final)
    ]


def untested_in_words(final: FinalResult) -> str | None:
    """Which classes the test says nothing of; None where it has pictures of all."""
    names = [printable(one.name) for one in by_class(final) if not one.images]
    if not names:
        return None
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"The test set has no pictures of {', '.join(names[:MOST_NAMES])}{more}."


def layer_rows(final: FinalResult) -> Iterator[tuple[str, ...]]:
    """(layer, output, size, counted as, parameters, share, multiply-adds), the total last."""
    for layer in final.layers:
        yield (
            layer.name,
            "×".join(map(str, layer.output)),
            layer.size,
            layer.computed,
            grouped(layer.parameters) if layer.parameters else "",
            percent(layer.share, 1) if layer.parameters else "",
            grouped(layer.multiply_adds) if layer.multiply_adds else "",
        )
    adds = sum(layer.multiply_adds for layer in final.layers)
    yield ("total", "", "", "", grouped(final.parameters), percent(1, 1), grouped(adds))


def _runs(final: FinalResult) -> str:
    return "1 run" if len(final.runs) == 1 else f"{len(final.runs)} runs"
