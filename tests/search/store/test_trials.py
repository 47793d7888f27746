"""Trials read from the tables are those that Optuna reads."""

import math
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from search.store.claims import claim
from search.store.database import read
from search.store.leases import Lease
from search.store.schema import trials
from search.store.trials import read_trials
from tests.search.long_studies import fill


def compared(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "state": trial.state,
        "began": trial.datetime_start,
        "ended": trial.datetime_complete,
        "params": list(trial.params.items()),
        "distributions": trial.distributions,
        "attributes": trial.user_attrs,
        "reports": {step: repr(it) for step, it in trial.intermediate_values.items()},
    }


def test_they_are_those_that_optuna_reads(tmp_path: Path) -> None:
    db, study = fill(tmp_path / "studies.db", 12)
    lease = claim(study, total=10**6)
    assert isinstance(lease, Lease)
    db.optuna.set_trial_user_attr(lease.trial_id, "overrides", {"depth": [1, 2]})
    for step, value in ((0, 0.5), (1, math.nan)):
        db.optuna.set_trial_intermediate_value(lease.trial_id, step, value)
    found = read(db, lambda connection: read_trials(connection, trials.c.study_id == 1))
    assert [trial.number for trial in found] == list(range(13))
    assert list(map(compared, found)) == list(map(compared, study.study.get_trials()))
    some = read(db, lambda connection: read_trials(connection, trials.c.number.in_([3, 12])))
    assert [trial.number for trial in some] == [3, 12]
    db.close()
