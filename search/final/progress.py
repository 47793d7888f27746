"""What finalize trains and how far it is: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from search.analysis.wording import duration, printable
from search.final.choose import Chosen
from search.pages.final_page import evaluated_before
from search.pages.words import in_utc
from search.store.records import ResultRow
from search.store.views import StudyView
from search.terminal.progress import can_be_live
from search.training.epoch import Epoch


def announce(view: StudyView, chosen: Chosen, seeds: int) -> None:
    """Say on standard error what will be trained, and what should be known before."""
    unfinished = view.spec.trials - view.finished
    if unfinished > 0 and not view.spec.is_comparison:
        _note(f"the study still lacks {unfinished} of its trials.")
    for note in (printable(chosen.why), evaluated_before(view)):
        if note:
            _note(note)
    print(
        f"Trial {chosen.trial.number} of study {view.name}, trained on all training images, "
        f"{seeds} {'time' if seeds == 1 else 'times'}",
        file=sys.stderr,
    )


def announce_recorded(row: ResultRow) -> None:
    _note(
        f"these networks were tested on {in_utc(row.opened_at)} already; the numbers on record "
        "are used, and no test evaluation is added."
    )


def _note(text: str) -> None:
    print(f"Note: {text}", file=sys.stderr)


class FinalProgress:
    """Context manager; tell it of each epoch.

    Args:
        seeds, epochs: how many runs of how many epochs there are.
    """

    def __init__(self, console: Console, *, seeds: int, epochs: int) -> None:
        self._console, self._seeds, self._epochs = console, seeds, epochs
        self._done = 0  # epochs, those of an earlier start included
        self._trained = 0  # epochs of this start
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not can_be_live(console),
        )
        self._task = self._bar.add_task("training", total=seeds * epochs, left="")

    def __enter__(self) -> FinalProgress:
        self._started = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def resumed(self, seed: int, epochs: int) -> None:
        """Epochs that an earlier, interrupted start has trained."""
        if epochs:
            self._done += epochs
            self._console.print(f"seed {seed}: {epochs} of {self._epochs} epochs were done before")

    def epoch(self, seed: int, epoch: Epoch) -> None:
        self._done += 1
        self._trained += 1
        pace = (time.monotonic() - self._started) / self._trained
        left = f"about {duration(pace * (self._seeds * self._epochs - self._done))} left"
        loss = f"training loss {epoch.train_loss:.4f}"
        if self._bar.disable:
            where = f"epoch {epoch.epoch} of {self._epochs}"
            self._console.print(f"seed {seed}: {where}, {loss}, {left}")
        else:
            self._bar.update(
                self._task, completed=self._done, description=f"seed {seed}, {loss}", left=left
            )
