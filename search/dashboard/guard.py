"""WSGI middleware around optuna-dashboard: who may ask what, and what answers look like.

optuna-dashboard has no authentication, takes requests under any Host and from any page, and serves
uploaded HTML as pages of its own. So every request is checked in this order: its Host (a foreign
name that points to 127.0.0.1 is DNS rebinding), its path, the page that sends it, the token, the
route, and for a change: --edit, that a page of this very server asks for it, the body. Whatever is
not let through gets an answer of one line.
"""

from __future__ import annotations

import io
import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from bottle import Bottle, HTTPError
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    InternalServerError,
    NotFound,
    RequestEntityTooLarge,
    Unauthorized,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Request, Response

from search.dashboard.addresses import HOST_NAME
from search.dashboard.bodies import LARGEST_BODY, checked
from search.dashboard.headers import REFUSED, guarded_headers, with_nonce, without_formulas
from search.dashboard.routes import CHANGES, CSV, PAGE, READS, Route
from search.dashboard.token import COOKIE, PARAMETER, SESSION_SECONDS, Token

LARGEST_ID = 2**31 - 1  # of a study or trial: PostgreSQL's INTEGER
_log = logging.getLogger(__name__)


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
        check: raises an HTTPException where there is nothing to show any more.
    """

    def __init__(
        self, app: Bottle, policy: Policy, check: Callable[[], None] = lambda: None
    ) -> None:
        self._app, self._policy, self._check = app, policy, check

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        try:
            route = self._admit(request)
            self._check()
            answer = self._answer(request, route)
        except HTTPException as refusal:
            answer = _refusal(request, refusal)
        except Exception:  # of any kind: the next request is not to suffer
            _log.exception("the dashboard failed to answer")
            answer = _refusal(request, InternalServerError("The dashboard failed to answer."))
        return answer(environ, start_response)

    def _admit(self, request: Request) -> Route:
        """The route of a request that is let through; what was not checked is gone from it."""
        environ = request.environ
        _require_known_host(request, self._policy.hosts)
        _require_plain_path(request)
        _refuse_embedding(request)
        is_script = self._log_in(request)
        route = self._find(request)
        body = b""
        if route in CHANGES:
            if not self._policy.edit:
                raise Forbidden("This dashboard is read-only. Start it with --edit to change.")
            _require_own_page(request, is_script=is_script)
            body = checked(CHANGES[route], _json(request))
        elif route not in READS:
            raise Forbidden("This change is not offered: only notes, attributes and deletion are.")
        for name in [name for name in environ if name.startswith("HTTP_X_")]:
            del environ[name]  # a proxy's word on who asked for which name, which anyone can send
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")  # the dashboard fails where it is missing
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["CONTENT_TYPE"] = "application/json" if body else ""
        return route

    def _log_in(self, request: Request) -> bool:
        """Whether the request has the token in a header, as only scripts do.

        Raises:
            HTTPException: it has no token, or has it in its address: then it is sent on without.
        """
        token, header = self._policy.token, request.authorization
        if token is None:
            return False
        if header is not None and header.type == "bearer" and token.matches(header.token or ""):
            return True
        given = request.args.get(PARAMETER)
        if given is not None and request.method == "GET" and token.matches(given):
            rest = [(n, v) for n, v in request.args.items(multi=True) if n != PARAMETER]
            place = "/" + quote(request.path.lstrip("/")) + (f"?{urlencode(rest)}" if rest else "")
            answer = Response("Logged in.\n", 303, headers={"Location": place})
            # Sent to other programs on this host too (cookies know no ports): not the token itself.
            session = token.session()
            answer.set_cookie(COOKIE, session, SESSION_SECONDS, httponly=True, samesite="Strict")
            raise HTTPException(response=answer)
        if not token.is_session(request.cookies.get(COOKIE, "")):
            raise Unauthorized(
                "This dashboard asks for a token: open the address that the command has printed, "
                "with ?token=, or send Authorization: Bearer TOKEN."
            )
        return False

    def _find(self, request: Request) -> Route:
        """The route that the application itself will take."""
        asked = {"REQUEST_METHOD": request.method, "PATH_INFO": request.path.rstrip("/")}
        try:
            found, arguments = self._app.match(asked)
        except HTTPError as error:
            raise NotFound("There is no such page.") from error
        if any(isinstance(n, int) and not 0 <= n <= LARGEST_ID for n in arguments.values()):
            raise NotFound("There is no study or trial of that number.")
        return found.method, found.rule

    def _answer(self, request: Request, route: Route) -> Response:
        answer = Response.from_app(self._app, request.environ)
        rule, nonce, succeeded = route[1], secrets.token_urlsafe(16), answer.status_code == 200
        if rule in (CSV, PAGE) and succeeded and request.method == "GET":
            whole = answer.get_data()
            answer.set_data(without_formulas(whole) if rule == CSV else with_nonce(whole, nonce))
        if answer.status_code == 204:
            del answer.headers["Content-Type"]
        guarded_headers(answer.headers, rule, succeeded=succeeded, nonce=nonce)
        return answer


def _require_known_host(request: Request, names: frozenset[str]) -> None:
    """The port is free: a tunnel changes it, and no page can be rebound to us by a port."""
    host = request.headers.get("Host", "").lower()
    found = re.fullmatch(rf"({HOST_NAME})(?::[0-9]{{1,5}})?", host)
    if found is None:
        raise BadRequest("The Host header is missing or malformed.")
    if found[1] not in names:
        raise Forbidden(
            f"This dashboard is not served as {found[1]!r}. If it should be, start it with "
            f"--allow-host {found[1].strip('[]')}"
        )


def _require_plain_path(request: Request) -> None:
    """Bottle would drop what is not UTF-8, and so read another path than we."""
    path = request.environ.get("PATH_INFO", "").encode("latin-1", "replace")
    text = path.decode("utf-8", "replace")
    if not text.startswith("/") or not text.isprintable() or {"\\", "\ufffd"} & set(text):
        raise BadRequest("The path holds characters that no page's has.")
    if {".", ".."} & set(text.split("/")):
        raise BadRequest("The path holds '.' or '..'.")


def _refuse_embedding(request: Request) -> None:
    """Refuse what another site's page wants to load as a part of itself; links to us are fine.

    It could not read the answers, but have a busy machine draw plots without end.
    """
    is_foreign = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    if is_foreign and request.headers.get("Sec-Fetch-Mode") != "navigate":
        raise Forbidden("Pages of other sites may not load this.")


def _require_own_page(request: Request, *, is_script: bool) -> None:
    """Refuse a change that is not asked for by a page of this very server.

    Everything that the browser says must agree, and it must say something. The Host is known by
    then, so the sender's scheme does not matter, but its name and port do.

    Args:
        is_script: it has the token in a header, as no foreign page can: nothing need be said.
    """
    host, site = request.headers["Host"].lower(), request.headers.get("Sec-Fetch-Site")
    said = (request.headers.get("Origin"), request.headers.get("Referer"))
    sources = [source for source in said if source is not None]
    if any(_sender(source) != host for source in sources) or site not in (None, "same-origin"):
        raise Forbidden("A page of another site asked for this change.")
    if not sources and site is None and not is_script:
        raise Forbidden(
            "Neither Origin, Referer nor Sec-Fetch-Site says where this change comes from; a "
            f"script on this host may send the header Origin: http://{host}"
        )


def _sender(url: str) -> str | None:
    try:
        parts = urlsplit(url.lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") else None


def _json(request: Request) -> bytes:
    raw = request.environ["wsgi.input"].read(LARGEST_BODY + 1)
    if len(raw) > LARGEST_BODY:
        raise RequestEntityTooLarge(f"The body has more than {LARGEST_BODY} bytes.")
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if raw and (request.mimetype, charset) != ("application/json", "utf-8"):
        raise UnsupportedMediaType("The body must be JSON, of type application/json.")
    return bytes(raw)


def _refusal(request: Request, refusal: HTTPException) -> Response:
    if isinstance(refusal.response, Response):
        answer = refusal.response
    elif request.path.startswith("/api/"):  # the dashboard shows its user the reason
        reason = json.dumps({"reason": refusal.description})
        answer = Response(reason, refusal.code, content_type="application/json")
    else:
        answer = Response(f"{refusal.description}\n", refusal.code)
    answer.headers.update(REFUSED)
    if refusal.code == Unauthorized.code:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
