"""Decides whether to stop a trial early: by a rule on its rivals' losses, or any Optuna pruner."""

from __future__ import annotations

import math

from optuna.pruners import BasePruner
from sqlalchemy import select

from search.sampling.registry import find_pruner
from search.spec.config import StudySpec
from search.spec.space import runs_to_end
from search.store.database import Database, snapshot, with_retry
from search.store.leases import Lease
from search.store.schema import epochs
from search.store.studies import StudyHandle


def should_prune(study: StudyHandle, spec: StudySpec, lease: Lease, epoch: int) -> bool:
    """Whether the study's pruner stops a trial after a reported epoch.

    Args:
        epoch: 0 is the partial-epoch validation.

    Raises:
        StorageError: the database was unavailable.
        SpecError: there is no pruner of that name.
    """
    entry = find_pruner(spec.pruner)
    if epoch not in entry.rungs(spec.epochs):
        return False
    pruner, storage = entry.make(spec), study.db.optuna

    def attempt() -> bool:
        if runs_to_end(storage.get_trial_user_attrs(lease.trial_id)):
            return False
        if isinstance(pruner, BasePruner):
            return pruner.prune(study.study, storage.get_trial(lease.trial_id))
        losses = _lowest_losses(study.db, lease.study_id, epoch)
        own = losses.pop(lease.trial_id, None)
        return own is not None and pruner(epoch, own, list(losses.values()))

    return with_retry(study.db, attempt)


def _lowest_losses(db: Database, study_id: int, epoch: int) -> dict[int, float]:
    """Each trial's lowest value up to that epoch, by trial id; NaN if none was finite.

    One index query; Optuna's pruners would read all trials.
    """
    query = select(epochs.c.trial_id, epochs.c.best_validation_loss).where(
        epochs.c.study_id == study_id, epochs.c.epoch == epoch
    )
    with snapshot(db) as connection:
        return {
            trial_id: math.nan if loss is None else loss
            for trial_id, loss in connection.execute(query)
        }
