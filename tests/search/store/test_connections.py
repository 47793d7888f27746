"""When a commit waits for the disk. What power cuts do is SQLite's matter, and is not tested."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import event, update

from search.store import connections
from search.store.claims import claim
from search.store.leases import Lease, finish, renew, sample
from search.store.opening import open_database
from search.store.storage import Database, transaction
from search.store.tables import studies

NORMAL, FULL = 1, 2


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path / 'studies.db'}")


def level(db: Database, *, hasty: bool, writes: bool = True) -> int:
    """SQLite's level in a transaction."""
    with transaction(db, hasty=hasty) as connection:
        if writes:
            connection.execute(update(studies).values(study_id=studies.c.study_id))
        found: int = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    return found


def test_hasty_commits_are_spared_the_disk_for_a_second(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna.create_study(storage=db.optuna)
    monkeypatch.setattr(connections, "_UNSYNCED_SECONDS", 100.0)
    now = 1e9  # after all that was before
    monkeypatch.setattr("search.store.connections.time.monotonic", lambda: now)
    assert level(db, hasty=True) == FULL  # nothing was, so far
    now += 99
    assert level(db, hasty=True) == NORMAL
    assert level(db, hasty=False) == FULL
    now += 99
    assert level(db, hasty=True) == NORMAL
    now += 2
    assert level(db, hasty=False, writes=False) == FULL  # for which SQLite does not go to the disk
    assert level(db, hasty=True) == FULL
    now += 99
    assert level(db, hasty=True) == NORMAL
    now += 2
    assert level(db, hasty=True) == FULL  # a hasty one does not put the next one off


def test_what_is_hasty_in_a_trials_life(db: Database, report: Callable[..., None]) -> None:
    """Its end, and a lease that is renewed, are not: they take to the disk what came before."""
    study = optuna.create_study(storage=db.optuna, sampler=optuna.samplers.RandomSampler())
    levels: list[int] = []

    def before_commit(connection: object) -> None:
        levels.append(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())  # type: ignore[attr-defined]

    level(db, hasty=False)
    event.listen(db.engine, "commit", before_commit)

    def of(step: Callable[[], object]) -> set[int]:
        levels.clear()
        step()
        return set(levels)

    lease = claim(db, study, total=1)
    assert isinstance(lease, Lease)
    assert of(lambda: sample(db, study, lease, lambda t: t.suggest_float("x", 0, 1))) == {NORMAL}
    assert of(lambda: report(db, lease, 1)) == {NORMAL}
    assert of(lambda: renew(db, lease)) == {FULL}
    assert of(lambda: report(db, lease, 2)) == {NORMAL}
    ending = of(lambda: finish(db, lease, study, state=TrialState.COMPLETE, value=1.0))
    assert ending == {FULL}
