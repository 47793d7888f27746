"""A trial's checkpoint: where it is kept, whose it is, and whether it may be gone on from."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from data.fingerprint import Fingerprint
from models.checks import shown
from search.spec.config import TrialConfig
from search.store.errors import CheckpointUnwritableError
from search.store.folders import CHECKPOINTS
from search.store.history import epochs_of_trial
from search.store.leases import Lease
from search.store.storage import Database, StorageError
from search.training.files import is_made_for, latest_checkpoint, save_checkpoint


def checkpoint_path(folder: Path, trial_number: int) -> Path:
    """Where a trial's checkpoint lies. SQLite keeps any text as a number, `../../x` too.

    Raises:
        StorageError: the database gives it a number that is none.
    """
    if not isinstance(trial_number, int) or trial_number < 0:
        raise StorageError(f"a trial of the database has the number {shown(trial_number)}")
    return folder / CHECKPOINTS / f"trial-{trial_number}.pt"


def checkpoint_identity(
    lease: Lease, started: datetime | None, config: TrialConfig, content: Fingerprint | None
) -> dict[str, Any]:
    """What a checkpoint must agree with: its file may stem from a study since deleted.

    The order of the images is part of it: on it depends which of them are for validation.
    """
    return {
        "trial": lease.trial_id,
        "started": str(started),
        "config": config.to_dict(),
        "content": None if content is None else content.to_dict(),
    }


def saved_state(
    db: Database, lease: Lease, checkpoint: Path, identity: dict[str, Any]
) -> dict[str, Any] | None:
    saved = latest_checkpoint(checkpoint)
    if saved is None or not is_made_for(identity, saved.get("identity")):
        return None
    state: dict[str, Any] = saved["training"]
    reports = epochs_of_trial(db, lease.trial_id)
    if state["epoch"] > max((report.epoch for report in reports), default=0):
        return None  # a power cut undid reports (see `transaction`): they are to be made again
    return state


def save(checkpoint: Path, state: dict[str, Any]) -> None:
    try:
        save_checkpoint(checkpoint, state)
    except OSError as error:
        raise CheckpointUnwritableError(
            f"cannot write {checkpoint} ({error.strerror}); nothing is lost: make room, "
            "then run the same command again"
        ) from error
