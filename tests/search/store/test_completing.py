import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from sqlalchemy import inspect, text

from search.store.claims import claim
from search.store.completing import lacking
from search.store.history import epochs_of
from search.store.leases import Lease
from search.store.opening import open_database
from search.store.storage import Database, StorageError

ROOT = Path(__file__).parents[3]
LATER = """
from sqlalchemy import Column, Double, Index, Integer
from search.store.tables import epochs
epochs.append_column(Column("later", Double))
epochs.append_column(Column("count", Integer, nullable=False, server_default="7"))
Index("ix_later", epochs.c.later)
"""
OPEN = """
import os, sys
from search.store.opening import open_database

for _ in range(4):
    if os.fork() == 0:
        code = 1
        try:
            open_database(sys.argv[1]).close()
            code = 0
        finally:
            os._exit(code)
sys.exit(any([os.wait()[1] for _ in range(4)]))
"""


def open_later(url: str) -> None:
    """Several processes at once open it, of a version that has more columns and indexes."""
    program = LATER + OPEN
    subprocess.run([sys.executable, "-c", program, url], cwd=ROOT, check=True, timeout=60)


def test_columns_and_indexes_are_added(
    db: Database, study: optuna.Study, database_url: str, report: Callable[..., None]
) -> None:
    lease = claim(db, study, total=1)
    assert isinstance(lease, Lease)
    report(db, lease, 1, 0.5)
    open_later(database_url)
    with db.engine.connect() as connection:
        assert connection.execute(text("SELECT later, count FROM epochs")).all() == [(None, 7)]
    assert "ix_later" in {index["name"] for index in inspect(db.engine).get_indexes("epochs")}
    report(db, lease, 2, 0.25)  # and this version can go on with it
    assert [row.validation_loss for row in epochs_of(db, study._study_id)] == [0.5, 0.25]
    with closing(open_database(database_url)) as again, again.engine.connect() as connection:
        assert lacking(connection) == set()


def test_an_index_alone_is_added(db: Database, database_url: str) -> None:
    with db.engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_epochs_standing"))
        assert lacking(connection) == {"epochs"}
    with closing(open_database(database_url)) as again, again.engine.connect() as connection:
        assert lacking(connection) == set()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_without_permission_to_write(db: Database, database_url: str) -> None:
    with db.engine.begin() as connection:
        connection.execute(text("ALTER TABLE leases DROP COLUMN expires_at"))
    with pytest.raises(StorageError, match="open it once with that permission"):
        open_database(f"{database_url}%20-cdefault_transaction_read_only%3Don")
