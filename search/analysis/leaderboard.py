"""The best trials of a study, and the pruned ones that came furthest, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from search.analysis.uncertainty import sampling_error
from search.spec.config import TrialConfig
from search.store.view import StudyView, TrialView


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardRow:
    """A trial at the epoch of its lowest validation loss.

    Attributes:
        rank: 1 for the best; None for a pruned one, which has none.
        accuracy, sigma: shares in [0, 1]; sigma is the sampling error of the former.
        epoch, epochs: the epoch with the lowest loss, and how many were trained.
        parameters: trained weights and biases; None while unknown.
        seconds: of training and validation.
    """

    rank: int | None
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
    ranked = enumerate(view.leaderboard[:count], start=1)
    return [row for rank, trial in ranked for row in _rows(rank, trial, view)]


def stopped_rows(view: StudyView, count: int) -> list[LeaderboardRow]:
    """The pruned trials that came furthest, at most `count`; of equals, lowest loss first."""
    rows = [row for trial in view.in_state("pruned") for row in _rows(None, trial, view)]
    return sorted(rows, key=lambda row: (-row.epochs, row.loss))[:count]


def _rows(rank: int | None, trial: TrialView, view: StudyView) -> Iterator[LeaderboardRow]:
    """One, or none of a trial that finished no epoch."""
    best = trial.best
    if best is not None:
        yield LeaderboardRow(
            rank=rank,
            number=trial.number,
            is_baseline=trial.is_baseline,
            loss=best.validation_loss,
            accuracy=1 - best.validation_error,
            sigma=sampling_error(best.validation_error, view.dataset.validation_count),
            epoch=best.epoch,
            epochs=len(trial.curve),
            parameters=trial.parameters,
            seconds=trial.seconds,
            config=trial.config,
        )
