"""Held against Optuna's own storage: the same rows, the same trials, the same errors."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import select

from search.store import direct_storage
from search.store.claims import Done, claim
from search.store.direct_storage import DirectStorage, set_attributes, storage_class
from search.store.frozen_trials import TABLES
from search.store.leases import Lease, finish, sample
from search.store.opening import open_database
from search.store.storage import Database, transaction

DISTRIBUTIONS = {
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "share": FloatDistribution(0.0, 1.0, step=0.25),
    "width": IntDistribution(8, 64, step=8),
    "kind": CategoricalDistribution(["none", "Größe", None, True, 3, 0.5]),
}
PARTS = [name for name in TABLES if name.startswith("trial_")]


@pytest.fixture
def plain(db: Database) -> Iterator[RDBStorage]:
    """Optuna's own storage on the same database."""
    storage = RDBStorage(db.engine.url.render_as_string(hide_password=False))
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def live(storage: _CachedStorage, study_id: int) -> None:
    """Trials of every fate, and every value that there can be."""
    params = {"rate": 0.1 + 0.2 - 0.29, "share": 0.75, "width": 16.0, "kind": 1.0}
    for number in range(6):
        trial = storage.create_new_trial(study_id)
        for name, value in list(params.items())[: 4 if number else 2]:
            storage.set_trial_param(trial, name, value, DISTRIBUTIONS[name])
        storage.set_trial_user_attr(trial, "list", [1, {"a": None}])
        storage.set_trial_user_attr(trial, "text", "first")
        storage.set_trial_user_attr(trial, "text", "'Größe'; DROP TABLE trials")
        storage.set_trial_system_attr(trial, "one", 0.1 + 0.2)
        for step, value in [(3, 0.5), (0, math.nan), (1, math.inf), (2, -math.inf), (3, 1 / 3)]:
            storage.set_trial_intermediate_value(trial, step, value)
        match number:
            case 0 | 1:
                value = [1 / 3, math.inf][number]
                assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [value])
            case 2:
                assert storage.set_trial_state_values(trial, TrialState.PRUNED, [-math.inf])
            case 3:
                assert storage.set_trial_state_values(trial, TrialState.PRUNED)
            case 4:
                assert storage.set_trial_state_values(trial, TrialState.FAIL)
    queued = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"x": 1}})
    waiting = storage.create_new_trial(study_id, queued)
    assert storage.set_trial_state_values(waiting, TrialState.RUNNING)
    assert not storage.set_trial_state_values(waiting, TrialState.RUNNING)


def stored(db: Database, study_id: int) -> list[list[dict[str, Any]]]:
    """All of a study's rows, without ids and with times only as far as there are any."""
    trials = TABLES["trials"]
    tables = []
    with db.engine.connect() as connection:
        for table in [trials, *(TABLES[name] for name in PARTS)]:
            query = select(table).order_by(*table.primary_key)
            if table is not trials:
                query = query.join(trials).add_columns(trials.c.number)
            tables.append(
                [
                    {
                        name: value is not None if name.startswith("datetime") else value
                        for name, value in row.items()
                        if name not in ("trial_id", "study_id") and name not in table.primary_key
                    }
                    for row in connection.execute(
                        query.where(trials.c.study_id == study_id)
                    ).mappings()
                ]
            )
    return tables


def comparable(trials: Sequence[FrozenTrial]) -> list[dict[str, object]]:
    """All that there is to a trial; NaN, which equals nothing, in words."""
    return [
        {
            **trial.__dict__,
            "intermediate_values": {k: repr(v) for k, v in trial.intermediate_values.items()},
        }
        for trial in trials
    ]


def test_the_same_rows(db: Database, plain: RDBStorage) -> None:
    rows = []
    for storage in (_CachedStorage(plain), _CachedStorage(db.optuna)):
        study_id = storage.create_new_study([StudyDirection.MINIMIZE])
        live(storage, study_id)
        rows.append(stored(db, study_id))
    assert rows[0] == rows[1]
    assert len(rows[0][0]) == 7
    assert sum(map(len, rows[0])) > 60


@pytest.mark.parametrize("writer", ["optuna", "ours"])
def test_the_same_trials(db: Database, plain: RDBStorage, writer: str) -> None:
    for _ in range(2):  # the second study's trials are to be told from the first's
        storage = _CachedStorage(plain if writer == "optuna" else db.optuna)
        study_id = storage.create_new_study([StudyDirection.MINIMIZE])
        live(storage, study_id)
    theirs = plain.get_all_trials(study_id)
    ours = db.optuna.get_all_trials(study_id)
    assert comparable(ours) == comparable(theirs)
    assert [list(trial.params) for trial in ours] == [list(trial.params) for trial in theirs]
    assert comparable([db.optuna.get_trial(t._trial_id) for t in theirs]) == comparable(theirs)
    finished = (TrialState.COMPLETE, TrialState.FAIL)
    of_both = [s.get_all_trials(study_id, states=finished) for s in (db.optuna, plain)]
    assert comparable(of_both[0]) == comparable(of_both[1])
    assert len(of_both[0]) == 3
    ids = [trial._trial_id for trial in theirs]
    some = db.optuna._get_trials(study_id, None, {ids[0], ids[1], ids[5]}, ids[3])
    assert [trial._trial_id for trial in some] == [ids[0], ids[1], *ids[4:]]


