"""Our tables: made, migrated from every earlier version, and refused from a later one."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import inspect, select, text

from search.store import StorageError
from search.store.database import Database
from search.store.leases import finish
from search.store.opening import open_database
from search.store.records import epochs_of
from search.store.schema import OURS, VERSION, schema
from search.store.studies import StudyHandle
from tests.search.worker_processes import report
from tests.search.workplaces import open_at_once, take

ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal, sys
from sqlalchemy import event
from search.store import schema
from search.store.opening import open_database

event.listen(
    schema.metadata, "after_create", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
)
open_database(sys.argv[1])
"""


def shape(db: Database) -> dict[str, set[str]]:
    """Our tables and their columns."""
    found = inspect(db.engine)
    return {t.name: {c["name"] for c in found.get_columns(t.name)} for t in OURS}


def version(db: Database) -> list[int]:
    with db.engine.connect() as connection:
        return list(connection.scalars(select(schema.c.version)))


def execute(db: Database, *statements: str) -> None:
    with db.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def age(db: Database) -> None:
    """Turn the database into one that commit 3bc7fe6 would have made."""
    if db.engine.dialect.name == "sqlite":
        execute(db, "DROP TRIGGER study_identities_follow_studies")
    execute(
        db,
        "DROP TABLE study_identities",
        "DROP TABLE cnn_search_schema",
        "ALTER TABLE leases DROP COLUMN extended",
        "ALTER TABLE epochs DROP COLUMN metrics",
    )


def test_a_new_database_has_the_latest_version(db: Database) -> None:
    assert version(db) == [VERSION]
    assert shape(db) == {t.name: {c.name for c in t.c} for t in OURS}


def test_an_earlier_database_is_migrated_and_loses_nothing(
    db: Database, study: StudyHandle, database_url: str
) -> None:
    """Five processes open it at once; the version that made it can still use it."""
    new = shape(db)
    lease = take(study)
    report(db, lease, 1, 0.5)
    age(db)
    db.close()
    open_at_once(database_url)
    with closing(open_database(database_url)) as again:
        assert (version(again), shape(again)) == ([VERSION], new)
        assert [row.validation_loss for row in epochs_of(again, study.study_id)] == [0.5]
        report(again, lease, 2, 0.25)
        loaded = optuna.load_study(study_name="study", storage=again.optuna)
        finish(StudyHandle.of(again, loaded), lease, state=TrialState.COMPLETE, value=0.25)


def test_a_killed_migration_changes_nothing_and_is_done_next_time(
    db: Database, database_url: str
) -> None:
    new = shape(db)
    age(db)
    db.close()
    done = subprocess.run([sys.executable, "-c", KILLED, database_url], cwd=ROOT, timeout=60)
    assert done.returncode < 0
    assert "cnn_search_schema" not in inspect(db.engine).get_table_names()
    with closing(open_database(database_url)) as again:
        assert (version(again), shape(again)) == ([VERSION], new)


def test_a_later_version_is_refused_in_one_line(db: Database, database_url: str) -> None:
    execute(db, f"UPDATE cnn_search_schema SET version = {VERSION + 1}")
    with pytest.raises(StorageError, match=r"a later version of cnn-search .*; update") as caught:
        open_database(database_url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_without_permission_to_write(db: Database, database_url: str) -> None:
    age(db)
    with pytest.raises(StorageError, match="cannot open"):
        open_database(f"{database_url}%20-cdefault_transaction_read_only%3Don")
