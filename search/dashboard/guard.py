"""WSGI middleware around optuna-dashboard: who may ask what, and what answers look like.

Every request is checked in this order: its Host, its path, where it was sent from, the token, the
route, and for a change: --edit, the page that asks for it, the body. Whatever is not let through
gets an answer of one line.
"""

from __future__ import annotations

import io
import json
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlencode

from bottle import Bottle, HTTPError

from search.dashboard.bodies import LARGEST_BODY, decode
from search.dashboard.cells import without_formulas
from search.dashboard.headers import REFUSED, Headers, guarded, with_nonce
from search.dashboard.origins import refuse_embedding, require_known_host, require_own_page
from search.dashboard.refusal import (
    BAD_REQUEST,
    FORBIDDEN,
    NOT_FOUND,
    TOO_LARGE,
    UNAUTHORIZED,
    WRONG_TYPE,
    RefusedError,
)
from search.dashboard.routes import CHANGES, CLOSED, CSV, PAGE, READS, Route
from search.dashboard.token import PARAMETER, Token

LARGEST_ID = 2**31 - 1  # of a study or trial: PostgreSQL's INTEGER
_log = logging.getLogger(__name__)


class StartResponse(Protocol):
    def __call__(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Who may do what.

    Attributes:
        hosts: names, as in Host headers and without ports, under which this server may be called.
        edit: changes are let through.
        token: asked of everyone; None: of nobody.
    """

    hosts: frozenset[str]
    edit: bool = False
    token: Token | None = None


class Guard:
    """The dashboard's application, guarded; itself a WSGI application.

    Args:
        check: raises a RefusedError where there is nothing to show any more.
    """

    def __init__(
        self, app: Bottle, policy: Policy, check: Callable[[], None] = lambda: None
    ) -> None:
        self._app, self._policy, self._check = app, policy, check

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            route = self._admit(environ)
            self._check()
            return self._ask(environ, start_response, route)
        except RefusedError as refusal:
            return _refuse(environ, start_response, refusal)
        except Exception:  # of any kind: the next request is not to suffer
            _log.exception("the dashboard failed to answer")
            failure = RefusedError("500 Internal Server Error", "The dashboard failed to answer.")
            return _refuse(environ, start_response, failure)

    def _admit(self, environ: dict[str, Any]) -> Route:
        """The route of a request that is let through; what was not looked at is gone from it."""
        require_known_host(environ, self._policy.hosts)
        path = _path(environ)
        refuse_embedding(environ)
        is_script = self._log_in(environ, path)
        route = self._find(environ["REQUEST_METHOD"], path)
        _require_numbers(environ)
        if route in READS:
            body = b""
        elif route in CHANGES:
            body = self._change(environ, route, is_script=is_script)
        else:
            reason = CLOSED.get(route, "This version of optuna-dashboard is not known here.")
            raise RefusedError(FORBIDDEN, reason)
        for name in [name for name in environ if name.startswith("HTTP_X_")]:
            del environ[name]  # a proxy's word on who asked for which name, which anyone can send
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")  # the dashboard fails where it is missing
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["CONTENT_TYPE"] = "application/json" if body else ""
        return route

    def _log_in(self, environ: Mapping[str, Any], path: str) -> bool:
        """Whether the request bears the token in a header, as only scripts do.

        Raises:
            RefusedError: it has no token, or has it in its address: then it is sent on without it.
        """
        token = self._policy.token
        if token is None or token.is_borne(environ):
            return token is not None
        query = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        given = [value for name, value in query if name == PARAMETER]
        if given and environ["REQUEST_METHOD"] == "GET" and token.matches(given[0]):
            rest = urlencode([(name, value) for name, value in query if name != PARAMETER])
            place = "/" + quote(path.lstrip("/")) + (f"?{rest}" if rest else "")
            headers = (("Location", place), ("Set-Cookie", token.cookie()))
            raise RefusedError("303 See Other", "Logged in.", headers)
        if not token.is_in_cookie(environ):
            raise RefusedError(
                UNAUTHORIZED,
                "This dashboard asks for a token: open the address that the command has printed, "
                "with ?token=, or send Authorization: Bearer TOKEN.",
                (("WWW-Authenticate", "Bearer"),),
            )
        return False

    def _find(self, method: str, path: str) -> Route:
        """The route that the application itself will take."""
        try:
            found, arguments = self._app.match(
                {"REQUEST_METHOD": method, "PATH_INFO": path.rstrip("/")}
            )
        except HTTPError as error:
            raise RefusedError(NOT_FOUND, "There is no such page.") from error
        if any(isinstance(n, int) and not 0 <= n <= LARGEST_ID for n in arguments.values()):
            raise RefusedError(NOT_FOUND, "There is no study or trial of that number.")
        return found.method, found.rule

    def _change(self, environ: Mapping[str, Any], route: Route, *, is_script: bool) -> bytes:
        """The body that a change may have, encoded anew."""
        if not self._policy.edit:
            raise RefusedError(
                FORBIDDEN, "This dashboard is read-only. Start it with --edit to change."
            )
        require_own_page(environ, is_script=is_script)
        raw = environ["wsgi.input"].read(LARGEST_BODY + 1)
        if len(raw) > LARGEST_BODY:
            raise RefusedError(TOO_LARGE, f"The body has more than {LARGEST_BODY} bytes.")
        kind = environ.get("CONTENT_TYPE", "").lower().replace(" ", "")
        if raw and kind not in ("application/json", "application/json;charset=utf-8"):
            raise RefusedError(WRONG_TYPE, "The body must be JSON, of type application/json.")
        return json.dumps(CHANGES[route](decode(raw)), allow_nan=False).encode()

    def _ask(
        self, environ: dict[str, Any], start_response: StartResponse, route: Route
    ) -> Iterable[bytes]:
        started: list[tuple[str, Headers]] = []

        def start(status: str, headers: Headers, _exc_info: Any = None) -> None:
            started.append((status, headers))

        answer: Iterable[bytes] = self._app(environ, start)
        status, headers = started[-1]
        is_page = status.startswith("200")
        nonce = secrets.token_urlsafe(16)
        if route in (CSV, PAGE) and is_page and environ["REQUEST_METHOD"] == "GET":
            whole = _whole(answer)
            changed = without_formulas(whole) if route == CSV else with_nonce(whole, nonce)
            answer = [changed]
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            headers.append(("Content-Length", str(len(changed))))
        start_response(status, guarded(headers, route, is_page=is_page, nonce=nonce))
        return answer


def _whole(answer: Iterable[bytes]) -> bytes:
    """All of it; a file that it is read from is closed, as WSGI has it."""
    try:
        return b"".join(answer)
    finally:
        getattr(answer, "close", lambda: None)()


def _path(environ: Mapping[str, Any]) -> str:
    """The path as text. Bottle would drop what is not UTF-8, and so read another path than we."""
    try:
        path: str = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8")
    except ValueError:
        raise RefusedError(BAD_REQUEST, "The path is not UTF-8.") from None
    if not path.startswith("/") or not path.isprintable() or "\\" in path:
        raise RefusedError(BAD_REQUEST, "The path holds characters that no page's has.")
    if {".", ".."} & set(path.split("/")):
        raise RefusedError(BAD_REQUEST, "The path holds '.' or '..'.")
    return path


def _require_numbers(environ: Mapping[str, Any]) -> None:
    """The dashboard would fail on values that are no numbers, where it asks for such."""
    for name, value in parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True):
        if name == "after" and not _is_number(value):
            raise RefusedError(BAD_REQUEST, f"after must be a number from 0 to {LARGEST_ID}.")
        if name == "trial_ids" and value and not all(map(_is_number, value.split(","))):
            raise RefusedError(BAD_REQUEST, "trial_ids must be numbers with commas between.")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= LARGEST_ID


def _refuse(
    environ: Mapping[str, Any], start_response: StartResponse, refusal: RefusedError
) -> Iterable[bytes]:
    if environ.get("PATH_INFO", "").startswith("/api/"):  # the dashboard shows its user the reason
        kind, body = "application/json", json.dumps({"reason": refusal.reason}).encode()
    else:
        kind, body = "text/plain; charset=utf-8", f"{refusal.reason}\n".encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        *refusal.headers,
        *REFUSED,
    ]
    start_response(refusal.status, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]
