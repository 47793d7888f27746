"""Headers of every answer: what a browser may do with it, which is little.

Sources: Content Security Policy Level 3; OWASP on HTTP headers and on CSV injection.
"""

from __future__ import annotations

import csv
import io
import re

from werkzeug.datastructures import Headers
from werkzeug.http import parse_options_header

from search.dashboard.routes import PAGE

# The one script that the page itself names, by a number used once: 'self' would let in every file
# that is served from here. WebGL in the parallel coordinate plot needs 'unsafe-eval', which text
# injected into a page cannot reach without 'unsafe-inline'. MUI and plotly style inline.
PAGE_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# A document of its own, without script, form or origin; a picture may carry its style (SVG).
DATA_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; "
    "base-uri 'none'; sandbox"
)
REFUSED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": DATA_POLICY,
    "Cache-Control": "no-store",
}
# Artifacts that a browser may show by itself; all others are downloads of no type, so that none is
# a script or a style sheet. In the dashboard's own pages, which fetch them, they appear as before.
_TEXTS = ("text/plain", "text/csv", "application/json")
_SHOWN = {"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", *_TEXTS}
_OWN_SCRIPT = re.compile(rb'<script(?= (?:defer )?src="/static/bundle\.js"></script>)')
# What a spreadsheet takes for a formula, unless it is a number.
_FORMULA = re.compile(r"\s*(?:[=@]|[+-](?!(?:[\d.]+(?:e[+-]?\d+)?|inf)$))")


def with_nonce(page: bytes, nonce: str) -> bytes:
    """The dashboard's page, whose own script carries the nonce."""
    return _OWN_SCRIPT.sub(rb'<script nonce="%s"' % nonce.encode(), page)


def without_formulas(table: bytes) -> bytes:
    """The CSV with an apostrophe before every text that a spreadsheet would run."""
    written = io.StringIO(newline="")
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(table.decode("utf-8", "replace"), newline=""))
    lines = ([f"'{cell}" if _FORMULA.match(cell) else cell for cell in row] for row in rows)
    csv.writer(written).writerows(lines)
    return written.getvalue().encode()


def guarded_headers(headers: Headers, rule: str, *, succeeded: bool, nonce: str) -> None:
    """Ours in place of those that the dashboard has set.

    Args:
        succeeded: the answer is what was asked for, and not an error in its place.
        nonce: of its script.
    """
    for name in list(headers.keys()):
        if name.lower().startswith(("access-control-", "content-encodings", "server")):
            headers.remove(name)
    headers.update(REFUSED)
    if succeeded and rule == PAGE:
        headers["Content-Security-Policy"] = PAGE_POLICY.format(nonce=nonce)
    if rule.startswith(("/static/", "/favicon")):
        headers["Cache-Control"] = "no-cache"
    elif rule.startswith("/artifacts/"):
        kind = parse_options_header(headers.get("Content-Type"))[0].lower()  # the uploader's word
        if kind in _SHOWN:
            headers["Content-Type"] = f"{kind}; charset=utf-8" if kind in _TEXTS else kind
        else:
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Disposition"] = "attachment"
