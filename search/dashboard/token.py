"""The secret that lets others than this host in: a file, a cookie, a header.

Who knows the token may log in: once through the address that carries it, after which the browser
has a cookie, or with each request through `Authorization: Bearer TOKEN`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from pathlib import Path

from search.dashboard import ServingError

COOKIE = "cnn-search"
SESSION_SECONDS = 12 * 3600  # then one logs in again
PARAMETER = "token"
LEAST_LENGTH, LEAST_DISTINCT = 32, 8  # characters: 128 bits in hexadecimal digits


class Token:
    """A secret, which no representation shows."""

    def __init__(self, secret: str) -> None:
        self._digest = _digest(secret)
        self._key = _digest(f"cnn-search dashboard {secret}")

    def matches(self, candidate: str) -> bool:
        """In a time that depends neither on how much of it is right nor on its length."""
        return hmac.compare_digest(_digest(candidate), self._digest)

    def session(self) -> str:
        """A session's value, which ends by itself, also where it was copied to."""
        return self._session(str(int(time.time()) + SESSION_SECONDS))

    def is_session(self, value: str) -> bool:
        """Whether it is one of ours that has not ended."""
        ends = value.partition(".")[0]
        if not hmac.compare_digest(_digest(value), _digest(self._session(ends))):
            return False
        return time.time() < int(ends)  # ours: it was signed

    def _session(self, ends: str) -> str:
        """Signed; `ends` in seconds since 1970."""
        signature = hmac.new(self._key, ends.encode("utf-8", "surrogateescape"), "sha256")
        return f"{ends}.{signature.hexdigest()}"


def load_token(path: Path) -> tuple[Token, str]:
    """The token in a file, which is made with a new one where there is none; and its text.

    Raises:
        ServingError: the file is not private, or its content no long secret.
    """
    try:
        secret = _read(path) if path.exists() or path.is_symlink() else _make(path)
    except OSError as error:
        raise ServingError(
            f"cannot use the token file {path}: {error.strerror}; name another --token-file"
        ) from error
    return Token(secret), secret


def _make(path: Path) -> str:
    secret = secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{secret}\n")
    return secret


def _read(path: Path) -> str:
    # Without waiting, in case it is a pipe; what was opened is checked, not what the name meant.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ServingError(f"the token file {path} is no plain file; name another one")
        if facts.st_mode & 0o077:
            raise ServingError(
                f"the token file {path} is open to others (mode {facts.st_mode & 0o777:03o}); "
                f"chmod 600 {path}, and change the token if somebody may have read it"
            )
        if facts.st_uid not in (os.geteuid(), 0):
            raise ServingError(f"the token file {path} belongs to another user; name another one")
        content = file.read(4096)
    secret = content.decode("ascii", "replace").strip()
    is_long = re.fullmatch(rf"[A-Za-z0-9_.~-]{{{LEAST_LENGTH},}}", secret)
    if not is_long or len(set(secret)) < LEAST_DISTINCT:
        raise ServingError(
            f"the token file {path} holds no secret of {LEAST_LENGTH} or more letters, digits and "
            "_.~-; delete it, and a new one is made"
        )
    return secret


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
