"""What the guard answers by itself."""

from __future__ import annotations


class ServingError(ValueError):
    """The dashboard cannot be started so: one line with the value and the remedy."""


class RefusedError(Exception):
    """An answer in place of the dashboard's.

    Args:
        status: `403 Forbidden`.
        reason: one line for people, shown as text or, to the dashboard's own page, as JSON.
        headers: beside those that every answer has.
    """

    def __init__(self, status: str, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


BAD_REQUEST = "400 Bad Request"
UNAUTHORIZED = "401 Unauthorized"
FORBIDDEN = "403 Forbidden"
NOT_FOUND = "404 Not Found"
TOO_LARGE = "413 Content Too Large"
WRONG_TYPE = "415 Unsupported Media Type"
