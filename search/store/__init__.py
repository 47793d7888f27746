"""The database: Optuna's tables and ours beside them, leases on trials, and read-only views.

This module holds the errors shown to the user, everything about the URL (where it comes from, how
it is parsed, how it is shown without a password), and which study is meant if none is named. It
imports nothing slow, so that --help and --status answer at once.

An ambiguous URL is rejected if one of its readings would show part of a password.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import URL

DEFAULT_STORAGE = "sqlite:///studies.db"
STORAGE_VARIABLE = "SEARCH_STORAGE"
RUNS_VARIABLE = "SEARCH_RUNS_DIR"
CHECKPOINTS_VARIABLE = "SEARCH_CHECKPOINTS"
NOT_SHOWN = "the --storage URL (not shown: it cannot be parsed)"
# SQL: seconds since 1970 by the database's clock; on PostgreSQL the statement's time, not the
# transaction's, which may have waited for a lock. Hosts' clocks disagree.
NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}
_PLAIN = re.compile(r"[\w.~/\\ -]*")  # cannot hold a password, like studies.db
# Secret query parameters (decoded once): telling names, or characters that only a password needs.
_SECRET = re.compile(r"pass|pwd|secret|token|key|//|[^\w.~/\\ ,:=-]", re.IGNORECASE)


class StorageError(ValueError):
    """The database cannot be used: one line with its URL (password masked) and the remedy."""


class OutageError(StorageError):
    """The database became unavailable, and a worker has waited too long; another may resume."""


class StudyGoneError(StorageError):
    """The study, its folder or its database was removed; nothing was written after that."""


class FolderGoneError(StudyGoneError):
    """Only the folder: the study can be resumed."""


class StudyBrokenError(ValueError):
    """Trial after trial fails for a reason that no other configuration will fix."""


def default_storage() -> str:
    """The database's URL if the user gives none."""
    return os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE


def default_checkpoints() -> str | None:
    """Where checkpoints are kept if the user does not say; None: in the study's folder."""
    return os.environ.get(CHECKPOINTS_VARIABLE) or None


def read_url(url: str) -> URL | None:
    """The URL's parts, or None if it is malformed or ambiguous."""
    from sqlalchemy import exc  # takes a while to load, and --help needs none of it
    from sqlalchemy.engine import make_url

    try:
        parts = make_url(url)
    except (exc.ArgumentError, ValueError):
        return None
    if is_sqlite(parts):
        return None if "://" in (parts.database or "") else parts
    # The only @ must end user and password: if the password has characters that must be written as
    # %2F, SQLAlchemy takes a bare @ for part of the host or the database name.
    ambiguous = url.count("@") != (parts.username is not None)
    ambiguous |= ":" in (parts.database or "") or bool(re.search("[:/]", parts.username or ""))
    return None if ambiguous else parts


def is_sqlite(parts: URL) -> bool:
    return parts.drivername.partition("+")[0] == "sqlite"


def mask_password(url: str) -> str:
    """The URL with `***` for what may be a password; `NOT_SHOWN` if that cannot be determined.

    Raises StorageError if it is no text.
    """
    if not isinstance(url, str):
        raise StorageError(f"storage must be a URL, such as {DEFAULT_STORAGE}, but got {url!r:.80}")
    parts = read_url(url)
    if parts is None:
        return url if _PLAIN.fullmatch(url) else NOT_SHOWN
    given = {k: v if isinstance(v, str) else " ".join(v) for k, v in parts.query.items()}
    secret = [name for name, value in given.items() if _SECRET.search(f"{name}={value}")]
    is_plain = parts.password is None and not secret
    if is_plain and unquote(parts.render_as_string()) == unquote(url):
        return url
    hidden = parts.update_query_dict(dict.fromkeys(secret, "***")).render_as_string()
    return hidden.replace("%2A%2A%2A", "***").replace("%2F", "/")  # a folder as users write it


def without_password(url: str) -> str:
    """The URL, masked or not, minus what may be a password: PGPASSWORD or ~/.pgpass supplies it."""
    bare = mask_password(url).replace(":***@", "@", 1)
    return re.sub(r"(?<=[?&])[^=&]*=\*\*\*(&|$)", "", bare).rstrip("?&")


_WORK = """
    SELECT s.study_id, s.study_name, {now} AS now,
        (SELECT max(e.reported_at) FROM epochs e WHERE e.study_id = s.study_id) AS reported_at,
        (SELECT max(coalesce(t.datetime_complete, t.datetime_start)) FROM trials t
            WHERE t.study_id = s.study_id
            AND NOT EXISTS (SELECT 1 FROM epochs e WHERE e.trial_id = t.trial_id)) AS changed_at
    FROM studies s
    JOIN study_user_attributes a ON a.study_id = s.study_id AND a.key = 'spec'
"""


def latest_study(connection: Connection) -> str | None:
    """The name of the study worked on last; None if no trial of any has begun.

    By its reports, which have the database's time. Trials without any count as they begin or fail,
    by the clock of a worker, which may be ahead.
    """
    from sqlalchemy import text

    latest: tuple[float, int, str] | None = None
    for row in connection.execute(text(_WORK.format(now=NOW[connection.dialect.name]))):
        times = [] if row.reported_at is None else [row.reported_at]
        if row.changed_at is not None:
            changed_at = datetime.fromisoformat(str(row.changed_at)).replace(tzinfo=UTC)
            times.append(min(changed_at.timestamp(), row.now))
        if times:
            found = max(times), row.study_id, row.study_name
            latest = found if latest is None else max(latest, found)
    return None if latest is None else latest[2]
