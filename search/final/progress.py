"""What finalize trains and how far it is: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from search.analysis.wording import counted, duration, printable
from search.final.choose import Chosen
from search.pages.words import evaluated_before
from search.store.views import StudyView
from search.terminal.commands import console, log
from search.terminal.progress import can_be_live
from search.training.epoch import Epoch
from search.training.repeat import Job


def note(text: str) -> None:
    """Tell a person something on standard error."""
    log(f"Note: {text}")


def announce(view: StudyView, candidates: Sequence[Chosen], seeds: int) -> None:
    """Say on standard error what will be compared first, and what should be known before."""
    unfinished = view.spec.trials - view.finished
    if unfinished > 0:
        note(f"the study still lacks {unfinished} of its trials.")
    if view.results:
        note(evaluated_before(view))
    if candidates:
        numbers = ", ".join(str(chosen.trial.number) for chosen in candidates)
        log(
            f"Trials {numbers} of study {view.name}, each trained again on the study's own split "
            f"with {counted(seeds, 'fresh seed')}, to choose between them"
        )


def announce_final(view: StudyView, chosen: Chosen, seeds: int) -> None:
    """Say on standard error what will be trained for the test, and why."""
    if chosen.why:
        note(printable(chosen.why))
    times = counted(seeds, "time")
    what = f"Trial {chosen.trial.number} of study {view.name}"
    log(f"{what}, trained on all training images, {times}")


@contextmanager
def shown_progress(runs: Sequence[tuple[Job, int]]) -> Iterator[Callable[[int, Epoch], None]]:
    """Show how the runs advance; yields a function to call with a run's index and latest epoch.

    Args:
        runs: job and seed of each; what an earlier, interrupted start has trained is known.
    """
    done = [len(job.saved(seed)["curve"]) for job, seed in runs]
    names = [
        f"seed {seed}" if job.candidate is None else f"trial {job.candidate}, fresh seed {seed}"
        for job, seed in runs
    ]
    started, before, total = time.monotonic(), sum(done), sum(job.epochs for job, _ in runs)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn())
    screen = console()
    is_live = can_be_live(screen)
    bar = Progress(TextColumn("{task.description}"), *columns, console=screen, disable=not is_live)
    task, now = bar.add_task("training", total=total, completed=before), before
    for (job, _), name, count in zip(runs, names, done, strict=True):
        if count:
            log(f"{name}: {count} of {job.epochs} epochs were done before")

    def tell(index: int, epoch: Epoch) -> None:
        nonlocal now
        now += 1
        left = duration((time.monotonic() - started) / (now - before) * (total - now))
        words = f"training loss {epoch.train_loss:.4f}, about {left} left"
        if is_live:
            bar.update(task, completed=now, description=f"{names[index]}, {words}")
        else:
            log(f"{names[index]}: epoch {epoch.epoch} of {runs[index][0].epochs}, {words}")

    with bar:
        yield tell
