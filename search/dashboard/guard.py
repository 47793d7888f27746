"""WSGI middleware around optuna-dashboard: which requests it accepts, and what responses look like.

optuna-dashboard has no authentication, accepts requests for any Host and from any page, and serves
uploaded HTML as its own pages. A request must therefore name a known Host (a foreign name that
points to 127.0.0.1 is DNS rebinding), a plain path and, if there is one, the token. A request that
changes something must be one of CHANGES, and needs --edit and to come from a page of this server.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, NotFound, Unauthorized
from werkzeug.wrappers import Request, Response

from search.dashboard.server import LARGEST_BODY, ServingError

COOKIE = "cnn-search"
SESSION_SECONDS = 12 * 3600  # then the user must log in again
LEAST_LENGTH = 32  # characters: 128 bits in hexadecimal digits
# Bottle would parse other paths differently from us.
PATH = re.compile(r"/|(?:/[\w-][\w.-]*)+/?", re.ASCII)
CHANGES = re.compile(
    r"DELETE /api/studies/\d{1,9}|PUT /api/studies(?:/\d{1,9}){1,2}/note", re.ASCII
)
# WebGL in the parallel coordinate plot needs 'unsafe-eval', which text injected into a page cannot
# reach without 'unsafe-inline'. MUI and plotly style inline. No upload is run as a script: without
# a script's content type, browsers refuse to.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self'; connect-src 'self'; "
    "worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Rules for the dashboard's page, and more for one without --edit.
STYLE, READ_ONLY = (
    Path(__file__).with_name(f"{name}.css").read_text() for name in ("page", "read_only")
)
# An isolated document without scripts, forms or an origin; a picture may carry its style (SVG).
DATA_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; "
    "base-uri 'none'; sandbox"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": DATA_POLICY,
    "Cache-Control": "no-store",
}


# Browsers say which site's page sends a request. One from another port or site is refused, unless
# it is a user following a link from there ("navigate").
OWN_PAGES = ("same-origin", "none", None)
# What a spreadsheet would evaluate, at the start of a cell or after a line end or any locale's
# separator, with signs of any width; signed numbers, and lists of them, are not formulas. From one
# line end it looks to the next at most: a run of them must not take a time that is quadratic.
_SKIPPED, _SIGNS = r"\"\u200b-\u200f\ufeff", r"[=+@＝＋＠−－-]"
FORMULA = re.compile(
    rf"((?:^|[,;|，；｜])(?=[\s{_SKIPPED}]*{_SIGNS})|[^\S ](?=[ {_SKIPPED}]*{_SIGNS}))"
)
_NUMBER = r"[+-]?(?:[\d.]+(?:e[+-]?\d+)?|inf)"
NUMBERS = re.compile(rf"[\[({{]*{_NUMBER}(?:, ?{_NUMBER})*[\])}}]*", re.ASCII)


class Token:
    """A secret that no representation shows."""

    def __init__(self, secret: str) -> None:
        self._key = _digest(secret)

    def matches(self, candidate: str) -> bool:
        """Takes a time that depends neither on the candidate's length nor on how much is right."""
        return hmac.compare_digest(_digest(candidate), self._key)

    def session(self, ends: int) -> str:
        """The cookie that stands in for it until `ends` (seconds since 1970), even if copied."""
        return f"{ends}.{hmac.digest(self._key, str(ends).encode(), 'sha256').hex()}"

    def is_session(self, value: str) -> bool:
        found = re.match(r"(\d{1,12})\.", value, re.ASCII)
        ends = int(found[1]) if found else 0
        is_ours = hmac.compare_digest(_digest(value), _digest(self.session(ends)))
        return is_ours and time.time() < ends

    def admits(self, request: Request) -> bool:
        """Whether the request carries it, or a session's cookie."""
        given = request.authorization
        secret = given.token if given is not None and given.type == "bearer" else None
        return self.matches(secret or "") or self.is_session(request.cookies.get(COOKIE, ""))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def load_token(path: Path) -> tuple[Token, str]:
    """The token in a file, which is created with a new one if there is none; and its text.

    Raises ServingError if the file is not private, or its content is not a long secret.
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
    if mode & 0o077 and sys.platform != "win32":  # which has other permissions than these
        raise ServingError(
            f"other users can access the token file {path} (mode {mode & 0o777:03o}); chmod 600 "
            f"{path}, and change the token if somebody may have read it"
        )
    is_long = re.fullmatch(rf"[A-Za-z0-9_.~-]{{{LEAST_LENGTH},}}", secret)
    if not is_long or len(set(secret)) < 8:
        raise ServingError(
            f"the token file {path} does not hold a secret of {LEAST_LENGTH} or more letters, "
            "digits and _.~-; delete the file to have a new one created"
        )
    return Token(secret), secret


@dataclass(frozen=True, slots=True)
class Guard:
    """The dashboard's application, guarded; itself a WSGI application."""

    app: Any
    _: KW_ONLY
    hosts: Set[str]  # names in Host headers, without ports, under which this server may be called
    edit: bool = False  # changes are allowed
    token: Token | None = None  # required from every client unless None
    check: Callable[[], None] = lambda: None  # raises an HTTPException if nothing can be shown

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.max_content_length = LARGEST_BODY
        try:
            answer = self._answer(request)
        except HTTPException as refusal:
            answer = _refusal(request, refusal)
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        host = request.headers.get("Host", "").lower()
        name = re.sub(r":\d{1,5}\Z", "", host)  # the port is free: a tunnel changes it
        if name not in self.hosts:
            raise Forbidden(
                f"This dashboard is not served as {name!r}. If it should be, start it with "
                f"--allow-host {name.strip('[]')}"
            )
        if not PATH.fullmatch(request.environ.get("PATH_INFO", "")):
            raise NotFound("There is no such page.")
        if self.token is not None and not self.token.admits(request):
            return _log_in(request, self.token)
        sent = request.headers.get
        if sent("Sec-Fetch-Site") not in OWN_PAGES and sent("Sec-Fetch-Mode") != "navigate":
            raise Forbidden("This request does not come from a page of this server.")
        if request.method not in ("GET", "HEAD"):
            self._require_change(request, host)
        if not request.args.get("after", "0").isdecimal():
            raise BadRequest("after must be a number of trials, from 0 up.")
        self.check()
        environ, body = request.environ, request.get_data()
        for key in [key for key in environ if key.startswith("HTTP_X_")]:
            del environ[key]  # a proxy's claims about client and host, which anyone can forge
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")  # the dashboard fails if it is missing
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        answer = Response.from_app(self.app, environ)
        answer.headers.pop("Access-Control-Allow-Origin", None)
        answer.headers.update(HEADERS)
        folder, is_whole = request.path.split("/")[1], answer.status_code == 200
        if folder == "csv" and is_whole:
            answer.set_data(without_formulas(answer.get_data(as_text=True)))
        elif folder == "dashboard" and is_whole:
            style = f"<style>{STYLE}{'' if self.edit else READ_ONLY}</style></head>"
            answer.set_data(answer.get_data(as_text=True).replace("</head>", style))
            answer.headers["Content-Security-Policy"] = PAGE_POLICY
        elif folder == "static":
            answer.headers["Cache-Control"] = "no-cache"
        elif folder == "artifacts":  # their type is whatever the uploader claimed
            picture = re.fullmatch(r"image/[\w.+-]+", answer.mimetype or "")
            answer.headers["Content-Type"] = picture[0] if picture else "application/octet-stream"
            if not picture:
                answer.headers["Content-Disposition"] = "attachment"
        return answer

    def _require_change(self, request: Request, host: str) -> None:
        """Refuse a change that is not offered, or that does not come from a page of this server:
        the Origin's name and port must be ours, whatever the scheme."""
        if not CHANGES.fullmatch(f"{request.method} {request.environ['PATH_INFO']}"):
            raise Forbidden("Only editing notes and deleting studies is possible here.")
        if not self.edit:
            raise Forbidden("This dashboard is read-only. Start it with --edit to allow changes.")
        origin = request.headers.get("Origin", "").lower()
        if origin not in (f"http://{host}", f"https://{host}"):
            raise Forbidden(
                "This request does not come from a page of this server; a script may send the "
                f"header Origin: http://{host}"
            )
        sent = request.get_json() if request.get_data() else {}
        if not isinstance(sent, dict) or not isinstance(sent.get("body", ""), str):
            raise BadRequest("The body must be a JSON object, and a note's text a string.")


