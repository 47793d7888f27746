"""Finalize's page and its summary for the terminal, filled with the same values."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from search.analysis.describe import describe_config
from search.analysis.final_result import FinalResult, by_class, most_confused, test_accuracy
from search.analysis.measures import Accuracy, accuracy_of, legend, seeds_in_words
from search.analysis.wording import (
    counted,
    data_in_words,
    duration,
    grouped,
    mean_and_spread,
    notes_in_words,
    spread,
)
from search.figures import FINAL_FIGURES, applying
from search.figures.files import rendered
from search.figures.final import image_drawings, tested_on
from search.pages.networks import layer_values
from search.pages.note import evaluation_in_words, in_utc
from search.pages.render import listed, markdown, page, plain, plot_values
from search.spec.study_file import write_study_file
from search.store.views import StudyView
from search.terminal.reproduce import command
from search.terminal.summary import gain_in_words, score_in_words
from search.training.epoch import Score

PAIRS = 10
MOST_NAMES = 10  # of classes in a sentence


def final_page(final: FinalResult) -> str:
    """One offline HTML page."""
    pictures = {name: rendered(draw, "png") for name, draw in image_drawings(final).items()}
    figures = {name: figure.draw(final) for name, figure in applying(FINAL_FIGURES, final).items()}
    view = final.view
    title = f"{view.dataset.title}: trial {final.trial.number} on the test set"
    text = markdown(
        "final.md",
        kind="png",
        pictures=pictures,
        final=final,
        evaluated_at=in_utc(final.opened_at),
        facts_of_final=[
            ("test accuracy", str(test_accuracy(final))),
            ("test loss (nats)", _test_loss(final)),
            ("runs", str(len(final.runs))),
            ("parameters", grouped(final.parameters)),
            ("epochs", str(final.epochs)),
            ("training a run", duration(mean(run.seconds for run in final.runs))),
        ],
        by_seed=[(str(run.seed), *_means([run.test]), duration(run.seconds)) for run in final.runs],
        by_class=[
            (
                one.name,
                grouped(one.images) if one.images else "no pictures",
                "" if one.accuracy is None else f"{100 * one.accuracy:.2f}",
            )
            for one in by_class(final)
        ],
        layers=layer_values(view, final.layers),
        command=command("finalize", view, *_options(final)),
        study_file=write_study_file(view.spec),
        notes=notes_in_words(view),
        data=data_in_words(view),
        versions=listed(final.versions),
        **_values(final),
        **plot_values(FINAL_FIGURES, figures),
    )
    return page(title, text, figures, pictures)


def final_text(final: FinalResult) -> str:
    """The summary for standard output: plain text, without markup or control characters."""
    return plain("final.txt", **_values(final))


def evaluated_before(view: StudyView) -> str | None:
    """A warning where the next test evaluation is not the first."""
    return " ".join(plain("before.txt", **_earlier(view)).split()) if view.results else None


def _earlier(view: StudyView) -> dict[str, Any]:
    return {
        "evaluations": [(evaluation_in_words(row),) for row in view.results],
        "first_evaluation": in_utc(view.results[0].opened_at) if view.results else "",
    }


def _values(final: FinalResult) -> dict[str, Any]:
    """What page and summary share."""
    view, config, baseline = final.view, final.trial.config, final.view.baseline
    assert config is not None
    untested = [one.name for one in by_class(final) if not one.images]
    more = f" and {len(untested) - MOST_NAMES} more" if len(untested) > MOST_NAMES else ""
    return {
        "trial": final.trial.number,
        "view": view,
        "tested": tested_on(final),
        "config": describe_config(config, final.parameters),
        "epochs": final.epochs,
        "why": final.why,
        "scores": _scores(final),
        "accuracy": str(test_accuracy(final)),
        "legend": legend(final.test_count, len(final.runs)),
        "runs": len(final.runs),
        "baseline": None if baseline is None else baseline.number,
        "baseline_score": baseline and score_in_words(baseline, view),
        "score": score_in_words(final.trial, view),
        "gain": gain_in_words(view) or "unknown",
        "pairs": _confused(final),
        "untested": f"{', '.join(untested[:MOST_NAMES])}{more}",
        **_earlier(view),
    }


def _scores(final: FinalResult) -> list[tuple[str, ...]]:
    """Of training, validation and test: loss, error, accuracy, sampling error, images."""
    best, validation_count = final.trial.best, final.view.dataset.validation_count
    assert best is not None
    validation = Score(loss=best.validation_loss, error=best.validation_error)
    runs = counted(len(final.runs), "run")
    return [
        (
            f"training ({runs})",
            *_means([run.training for run in final.runs]),
            "",  # these images are not a sample of what is to come
            grouped(final.training_count),
        ),
        (
            f"validation (the trial's run, epoch {best.epoch})",
            *_means([validation]),
            _points(accuracy_of([validation.error], validation_count)),
            grouped(validation_count),
        ),
        (
            f"test ({runs})",
            *_means([run.test for run in final.runs]),
            _points(test_accuracy(final)),
            grouped(final.test_count),
        ),
    ]


def _points(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.sampling_error:.2f}"


def _means(scores: Sequence[Score]) -> tuple[str, str, str]:
    """Loss in nats, error and accuracy in percent: means with their spread over the runs."""
    return (
        mean_and_spread([score.loss for score in scores], 4),
        mean_and_spread([score.error for score in scores], 2, 100),
        mean_and_spread([score.accuracy for score in scores], 2, 100),
    )


def _test_loss(final: FinalResult) -> str:
    losses = [run.test.loss for run in final.runs]
    return f"{mean(losses):.4f}{seeds_in_words(spread(losses), len(losses), 4)}"


def _confused(final: FinalResult) -> list[tuple[str, str, str]]:
    """(pair, mistakes between them, how many each way)."""
    return [
        (
            f"{pair.first} / {pair.second}",
            grouped(pair.total),
            f"{grouped(pair.first_as_second)} × {pair.first} taken for {pair.second}, "
            f"{grouped(pair.second_as_first)} × the other way",
        )
        for pair in most_confused(final.confusion_KK, final.view.dataset.class_names, PAIRS)
    ]


def _options(final: FinalResult) -> list[str]:
    """The command's flags beyond study and database."""
    seeds = ["--seeds", str(len(final.runs))]
    return [*seeds, "--trial", str(final.trial.number)] if final.why else seeds