def test_more_trials_than_are_asked_for_one_by_one(db: Database, plain: RDBStorage) -> None:
    storage = _CachedStorage(db.optuna)
    study_ids = [storage.create_new_study([StudyDirection.MINIMIZE]) for _ in range(2)]
    with transaction(db):
        for number in range(240):
            trial = storage.create_new_trial(study_ids[number % 2])
            storage.set_trial_intermediate_value(trial, number, float(number))
    for study_id in study_ids:
        found = db.optuna.get_all_trials(study_id)
        assert len(found) == 120
        assert found == plain.get_all_trials(study_id)


@pytest.mark.parametrize("whose", ["optuna's", "ours"])
def test_the_same_errors(db: Database, plain: RDBStorage, whose: str) -> None:
    storage = _CachedStorage(plain if whose == "optuna's" else db.optuna)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    trial, ended = (storage.create_new_trial(study_id) for _ in range(2))
    storage.set_trial_state_values(ended, TrialState.FAIL)
    for number, error in [(10**6, KeyError), (ended, UpdateFinishedTrialError)]:
        calls: list[Callable[[], object]] = [
            partial(storage.set_trial_user_attr, number, "a", 1),
            partial(storage.set_trial_system_attr, number, "a", 1),
            partial(storage.set_trial_intermediate_value, number, 1, 1.0),
            partial(storage.set_trial_state_values, number, TrialState.FAIL),
            partial(storage.set_trial_state_values, number, TrialState.COMPLETE, [1.0]),
        ]
        for call in calls:
            with pytest.raises(error):
                call()
    for lookup in (storage.get_trial, storage.create_new_trial, storage.get_all_trials):
        with pytest.raises(KeyError):
            lookup(10**6)
    for value in (8.0, 16.0):  # the first stands
        storage.set_trial_param(trial, "width", value, DISTRIBUTIONS["width"])
    for name in ("rate", "kind"):
        with pytest.raises(ValueError, match="different distribution kind"):
            storage.set_trial_param(trial, "width", 8.0, DISTRIBUTIONS[name])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_param(ended, "width", 8.0, DISTRIBUTIONS["width"])
    assert storage.get_trial(trial).params == {"width": 8}
    assert storage.get_trial(ended).params == {}


def test_attributes_of_both_kinds_at_once(db: Database, plain: RDBStorage) -> None:
    user = {"list": [1, {"a": None}], "text": "'Größe'; DROP TABLE trials", "share": 1 / 3}
    for storage in (plain, db.optuna):
        study_id = storage.create_new_study([StudyDirection.MINIMIZE])
        trial = storage.create_new_trial(study_id)
        storage.set_trial_user_attr(trial, "text", "first")
        set_attributes(storage, trial, user=user, system={})
        set_attributes(storage, trial, user={}, system={"one": 1, "two": "2"})
        for reader in (plain, db.optuna):
            read = reader.get_trial(trial)
            assert (read.user_attrs, read.system_attrs) == (user, {"one": 1, "two": "2"})
        storage.set_trial_state_values(trial, TrialState.FAIL)
        for number, error in [(10**6, KeyError), (trial, UpdateFinishedTrialError)]:
            for kinds in ({"user": user, "system": {}}, {"user": {}, "system": user}):
                with pytest.raises(error):
                    set_attributes(storage, number, **kinds)
        assert db.optuna.get_trial(trial).user_attrs == user


def test_a_transaction_that_fails_leaves_nothing(db: Database, study: optuna.Study) -> None:
    before = db.optuna.get_all_trials(study._study_id)

    def live_and_break() -> None:
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("a", 1)
        db.optuna.set_trial_intermediate_value(trial._trial_id, 1, 1.0)
        study.tell(trial, 1.0)
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"), transaction(db):
        live_and_break()
    assert db.optuna.get_all_trials(study._study_id) == before == []


def test_reading_waits_for_no_writer(db: Database, study: optuna.Study) -> None:
    trial = study.ask()
    with db.engine.begin():  # on SQLite: holds the one lock for writing
        assert db.optuna.get_trial(trial._trial_id).number == 0
        assert len(study.get_trials()) == 1


def test_tables_that_are_not_known_are_left_to_optuna(
    database_url: str, monkeypatch: pytest.MonkeyPatch, report: Callable[..., None]
) -> None:
    assert storage_class() is DirectStorage  # else all of the above is moot: see the new schema
    monkeypatch.setattr(direct_storage, "SCHEMA", "v9.9.9")
    db = open_database(database_url)
    assert type(db.optuna) is RDBStorage
    study = optuna.create_study(storage=db.optuna)
    lease = claim(db, study, total=1)
    assert isinstance(lease, Lease)
    x = sample(db, study, lease, lambda trial: trial.suggest_float("x", 0, 1))
    report(db, lease, 1, x)
    finish(db, lease, study, state=TrialState.COMPLETE, value=x, attributes={"a": 1})
    assert claim(db, study, total=1) == Done(finished=1)
    (trial,) = study.trials
    assert (trial.params, trial.user_attrs) == ({"x": x}, {"a": 1})
    assert trial.intermediate_values == {1: trial.value} == {1: x}
    db.close()
