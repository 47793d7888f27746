"""Headers of every answer: what a browser may do with it, which is little.

Sources: Content Security Policy Level 3; the OWASP cheat sheet on HTTP headers.
"""

from __future__ import annotations

import re

from search.dashboard.routes import ARTIFACTS, CSV, PAGE, STATIC, Route

Headers = list[tuple[str, str]]

# The one script that the page itself names, by a number used once: 'self' would let in every file
# that is served from here. WebGL in the parallel coordinate plot needs 'unsafe-eval', which text
# injected into a page cannot reach without 'unsafe-inline'. MUI and plotly style inline.
_PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'nonce-{nonce}' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "worker-src blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
# A document of its own, without script, form or origin; a picture may carry its style (SVG).
DATA_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; "
    "base-uri 'none'; sandbox"
)
ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
REFUSED: Headers = [
    *ALWAYS,
    ("Content-Security-Policy", DATA_POLICY),
    ("Cache-Control", "no-store"),
]

# Artifacts that a browser may show by itself; all others are downloads of no type, so that none is
# a script or a style sheet. In the dashboard's own pages, which fetch them, they appear as before.
_SHOWN = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/svg+xml",
        "text/plain",
        "text/csv",
        "application/json",
    }
)
_TYPE = re.compile(r"([a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,60})(?:;.*)?", re.IGNORECASE)
_OWN_SCRIPT = re.compile(rb'<script(?= (?:defer )?src="/static/bundle\.js"></script>)')
_DROPPED = re.compile(r"access-control-.*|content-encodings|server", re.IGNORECASE)


def page_policy(nonce: str) -> str:
    """Of a page whose scripts bear that nonce."""
    return _PAGE_POLICY.format(nonce=nonce)


def with_nonce(page: bytes, nonce: str) -> bytes:
    """The dashboard's page, whose own script bears the nonce."""
    return _OWN_SCRIPT.sub(rb'<script nonce="%s"' % nonce.encode(), page)


def guarded(headers: Headers, route: Route, *, is_page: bool, nonce: str) -> Headers:
    """The dashboard's headers, with ours in place of those it has set under the same names.

    Args:
        is_page: the answer is the dashboard's own page, and not an error in its place.
        nonce: of its script.
    """
    policy = page_policy(nonce) if is_page and route == PAGE else DATA_POLICY
    own: Headers = [
        *ALWAYS,
        ("Content-Security-Policy", policy),
        ("Cache-Control", "no-cache" if route in STATIC else "no-store"),
    ]
    if route in ARTIFACTS:
        own += _of_artifact({name.lower(): value for name, value in headers})
    elif route == CSV and is_page:
        own.append(("Content-Type", "text/csv; charset=utf-8"))
    replaced = {name.lower() for name, _ in own}
    return own + [
        (name, value)
        for name, value in headers
        if name.lower() not in replaced and not _DROPPED.fullmatch(name)
    ]


def _of_artifact(headers: dict[str, str]) -> Headers:
    """Its type is whatever the one who uploaded it had said."""
    found = _TYPE.fullmatch(headers.get("content-type", ""))
    kind = found[1].lower() if found else ""
    if kind not in _SHOWN:
        return [("Content-Type", "application/octet-stream"), ("Content-Disposition", "attachment")]
    text = kind.startswith("text/") or kind == "application/json"
    return [("Content-Type", f"{kind}; charset=utf-8" if text else kind)]
