"""An open database, Optuna's tables and ours: its transactions, and how outages are waited for.

`search.store.opening` opens one.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, bindparam, exc, select

from search.store.outages import explain, is_transient
from search.store.tables import identities, studies

T = TypeVar("T")
_log = logging.getLogger(__name__)

PATIENCE_SECONDS = 75.0  # an outage of a minute is survived, with some to spare
# Execution options, see search.store.connections.
READ_ONLY, HASTY, LOST = "read_only", "hasty", "lost"
_lock = (
    select(studies.c.study_id, identities.c.identity)
    .outerjoin(identities, identities.c.study_id == studies.c.study_id)
    .where(studies.c.study_id == bindparam("of_study"))
    .with_for_update(of=studies)
)


class StorageError(ValueError):
    """The database cannot be used: one line with its URL (password masked) and the remedy."""


class StudyGoneError(StorageError):
    """The study was deleted, or what it needs was taken away; nothing was written after that."""


class DatabaseGoneError(StudyGoneError):
    """The file of the database was removed or replaced; nothing was written."""


@dataclass(kw_only=True)
class Database:
    """An open database. One for each process: a forked child opens its own.

    Attributes:
        url: with the password masked.
        optuna: for `optuna.create_study` and `load_study`, always this one object.
        patience_seconds: how long an outage is waited for.
        is_complete: False where studies have no identities, and we may not write to add them.
    """

    url: str
    engine: Engine
    optuna: RDBStorage
    patience_seconds: float = PATIENCE_SECONDS
    is_complete: bool = True

    def hurry(self) -> None:
        """Wait for outages hardly any more, also for one that is being waited for.

        For a process that has been told to leave; a signal handler may call it.
        """
        self.patience_seconds = 1.0

    def close(self) -> None:
        """Close the connections."""
        self.optuna.remove_session()
        self.engine.dispose()


def with_retry(db: Database, operation: Callable[[], T]) -> T:
    """Run an operation, and run it again while the database is away, locked or full.

    The operation must make its own transactions and be idempotent: where the answer to a commit is
    lost on its way back, it runs again although it was done.

    Raises:
        StorageError: it did not succeed within `db.patience_seconds`, or never can.
    """
    started = time.monotonic()
    delay = 0.05
    warned = False
    while True:
        try:
            return operation()
        except (exc.SQLAlchemyError, StorageInternalError) as error:
            if not is_transient(error):
                if isinstance(error, exc.OperationalError):
                    raise StorageError(f"{db.url}: {explain(error)}") from error
                raise  # a bug of ours, not an outage
            waited = time.monotonic() - started
            if waited >= db.patience_seconds:
                raise StorageError(
                    f"{db.url} did not answer for {waited:.0f} s: {explain(error)}. What was "
                    "reported is stored; carry on with the same command"
                ) from error
            if not warned:
                _log.warning("%s does not answer: %s; trying again", db.url, explain(error))
                warned = True
        # Jitter: workers that failed together must not come back together.
        time.sleep(delay * random.uniform(0.5, 1.0))
        delay = min(2 * delay, 1.0)


@contextmanager
def transaction(
    db: Database,
    *,
    study_id: int | None = None,
    identity: str | None = None,
    hasty: bool = False,
) -> Iterator[Connection]:
    """One transaction for our tables and for all that Optuna does on this thread meanwhile.

    Optuna's sessions join it as savepoints: what `ask`, `tell`, `suggest_*`, `enqueue_trial` and
    attributes write is committed together with what is written through the connection, or not at
    all. Not to be nested.

    Args:
        study_id: lock this study: none of its trials begins or ends meanwhile. It is the row that
            Optuna itself locks to number a new trial. (SQLite: every transaction locks all.)
        identity: that this study must carry, see `search.store.identity`.
        hasty: the commit outlives every kill, but perhaps not a power cut of the next second: on
            SQLite it is spared waiting for the disk where this process did so within a second.

    Raises:
        StudyGoneError: the study is not there.
    """
    sessions = db.optuna.scoped_session
    with db.engine.connect().execution_options(**{HASTY: hasty}) as connection, connection.begin():
        if study_id is not None:
            study = connection.execute(_lock, {"of_study": study_id}).first()
            if study is None or identity not in (None, study.identity):
                raise StudyGoneError(f"{db.url}: study {study_id} was deleted; start a new one")
        sessions.remove()
        sessions(bind=connection, join_transaction_mode="create_savepoint")
        try:
            yield connection
        except (exc.SQLAlchemyError, StorageInternalError):
            lost: exc.SQLAlchemyError | None = connection.get_execution_options().get(LOST)
            if lost is not None:
                raise lost from None
            raise
        finally:
            sessions.remove()


@contextmanager
def snapshot(db: Database) -> Iterator[Connection]:
    """A connection for reading; on SQLite it neither waits for writers nor holds them up."""
    with db.engine.connect() as connection:
        yield connection.execution_options(**{READ_ONLY: True})
