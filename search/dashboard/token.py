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
from pathlib import Path

from search.dashboard import ServingError

COOKIE = "cnn-search"
SESSION_SECONDS = 12 * 3600  # that a browser keeps the cookie
PARAMETER = "token"
LEAST_LENGTH, LEAST_DISTINCT = 32, 8  # characters: 128 bits in hexadecimal digits


class Token:
    """A secret, which no representation shows; `session` is the cookie that stands for it."""

    def __init__(self, secret: str) -> None:
        self._digest = _digest(secret)
        self.session = _digest(f"cnn-search dashboard {secret}").hex()

    def matches(self, candidate: str) -> bool:
        """In a time that depends neither on how much of it is right nor on its length."""
        return hmac.compare_digest(_digest(candidate), self._digest)

    def is_session(self, value: str) -> bool:
        return hmac.compare_digest(_digest(value), _digest(self.session))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def load_token(path: Path) -> tuple[Token, str]:
    """The token in a file, which is made with a new one where there is none; and its text.

    Raises:
        ServingError: the file is not private, or its content no long secret.
    """
    try:
        if not path.is_file():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{secrets.token_urlsafe(32)}\n")
        mode, secret = path.stat().st_mode, path.read_text("ascii", "replace").strip()
    except OSError as error:
        raise ServingError(
            f"cannot use the token file {path}: {error.strerror}; name another --token-file"
        ) from error
    if mode & 0o077:
        raise ServingError(
            f"the token file {path} is open to others (mode {mode & 0o777:03o}); chmod 600 {path}, "
            "and change the token if somebody may have read it"
        )
    is_long = re.fullmatch(rf"[A-Za-z0-9_.~-]{{{LEAST_LENGTH},}}", secret)
    if not is_long or len(set(secret)) < LEAST_DISTINCT:
        raise ServingError(
            f"the token file {path} holds no secret of {LEAST_LENGTH} or more letters, digits and "
            "_.~-; delete it, and a new one is made"
        )
    return Token(secret), secret
