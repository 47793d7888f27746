"""One database under Optuna's tables and ours: opened, locked, and waited for when it is away.

SQLite serves one host (its write-ahead log needs shared memory, and the locks of network file
systems cannot be trusted); PostgreSQL serves any number.
"""

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy import Connection, Engine, create_engine, event, exc, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from search.trials.tables import OURS, metadata, studies

T = TypeVar("T")
_log = logging.getLogger(__name__)

# How long one attempt at SQLite's lock blocks in C, where no signal is handled: short, and repeated.
_SQLITE_BUSY_SECONDS = 1.0
_SQLITE_LOCK_SECONDS = 30.0  # for what is not retried, such as Optuna's own calls
_POSTGRESQL_SESSION = (
    # A worker stopped in mid-transaction must not hold its locks against all the others.
    "SET idle_in_transaction_session_timeout = '15s'",
    "SET lock_timeout = '30s'",
)


class StorageError(ValueError):
    """The database cannot be used: one line with its URL (password masked) and the remedy."""


@dataclass(kw_only=True, slots=True)
class Database:
    """An open database. One for each process: open anew after a fork.

    `patience_seconds` is how long an outage is waited for. A signal handler may lower it at any
    time, so that a process which has been told to leave does not wait on.
    """

    url: str  # the password masked
    engine: Engine
    optuna: optuna.storages.RDBStorage  # hand this to optuna.create_study and load_study
    patience_seconds: float = 60.0

    def close(self) -> None:
        """Closes the connections. Later use opens new ones."""
        self.optuna.remove_session()
        self.engine.dispose()


def mask_password(url: str) -> str:
    """The URL with `***` for its password, be it well-formed or not."""
    masked = re.sub(r"(://[^:/@?]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", masked)


def open_database(url: str, *, must_exist: bool = False) -> Database:
    """Opens a database and creates what is missing; any number of processes may do so at once.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`.
        must_exist: refuse a database without studies, and leave no file behind.

    Raises:
        StorageError: it is malformed, unreachable, unwritable, not a database, of another
            program or of another version.
    """
    address = _address(url)
    started = time.monotonic()
    while True:
        try:
            return _open(address, must_exist=must_exist)
        except (exc.SQLAlchemyError, StorageInternalError) as error:
            # Somebody else is creating the same tables, or holds SQLite's lock.
            worth_waiting = _is_race(error) or (
                address.get_backend_name() == "sqlite" and _is_transient(error)
            )
            if not worth_waiting or time.monotonic() - started > Database.patience_seconds:
                raise StorageError(f"cannot open {_name(address)}: {_reason(error)}") from error
        time.sleep(random.uniform(0.02, 0.2))
