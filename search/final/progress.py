"""What finalize trains and how far it is: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from search.analysis.wording import counted, duration, printable
from search.final.choose import Chosen
from search.pages.final_page import evaluated_before
from search.store.views import StudyView
from search.terminal.progress import can_be_live
from search.training.epoch import Epoch


def note(text: str) -> None:
    """Tell a person something on standard error."""
    print(f"Note: {text}", file=sys.stderr)


def announce(view: StudyView, chosen: Chosen, seeds: int) -> None:
    """Say on standard error what will be trained, and what should be known before."""
    unfinished = view.spec.trials - view.finished
    if unfinished > 0 and not view.spec.is_comparison:
        note(f"the study still lacks {unfinished} of its trials.")
    for text in filter(None, (printable(chosen.why), evaluated_before(view))):
        note(text)
    times = counted(seeds, "time")
    what = f"Trial {chosen.trial.number} of study {view.name}"
    print(f"{what}, trained on all training images, {times}", file=sys.stderr)


@contextmanager
def shown_progress(
    console: Console, done: dict[int, int], epochs: int
) -> Iterator[Callable[[int, Epoch], None]]:
    """Show how the runs advance; yields a function to call with a seed and its latest epoch.

    Args:
        done: by seed, the epochs that an earlier, interrupted start has trained.
        epochs: of each run.
    """
    started, before, total = time.monotonic(), sum(done.values()), len(done) * epochs
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn())
    is_live = can_be_live(console)
    bar = Progress(TextColumn("{task.description}"), *columns, console=console, disable=not is_live)
    task, now = bar.add_task("training", total=total, completed=before), before
    for seed, count in done.items():
        if count:
            console.print(f"seed {seed}: {count} of {epochs} epochs were done before")

    def tell(seed: int, epoch: Epoch) -> None:
        nonlocal now
        now += 1
        left = duration((time.monotonic() - started) / (now - before) * (total - now))
        words = f"training loss {epoch.train_loss:.4f}, about {left} left"
        if is_live:
            bar.update(task, completed=now, description=f"seed {seed}, {words}")
        else:
            console.print(f"seed {seed}: epoch {epoch.epoch} of {epochs}, {words}")

    with bar:
        yield tell
