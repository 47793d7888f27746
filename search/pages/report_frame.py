"""What every report has, of a search and of a comparison: its head, the network, how to repeat."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from models.summary import anatomy
from search.analysis.describe import describe_network, describe_training
from search.analysis.wording import (
    all_counts,
    data_in_words,
    grouped,
    notes_in_words,
    percent,
    printable,
    split_in_words,
)
from search.pages.document import (
    Block,
    Details,
    Footer,
    Heading,
    Listing,
    Paragraph,
    Table,
)
from search.pages.note import in_utc, reading_in_words
from search.sampling.registry import SAMPLERS
from search.spec.config import TrialConfig
from search.store.views import StudyView, TrialView
from search.terminal.command_line import as_called
from search.terminal.reproduce import AGAIN, REPEATABLE, command, study_file

MOST_REASON = 200  # characters
MOST_FAILURES = 100  # in the table

LAYER_HEADER = ("layer", "output", "size", "weights + biases = parameters", "share", "mult-adds")


def title(view: StudyView) -> str:
    return printable(view.spec.title) or view.name


def head(view: StudyView, now: datetime) -> Iterator[Block]:
    """What was done, on which data, how far it is, and who asked for it."""
    spec = view.spec
    kind = (
        f"A comparison of {len(spec.arms)} arms × {spec.repeats} seeds."
        if spec.is_comparison
        else f"A search by {SAMPLERS[spec.sampler].description}."
    )
    source = f" After: {printable(spec.source)}." if spec.source else ""
    patience = (
        "" if spec.patience is None else f", early stopping after {spec.patience} without gain"
    )
    yield Paragraph(
        text=f"Study {view.name}, as of {in_utc(now)}. {kind}{source} Data: {data_in_words(view)}, "
        f"{split_in_words(view)}; at most {spec.epochs} epochs a trial{patience}.",
        kind="lead",
    )
    if view.left_out is not None:
        yield Paragraph(
            text=f"Counts, times and the best are of all {grouped(view.count())} trials. Whatever "
            f"is told of single ones considers {grouped(len(view.trials))} of them: the best, the "
            f"latest, each new best, the running ones, and every {view.left_out.step}th."
        )
    if view.finished < spec.trials:
        yield Paragraph(
            text=f"Not finished: {view.finished} of {grouped(spec.trials)} trials "
            f"({all_counts(view)}). Everything below may still change.",
            kind="warning",
        )


def failures(view: StudyView) -> Iterator[Block]:
    """Failed trials with their reasons, the latest ones."""
    failed = view.in_state("failed")[-MOST_FAILURES:]
    if not failed:
        return
    yield Heading(text="Trials that failed")
    if view.count("failed") > len(failed):
        yield Paragraph(text=f"The latest {len(failed)} of {grouped(view.count('failed'))}.")
    with_arm = view.spec.is_comparison
    yield Table(
        header=("trial", *(("arm", "repeat") if with_arm else ()), "epochs", "why"),
        rows=[
            (
                f"#{trial.number}",
                *((printable(trial.arm or ""), str(trial.repeat)) if with_arm else ()),
                str(len(trial.curve)),
                printable(trial.reason or "for an unknown reason")[:MOST_REASON],
            )
            for trial in failed
        ],
        numbers=(3,) if with_arm else (1,),
    )


def network(view: StudyView, config: TrialConfig) -> Iterator[Paragraph | Table]:
    """Layer by layer, each with its parameters by formula, and their sum."""
    shape, classes = view.dataset.image_shape, len(view.dataset.class_names)
    layers = anatomy(config.architecture, shape, classes)
    total = sum(layer.parameters for layer in layers)
    rows = [
        (
            layer.name,
            "×".join(map(str, layer.output)),
            layer.size.replace("*", "·"),
            f"{layer.computed.replace('*', '·')} = {grouped(layer.parameters)}"
            if layer.parameters
            else "",
            percent(layer.share, 1) if layer.parameters else "",
            grouped(layer.multiply_adds) if layer.multiply_adds else "",
        )
        for layer in layers
    ]
    adds = grouped(sum(layer.multiply_adds for layer in layers))
    largest = max(layers, key=lambda layer: layer.parameters)
    yield Table(
        header=LAYER_HEADER,
        rows=[*rows, ("total", "", "", grouped(total), percent(1, 1), adds)],
        caption=f"Images of {' × '.join(map(str, shape))}, {classes} classes. Multiply-adds are "
        "those of one image.",
        numbers=(4, 5),
    )
    sums = " + ".join(grouped(layer.parameters) for layer in layers if layer.parameters)
    yield Paragraph(
        text=f"Parameters: {sums} = {grouped(total)}; {largest.name} holds "
        f"{percent(largest.share, 1)} of them."
    )


def best_network(view: StudyView, best: TrialView, what: str) -> Iterator[Block]:
    """`what`: whose network it is, `the best trial`."""
    if best.config is None:
        return
    yield Heading(text=f"The network of {what}")
    described = describe_network(best.config.architecture, best.parameters)
    yield Paragraph(text=f"Trial {best.number}: {described}; {describe_training(best.config)}.")
    yield from network(view, best.config)


def test_readings(view: StudyView) -> Iterator[Block]:
    yield Heading(text="Test set")
    if not view.results:
        yield Paragraph(
            text="Not opened yet: all figures above are of validation images, on which trials "
            "were also chosen. python -m search.finalize opens it, once."
        )
        return
    yield Table(header=("reading",), rows=[(reading_in_words(row),) for row in view.results])


def repetition(view: StudyView) -> Iterator[Block]:
    yield Heading(text="How to repeat it")
    yield Paragraph(text=f"Save this as again.toml. {REPEATABLE}")
    yield Listing(text=as_called(AGAIN), language="sh")
    yield Details(
        summary="again.toml", blocks=(Listing(text=study_file(view.spec), language="toml"),)
    )
    yield Paragraph(text="This report, and the test set with the best trial:")
    yield Listing(text=f"{command('report', view)}\n{command('finalize', view)}", language="sh")
    for note in notes_in_words(view):
        yield Paragraph(text=note)
    versions = ", ".join(f"{name} {number}" for name, number in view.versions.items())
    yield Footer(text=printable(f"Data: {data_in_words(view)}. {view.hardware}. {versions}."))
