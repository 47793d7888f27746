"""Part of a comparison's report: the arms beside the figures of a published report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import mean

from search.analysis.comparison import ArmRuns
from search.analysis.comparison_words import SPREAD, mean_in_words, trained_in_words
from search.analysis.measures import MEASURES, seeds_in_words
from search.analysis.wording import data_in_words, grouped, printable
from search.pages.document import Block, Heading, Paragraph, Table
from search.spec.config import StudySpec
from search.spec.study_file import StudyFileError, read_study_file, ready_made
from search.store.views import StudyView

DIFFERENCE = "ours − reported"


def published_blocks(view: StudyView, runs: Mapping[str, ArmRuns]) -> Iterator[Block]:
    """Nothing where no arm reports a figure; without differences where they would mean nothing."""
    rows = [
        _reported_row(view, arm, name, theirs)
        for arm in runs.values()
        for name, theirs in arm.arm.reported.items()
    ]
    if not rows:
        return
    yield Heading(text="Beside the published figures")
    changed, fewer = differing_setup(view)
    if changed:
        yield Paragraph(
            text=f"These runs do not repeat the published experiment: {', '.join(changed)}. What "
            "differs between the columns says nothing about the report.",
            kind="warning",
        )
    if fewer:
        yield Paragraph(text=f"{fewer}: our means are less certain.", kind="warning")
    source = f" Source: {printable(view.spec.source)}." if view.spec.source else ""
    header = ("arm", "figure", "reported (single run)", "ours", DIFFERENCE)
    columns = len(header) - bool(changed)
    yield Table(
        header=header[:columns],
        rows=[row[:columns] for row in rows],
        caption=f"Ours: {data_in_words(view)}; {SPREAD[0].lower()}{SPREAD[1:]}. The reported "
        "figures are single runs without a spread, so that differences below about 0.3 points of "
        "accuracy mean little; where data or protocol differ, the two cannot be compared. Test "
        "figures of ours are those of the first opening of the test set by search.finalize."
        f"{source}",
        numbers=tuple(range(2, columns)),
    )


def differing_setup(view: StudyView) -> tuple[list[str], str | None]:
    """(what makes figures incomparable, what makes ours less certain): against the report."""
    spec, theirs = view.spec, published_setup(view.spec)
    if not theirs:
        return [], None
    changed = []
    if theirs.get("limit") != spec.limit:
        there = view.dataset.training_count - view.dataset.validation_count
        ours, wanted = (grouped(min(there, n or there)) for n in (spec.limit, theirs.get("limit")))
        if ours != wanted:
            changed.append(f"trained on {ours} images, not {wanted}")
    epochs, repeats = theirs.get("epochs", spec.epochs), theirs.get("repeats", spec.repeats)
    if epochs != spec.epochs:
        changed.append(f"trained for at most {spec.epochs} epochs, not {epochs}")
    seeds = "1 seed" if spec.repeats == 1 else f"{spec.repeats} seeds"
    return changed, f"{seeds} an arm, not {repeats}" if spec.repeats < repeats else None


def published_setup(spec: StudySpec) -> Mapping[str, int]:
    """The setup of the published experiment; of studies that do not record it, by ready-made ones.

    Empty where unknown.
    """
    if spec.published:
        return spec.published
    reported = {arm.name: dict(arm.reported) for arm in spec.arms}
    for file in ready_made():
        try:
            fields = read_study_file(file)
        except StudyFileError:  # changed by hand
            continue
        if {arm.name: dict(arm.reported) for arm in fields.get("arms", ())} == reported:
            found: Mapping[str, int] = fields.get("published", {})
            return found
    return {}


def _reported_row(
    view: StudyView, arm: ArmRuns, name: str, theirs: float
) -> tuple[str, str, str, str, str]:
    metric = MEASURES[name]
    head = (printable(arm.arm.name), metric.words, metric.shown(theirs))
    if name.startswith("test"):
        reading = _test_reading(view, arm, name.removeprefix("test_"))
        if reading is None:
            return (*head, "test set not opened", "")
        value, around, seeds = reading
        spread = seeds_in_words(around, seeds, metric.digits, metric.factor) or " (1 seed)"
        ours = f"{metric.factor * value:.{metric.digits}f}{spread}"
        return (*head, ours, metric.signed(value - theirs))
    values = arm.values(name)
    if not values:
        return (*head, trained_in_words(arm), "")
    count = "1 seed" if len(values) == 1 else f"{len(values)} seeds"
    ours = mean_in_words(arm, name) + ("" if name == "parameters" else f" ({count})")
    return (*head, ours, metric.signed(mean(values) - theirs))


def _test_reading(
    view: StudyView, arm: ArmRuns, name: str
) -> tuple[float, float | None, int] | None:
    """(mean, standard deviation, seeds) of the first reading of the test set with this arm."""
    numbers = {trial.number for trial in arm.complete}
    for reading in view.results:
        if reading.trial_number in numbers and reading.figures is not None:
            around = reading.figures.get("loss_std" if name == "loss" else "std")
            return reading.figures[name], around, len(reading.seeds)
    return None
