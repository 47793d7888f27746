"""The database: Optuna's tables and ours beside them, leases on trials, and read-only views.

Here are its errors that people read, and its URL: where it comes from, how it is read, and how it
is shown without a password. Loads nothing slow, so that commands answer to --help at once.

A URL that could be understood in two ways, one of which would show a piece of a password, is not
understood at all.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DEFAULT_STORAGE = "sqlite:///studies.db"
STORAGE_VARIABLE = "SEARCH_STORAGE"
RUNS_VARIABLE = "SEARCH_RUNS_DIR"
CHECKPOINTS_VARIABLE = "SEARCH_CHECKPOINTS"
NOT_SHOWN = "the --storage URL (not shown: it cannot be parsed)"
_PLAIN = re.compile(r"[\w.~/\\ -]*")  # what holds no password, like studies.db
# Of a query's parameters, decoded once: their names tell, or signs that none but a password needs.
_SECRET = re.compile(r"pass|pwd|secret|token|key|//|[^\w.~/\\ ,:=-]", re.IGNORECASE)


class StorageError(ValueError):
    """The database cannot be used: one line with its URL (password masked) and the remedy."""


class StudyGoneError(StorageError):
    """The study was deleted, or what it needs was taken away; nothing was written after that."""


class DatabaseGoneError(StudyGoneError):
    """The file of the database was removed or replaced; nothing was written."""


class StudyBrokenError(ValueError):
    """Trial after trial fails: something is wrong that no other configuration will mend."""


class CheckpointUnwritableError(ValueError):
    """No room or no right to write a checkpoint; going on would put finished epochs at risk."""


def default_storage() -> str:
    """The database's URL, where a person gives none."""
    return os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE


def read_url(url: str) -> URL | None:
    """Its parts, or None for what is malformed or ambiguous."""
    from sqlalchemy import exc  # takes a while to load, and --help needs none of it
    from sqlalchemy.engine import make_url

    try:
        parts = make_url(url)
    except (exc.ArgumentError, ValueError):
        return None
    if is_sqlite(parts):
        return None if "://" in (parts.database or "") else parts
    # An @ ends user and password, and nothing else: SQLAlchemy takes a bare one for part of a host
    # or a database's name where the password has signs that must be written as %2F.
    ambiguous = url.count("@") != (parts.username is not None)
    ambiguous |= ":" in (parts.database or "") or bool(re.search("[:/]", parts.username or ""))
    return None if ambiguous else parts


def is_sqlite(parts: URL) -> bool:
    return parts.drivername.partition("+")[0] == "sqlite"


def mask_password(url: str) -> str:
    """The URL with `***` for what may be a password; `NOT_SHOWN` where it cannot be told."""
    parts = read_url(url)
    if parts is None:
        return url if _PLAIN.fullmatch(url) else NOT_SHOWN
    given = {k: v if isinstance(v, str) else " ".join(v) for k, v in parts.query.items()}
    secret = [name for name, value in given.items() if _SECRET.search(f"{name}={value}")]
    is_plain = parts.password is None and not secret
    if is_plain and unquote(parts.render_as_string()) == unquote(url):
        return url
    hidden = parts.update_query_dict(dict.fromkeys(secret, "***")).render_as_string()
    return hidden.replace("%2A%2A%2A", "***").replace("%2F", "/")  # a folder as people write it


def without_password(url: str) -> str:
    """The URL, masked or not, without what may be a password: PGPASSWORD or ~/.pgpass brings it."""
    bare = mask_password(url).replace(":***@", "@", 1)
    return re.sub(r"(?<=[?&])[^=&]*=\*\*\*(&|$)", "", bare).rstrip("?&")
