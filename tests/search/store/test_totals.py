"""A study's total, lowered while trials are under way."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import TrialState

from search.spec.config import StudySpec
from search.store.claims import claim
from search.store.database import Database
from search.store.leases import finish, release
from search.store.studies import create_study, load_spec, set_total
from tests.search.long_studies import INFO
from tests.search.workplaces import take


@pytest.mark.parametrize(("total", "kept"), [(1, 4), (4, 4), (5, 5)])
def test_no_trial_is_left_unfinished(db: Database, total: int, kept: int) -> None:
    """Two have finished, one is interrupted and one in training; a paused one may be pruned."""
    study = create_study(db, "s", StudySpec(dataset="digits"), INFO, validation_count=287)
    pruned, failed, complete, paused, interrupted, training = (take(study) for _ in range(6))
    finish(study, pruned, state=TrialState.PRUNED)
    finish(study, failed, state=TrialState.FAIL)
    finish(study, complete, state=TrialState.COMPLETE, value=1.0)
    finish(study, paused, state=TrialState.RUNNING)
    release(db, interrupted)
    set_total(study, total)
    assert load_spec(study).trials == kept

    options: dict[str, Any] = {"total": kept, "choose": lambda _: None}
    again = take(study, **options)
    assert again.trial_number == interrupted.trial_number
    assert claim(study, **options) == "wait"
    for lease in (again, training):
        finish(study, lease, state=TrialState.COMPLETE, value=1.0)
    assert claim(study, **options) == "done"  # which prunes the paused one
    set_total(study, total)  # the same command again
    assert load_spec(study).trials == kept
    assert claim(study, **options) == "done"
