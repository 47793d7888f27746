"""Headers of every answer: what a browser may do with it, which is little.

Sources: Content Security Policy Level 3; the OWASP cheat sheet on HTTP headers.
"""

from __future__ import annotations

import re

from search.serving.routes import ARTIFACTS, CSV, PAGE, STATIC, Route

Headers = list[tuple[str, str]]

# Scripts from our own bundle only. WebGL in the parallel coordinate plot needs 'unsafe-eval', which
# text injected into a page cannot reach without 'unsafe-inline'. MUI and plotly style inline.
PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "worker-src 'self' blob:",
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

# Artifacts that a browser may show by itself; all others are downloads. In the dashboard's own
# pages, which fetch them, they all appear as before.
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
_DROPPED = re.compile(r"access-control-.*|content-encodings|server", re.IGNORECASE)


def guarded(headers: Headers, route: Route, *, is_page: bool) -> Headers:
    """The dashboard's headers, with ours in place of those it has set under the same names.

    Args:
        is_page: the answer is the dashboard's own page, and not an error in its place.
    """
    own: Headers = [
        *ALWAYS,
        ("Content-Security-Policy", PAGE_POLICY if is_page and route == PAGE else DATA_POLICY),
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
    kind = found[1].lower() if found else "application/octet-stream"
    text = kind.startswith("text/") or kind == "application/json"
    own = [("Content-Type", f"{kind}; charset=utf-8" if text else kind)]
    return own if kind in _SHOWN else [*own, ("Content-Disposition", "attachment")]