def _log_in(request: Request, token: Token) -> Response:
    """Redirect a request with the token to the URL without it, with a cookie; refuse others."""
    if request.method != "GET" or not token.matches(request.args.get("token", "")):
        raise Unauthorized(
            "This dashboard needs a token: open the address that the command printed, with "
            "?token=, or send Authorization: Bearer TOKEN."
        )
    rest = [(n, value) for n, value in request.args.items(multi=True) if n != "token"]
    place = quote(request.path) + (f"?{urlencode(rest)}" if rest else "")
    answer = Response("Logged in.\n", 303, headers={**HEADERS, "Location": place})
    # Not the token itself: browsers ignore ports and send cookies to this host's other servers too.
    session = token.session(int(time.time()) + SESSION_SECONDS)
    answer.set_cookie(COOKIE, session, SESSION_SECONDS, httponly=True, samesite="Strict")
    return answer


def without_formulas(text: str) -> str:
    """The table with an apostrophe before each cell that a spreadsheet would take for a formula."""
    csv.field_size_limit(2**31 - 1)  # one long text must not hide the table
    safe = io.StringIO()
    csv.writer(safe).writerows(
        [cell if NUMBERS.fullmatch(cell) else FORMULA.sub(r"\1'", cell) for cell in row]
        for row in csv.reader(io.StringIO(text, newline=""))
    )
    return safe.getvalue()


def _refusal(request: Request, refusal: HTTPException) -> Response:
    if request.path.startswith("/api/"):  # the dashboard shows its user the reason
        reason = json.dumps({"reason": refusal.description})
        return Response(reason, refusal.code, HEADERS, content_type="application/json")
    return Response(f"{refusal.description}\n", refusal.code, HEADERS)
