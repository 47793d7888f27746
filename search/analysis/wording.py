"""Numbers and facts in words: the one place that decides digits, units, spread and states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import TYPE_CHECKING

from data.errors import grouped
from search.spec.objectives import OBJECTIVES

if TYPE_CHECKING:
    from search.spec.config import StudySpec
    from search.spec.earlier import Earlier
    from search.store.views import State, StudyView


MOST_NAME = 24  # characters of a class name on an axis
ENDED: Sequence[State] = ("complete", "pruned", "failed")
MEANINGS: Mapping[State, str] = {
    "complete": "trained to the end",
    "pruned": "ended early by the study's pruner because others were more promising",
    "failed": "ended by an error or an infinite loss",
    "running": "held by a worker",
    "paused": "on hold; it resumes if it is worth its next epochs",
    "interrupted": "its worker is gone or was stopped; the next worker resumes it",
    "waiting": "not started",
}
WORDS: Mapping[State, str] = {**{state: state for state in MEANINGS}, "waiting": "queued"}


def counted(number: int, what: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def capitalized(text: str) -> str:
    """With a capital letter first, the rest as it is."""
    return text[:1].upper() + text[1:]


def percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """At most the two largest units that matter: `45 s`, `12 min`, `1 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None for a single value, which has no spread."""
    return stdev(values) if len(values) > 1 else None


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row; cells are padded to the widest in their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def printable(text: str) -> str:
    """User-supplied text on one line, without control characters."""
    return "".join(char if char.isprintable() else "�" for char in text)


def fitted(name: str, most: int = MOST_NAME) -> str:
    """A user-supplied name, cut to `most` characters; not escaped."""
    clean = printable(name)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def numbers_in_words(counts: Mapping[State, int]) -> str:
    """`6 complete, 11 pruned, 1 failed`; zero counts are left out, except the first."""
    shown = [(n, state) for rank, (state, n) in enumerate(counts.items()) if n or rank == 0]
    return ", ".join(f"{grouped(n)} {WORDS[state]}" for n, state in shown)


def counts_in_words(view: StudyView, states: Sequence[State] = ENDED) -> str:
    """The same for a study's trials in these states."""
    return numbers_in_words({state: view.count(state) for state in states})


def all_counts(view: StudyView) -> str:
    """The same for all states."""
    return counts_in_words(view, tuple(WORDS))


def flat_in_words(view: StudyView) -> str:
    """`; ends once flat (gain below 0.001)`, or nothing."""
    gain = view.stop_when_flat
    return "" if gain is None or view.stopped else f"; ends once flat (gain below {gain:g})"


def training_count(view: StudyView) -> int:
    """Images that a trial is trained on."""
    rest = view.dataset.training_count - view.dataset.validation_count
    return rest if view.spec.limit is None else min(rest, view.spec.limit)


def split_in_words(view: StudyView) -> str:
    """`stratified split, seed 0`."""
    own = "the data set's own validation images"
    return own if view.dataset.own_validation else f"stratified split, seed {view.spec.seed}"


def notes_in_words(view: StudyView) -> list[str]:
    """How a data set was made from the user's pictures, which studies the search starts from, and
    why it ended early, a sentence each."""
    ended = [] if view.stopped is None else [f"ended early: {view.stopped}"]
    notes = [*view.dataset.notes, *map(warm_start_in_words, view.earlier), *ended]
    return [printable(f"{capitalized(note)}.") for note in notes]


def warm_start_in_words(earlier: Earlier) -> str:
    """`Warm start from study mnist (MNIST, best calibrated loss 0.0231): its best 3 ...`"""
    objective = OBJECTIVES[earlier.objective]
    best = "no trial complete"
    if earlier.best is not None:
        shown = f"{earlier.best:.4f}" if objective.unit else percent(earlier.best)
        best = f"best {objective.word} {shown}"
    count = len(earlier.configurations)
    parts = [f"its best {counted(count, 'configuration') if count > 1 else 'configuration'}"]
    if earlier.clipped:
        parts.append(f"{earlier.clipped} moved to the nearest end of a range")
    if earlier.left_out:
        parts.append(f"{earlier.left_out} left out, not offered by this study")
    if earlier.not_searched:
        parts.append(f"not searched here: {', '.join(earlier.not_searched)}")
    source = f"study {earlier.source} ({earlier.data}, {best})"
    return printable(f"Warm start from {source}: {'; '.join(parts)}")


def data_in_words(view: StudyView) -> str:
    """`Fashion-MNIST, 50 000 training and 10 000 validation images`."""
    return (
        f"{printable(view.dataset.title)}, {grouped(training_count(view))} training and "
        f"{grouped(view.dataset.validation_count)} validation images"
    )


def size_in_words(spec: StudySpec) -> str:
    """`4 arms x 3 repeats of up to 100 epochs`, `50 trials of up to 12 epochs`."""
    what = counted(spec.trials, "trial")
    if spec.is_comparison:
        what = f"{counted(len(spec.arms), 'arm')} x {counted(spec.repeats, 'repeat')}"
    limit = "" if spec.limit is None else f" on {spec.limit} images"
    return f"{what} of up to {counted(spec.epochs, 'epoch')}{limit}"
