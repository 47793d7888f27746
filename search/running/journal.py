"""A second record of what was acknowledged, to hold the database to its word.

For tests: with `$SEARCH_JOURNAL` set to a folder, every worker also writes each report there that
the database has acknowledged, on disk before training goes on. Afterwards `unrecorded` says what
of it the database lacks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from search.store.history import EpochRow

FOLDER_VARIABLE = "SEARCH_JOURNAL"


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledged:
    trial_number: int
    epoch: int
    validation_loss: float


class Journal:
    """The file of this process in `folder`: a line of JSON for each report, fsynced."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"{os.getpid()}.jsonl"

    def acknowledge(self, trial_number: int, epoch: int, validation_loss: float) -> None:
        line = json.dumps([trial_number, epoch, validation_loss]) + "\n"
        with self._file.open("a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def journal_from_environment() -> Journal | None:
    folder = os.environ.get(FOLDER_VARIABLE)
    return Journal(Path(folder)) if folder else None


def read_journals(folder: Path) -> list[Acknowledged]:
    """All that was acknowledged. A line that a kill cut short was not: its fsync never returned."""
    found = []
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                trial_number, epoch, loss = json.loads(line)
                found.append(
                    Acknowledged(trial_number=trial_number, epoch=epoch, validation_loss=loss)
                )
    return found


def unrecorded(folder: Path, rows: Iterable[EpochRow]) -> list[Acknowledged]:
    """Acknowledged reports that the rows lack. The loss counts too, to the bit."""
    stored = {(row.trial_number, row.epoch, row.validation_loss) for row in rows}
    return [
        report
        for report in read_journals(folder)
        if (report.trial_number, report.epoch, report.validation_loss) not in stored
    ]
