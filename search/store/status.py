"""How a study stands: who trains what, and how many trials are where."""

from collections import Counter
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState
from sqlalchemy import func, select

from search.store.claims import is_abandoned, running_trials
from search.store.storage import Database, snapshot, with_retry
from search.store.tables import epochs, trials


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningTrial:
    """A trial in training.

    Attributes:
        worker: a name as `this_worker` makes it; `display_name` shortens it.
        epoch: of the last report; None before the first.
        attempt: see `Lease`.
    """

    trial_number: int
    worker: str
    epoch: int | None
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """Trials of a study by what becomes of them.

    Attributes:
        running: held by a worker, by trial number.
        abandoned: numbers of the running ones that nobody holds; the next claim takes one over.
        waiting: queued, not begun.
    """

    running: tuple[RunningTrial, ...]
    abandoned: tuple[int, ...]
    complete: int
    pruned: int
    failed: int
    waiting: int


def status(db: Database, study: optuna.Study) -> Status:
    """The study as it stands now.

    Raises:
        StorageError: the database stayed away.
    """
    study_id = study._study_id
    of_study = trials.c.study_id == study_id
    by_state = select(trials.c.state, func.count()).where(of_study).group_by(trials.c.state)
    last_epochs = (
        select(epochs.c.trial_id, func.max(epochs.c.epoch))
        .join(trials, trials.c.trial_id == epochs.c.trial_id)
        .where(of_study, trials.c.state == TrialState.RUNNING)
        .group_by(epochs.c.trial_id)
    )

    def attempt() -> Status:
        with snapshot(db) as connection:
            counts = Counter(dict(tuple(row) for row in connection.execute(by_state)))
            epoch = dict(tuple(row) for row in connection.execute(last_epochs))
            rows = running_trials(connection, study_id)
        return Status(
            running=tuple(
                RunningTrial(
                    trial_number=row.number,
                    worker=row.worker or "unknown",
                    epoch=epoch.get(row.trial_id),
                    attempt=(row.abandonments or 0) + 1,
                )
                for row in rows
                if not is_abandoned(row)
            ),
            abandoned=tuple(row.number for row in rows if is_abandoned(row)),
            complete=counts[TrialState.COMPLETE],
            pruned=counts[TrialState.PRUNED],
            failed=counts[TrialState.FAIL],
            waiting=counts[TrialState.WAITING],
        )

    return with_retry(db, attempt)
