"""The database's URL: how it is read, and how it is shown without a password.

What could be understood in two ways, one of which would show a piece of a password, is not
understood at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

NOT_SHOWN = "the --storage URL (not shown: it cannot be parsed)"
_PLAIN = re.compile(r"[\w.~/\\ -]*")  # what holds no password, like studies.db
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"@|://|pass\w*\s*=", re.IGNORECASE)  # as in a URL or `password=...`


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
    # An @ ends user and password, and nothing else. SQLAlchemy takes a bare one for part of a
    # host or a database's name where the password has signs that must be written as %2F.
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
    hidden = parts.update_query_dict(dict.fromkeys(_secret_names(parts), "***"))
    return _shown(url, parts, hidden).replace("%2A%2A%2A", "***")


def without_password(url: str) -> str:
    """The URL, masked or not, without what may be a password: PGPASSWORD or ~/.pgpass brings it."""
    parts = read_url(url)
    if parts is None:
        return mask_password(url)
    bare = parts.difference_update_query(list(_secret_names(parts)))
    return _shown(url, parts, bare).replace(":***@", "@", 1)


def _shown(url: str, parts: URL, safe: URL) -> str:
    """As it was given, if it holds nothing secret and nothing but its parts; else the safe one."""
    plain = parts.password is None and not any(_secret_names(parts))
    if plain and unquote(parts.render_as_string()) == unquote(url):
        return url
    return safe.render_as_string().replace("%2F", "/")  # a folder in the query as people write it


def _secret_names(parts: URL) -> Iterator[str]:
    """Of the query's parameters: passwords and the like, and what may hold one."""
    for name, value in parts.query.items():
        values = value if isinstance(value, str) else " ".join(value)
        if _SECRET_NAME.search(_decoded(name)) or _SECRET_VALUE.search(_decoded(values)):
            yield name


def _decoded(text: str) -> str:
    while (decoded := unquote(text)) != text:
        text = decoded
    return text
