"""The trials that a sampler is shown: all of a short study, a bounded number of a long one.

What a draw costs, in time and in memory, does not grow with the study. TPE calls 25 trials good at
most, and compares them with the others; of ten thousand the best and the latest say as much.
"""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy import Connection

from search.spec.config import StudySpec
from search.spec.space import lies_in_space
from search.store.frozen_trials import trials_by_id
from search.store.selection import best, latest, running
from search.store.storage import Database, snapshot

BEST, LATEST = 200, 200  # complete trials, and any; a study of so many together is shown whole


class Evidence:
    """Reads what there is to learn from; trials that have ended are read once."""

    def __init__(self, db: Database, study: optuna.Study, spec: StudySpec) -> None:
        self._db, self._study_id, self._spec = db, study._study_id, spec
        self._ended: dict[int, FrozenTrial] = {}

    def __call__(self) -> list[FrozenTrial]:
        """By number. A baseline that is not of the space says nothing of it, and is left out."""
        with snapshot(self._db) as connection:
            chosen = self._choose(connection)
            known = {key: self._ended[key] for key in chosen if key in self._ended}
            unknown = [trial_id for trial_id in chosen if trial_id not in known]
            fresh = trials_by_id(connection, unknown)
        self._ended = known | {t._trial_id: t for t in fresh if t.state.is_finished()}
        shown = [trial for trial in (*known.values(), *fresh) if lies_in_space(trial, self._spec)]
        return sorted(shown, key=lambda trial: trial.number)

    def _choose(self, connection: Connection) -> list[int]:
        newest = latest(connection, self._study_id, BEST + LATEST + 1)
        if len(newest) <= BEST + LATEST:
            return sorted(newest)
        others = best(connection, self._study_id, BEST) + running(connection, self._study_id)
        return sorted({*newest[:LATEST], *others})
