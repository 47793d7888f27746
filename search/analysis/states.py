"""What becomes of trials, in the words that every page, table and picture uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.analysis.wording import grouped
from search.store.view import State, StudyView

WORDS: Mapping[State, str] = {
    "complete": "complete",
    "pruned": "pruned",
    "failed": "failed",
    "running": "running",
    "interrupted": "interrupted",
    "waiting": "queued",
}
MEANINGS: Mapping[State, str] = {
    "complete": "trained to the end",
    "pruned": "ended early by the study's pruner, since others promised more",
    "failed": "ended by an error or an infinite loss",
    "running": "held by a worker",
    "interrupted": "its worker is gone or was stopped; the next worker carries it on",
    "waiting": "not begun",
}
ENDED: Sequence[State] = ("complete", "pruned", "failed")


def counts_in_words(view: StudyView, states: Sequence[State] = ENDED) -> str:
    """`6 complete, 11 pruned, 1 failed`; what there is none of is left out, but for the first."""
    counted = [(view.count(state), state) for state in states]
    first = states[0]
    return ", ".join(f"{grouped(n)} {WORDS[state]}" for n, state in counted if n or state == first)


def all_counts(view: StudyView) -> str:
    """The same of trials in any state."""
    return counts_in_words(view, tuple(WORDS))
