"""Finalize's page and its summary for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from search.analysis.final_result import FinalResult, test_accuracy
from search.analysis.wording import (
    data_in_words,
    duration,
    grouped,
    notes_in_words,
    printable,
)
from search.figures.figures_final import confusion_matrix, first_layer_kernels, training_curves
from search.figures.final_pictures import drawings, rendered
from search.pages.final_words import (
    SCORES,
    SHORT_SCORES,
    baseline_in_words,
    class_rows,
    confused_rows,
    in_figures,
    key_to_scores,
    layer_rows,
    opened_before,
    recipe_in_words,
    score_rows,
    test_loss_in_words,
    tested_on,
    untested_in_words,
)
from search.pages.note import in_utc, reading_in_words
from search.pages.page import (
    Html,
    facts,
    figure,
    footer,
    heading,
    listing,
    page,
    paragraph,
    picture,
    table,
)
from search.terminal.reproduce import command, study_file
from search.terminal.summary import WIDTH

PAIRS, PAIRS_IN_TEXT = 10, 3


def final_page(final: FinalResult) -> str:
    """One offline HTML page."""
    title = f"{printable(final.view.dataset.title)}: trial {final.trial.number} on the test set"
    sections = (_summary, _scores, _confusions, _learning, _network, _repetition)
    return page(title, [part for section in sections for part in section(final)])


def final_text(final: FinalResult) -> str:
    """The summary for standard output: plain text, without markup or control characters."""
    lines = [
        f"Trial {final.trial.number} of study {final.view.name}: {tested_on(final)}",
        *textwrap.wrap(recipe_in_words(final), WIDTH),
        *textwrap.wrap(printable(final.why), WIDTH),
        "",
        *_aligned([SHORT_SCORES, *score_rows(final)]),
        "",
        *textwrap.wrap(key_to_scores(final), WIDTH),
        "",
        *textwrap.wrap(baseline_in_words(final), WIDTH),
    ]
    pairs = confused_rows(final, PAIRS_IN_TEXT)
    if pairs:
        lines += ["", "Most confused:", *_aligned(pairs)]
    untested = untested_in_words(final)
    if untested is not None:
        lines += ["", *textwrap.wrap(untested, WIDTH)]
    warning = opened_before(final.view)
    if warning:
        lines += ["", *textwrap.wrap(warning, WIDTH), *map(reading_in_words, final.view.results)]
    return "\n".join(lines)


def _summary(final: FinalResult) -> Iterator[Html]:
    yield paragraph(
        f"Study {final.view.name}, opened {in_utc(final.opened_at)}. {recipe_in_words(final)}",
        "lead",
    )
    if final.why:
        yield paragraph(final.why, "warning")
    warning = opened_before(final.view)
    if warning:
        yield paragraph(warning, "warning")
        yield table(
            ("earlier readings of this test set",),
            [(reading_in_words(row),) for row in final.view.results],
        )
    yield facts(
        [
            ("test accuracy", str(test_accuracy(final))),
            ("test loss (nats)", test_loss_in_words(final)),
            ("runs", str(len(final.runs))),
            ("parameters", grouped(final.parameters)),
            ("epochs", str(final.epochs)),
            ("training a run", duration(sum(run.seconds for run in final.runs) / len(final.runs))),
        ]
    )
    yield paragraph(baseline_in_words(final))


def _scores(final: FinalResult) -> Iterator[Html]:
    yield heading("Scores")
    yield table(
        SCORES,
        score_rows(final),
        caption=key_to_scores(final),
        numbers=(1, 2, 3, 4, 5),
    )
    yield table(
        ("seed", "test loss (nats)", "error (%)", "accuracy (%)", "training"),
        [(str(run.seed), *in_figures([run.test]), duration(run.seconds)) for run in final.runs],
        caption=f"Each run; {tested_on(final)}.",
        numbers=(0, 1, 2, 3, 4),
    )


def _confusions(final: FinalResult) -> Iterator[Html]:
    yield heading("What it confuses")
    names = final.view.dataset.class_names
    yield figure(confusion_matrix(final.confusion_KK, names, tested_on(final)), height=660)
    yield table(
        ("pair", "mistakes", "of these"),
        confused_rows(final, PAIRS),
        caption=f"Most confused pairs, both ways together; {tested_on(final)}.",
        numbers=(1,),
    )
    untested = untested_in_words(final)
    if untested is not None:
        yield paragraph(untested, "warning")
    yield table(
        ("class", "test images", "accuracy (%)"),
        class_rows(final),
        caption=f"Class by class; {tested_on(final)}.",
        numbers=(1, 2),
    )
    if final.mistakes:
        alt = "Examples of test images that were taken for another class"
        caption = (
            f"The surest mistakes of the run with seed {final.runs[0].seed} between the most "
            "confused pairs: true class → predicted class, and the probability of the latter."
        )
        yield picture(rendered(drawings(final)["mistakes"], "png"), alt, caption)


def _learning(final: FinalResult) -> Iterator[Html]:
    yield heading("How it learned")
    yield figure(training_curves(final))


def _network(final: FinalResult) -> Iterator[Html]:
    yield heading("The network")
    yield table(
        ("layer", "output", "size", "weights + biases", "parameters", "share", "mult-adds"),
        layer_rows(final),
        caption="Multiply-adds are those of one image.",
        numbers=(1, 4, 5, 6),
    )
    if final.kernels is not None:
        title = f"{printable(final.view.dataset.title)}, run with seed {final.runs[0].seed}"
        yield figure(first_layer_kernels(final.kernels, title, final.kernel_report))
        if final.kernel_report is not None:
            yield paragraph(final.kernel_report.in_words())
    if final.features is not None:
        yield picture(
            rendered(drawings(final)["features"], "png"),
            "Feature maps of each stage of the network for one image",
            "Each stage's output as the next one gets it, white is its highest value; run with "
            f"seed {final.runs[0].seed}. Where max pooling stands before the activation, which "
            "gives the same values, the map is the pooled one.",
        )


def _repetition(final: FinalResult) -> Iterator[Html]:
    yield heading("How to repeat it")
    yield listing(command("finalize", final.view, *options(final)))
    yield paragraph("The study itself, as a file for python -m search.study --config FILE:")
    yield listing(study_file(final.view.spec))
    for note in notes_in_words(final.view):
        yield paragraph(note)
    versions = ", ".join(f"{name} {number}" for name, number in final.versions.items())
    yield footer(f"{data_in_words(final.view)}. {final.hardware}. {versions}.")


def options(final: FinalResult) -> list[str]:
    """The command's flags beyond study and database."""
    seeds = ["--seeds", str(len(final.runs))]
    return [*seeds, "--trial", str(final.trial.number)] if final.why else seeds


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
