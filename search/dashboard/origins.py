"""Whose page a request comes from.

A web page of any site can make a browser send requests to this host. Two things give it away: the
name under which it must reach us (Host; a name of its own that it lets point to 127.0.0.1 is DNS
rebinding), and what browsers say of the page that sends (Origin, Sec-Fetch-Site, Referer).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from search.dashboard.refusal import BAD_REQUEST, FORBIDDEN, RefusedError, ServingError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\]"


def check_host_name(name: str) -> str:
    """A name or an address as browsers write it into Host, in lower case and without a port.

    Raises:
        ServingError: it is neither.
    """
    found = name.lower().strip("[]") if ":" in name else name.lower()
    try:
        if ":" in found:
            return f"[{ipaddress.IPv6Address(found)}]"
        if re.fullmatch(_NAME, found):
            return found
    except ValueError:
        pass
    raise ServingError(
        f"{name!r} is no host name; give one without scheme and port, like gpu7.example.org"
    )


def require_known_host(environ: Mapping[str, Any], names: frozenset[str]) -> None:
    """Refuse a request that does not call this server by one of these names.

    The port is free: a tunnel changes it, and a page cannot be rebound to us by a port.
    """
    host = environ.get("HTTP_HOST", "")
    found = re.fullmatch(rf"({_NAME})(?::[0-9]{{1,5}})?", host.lower())
    if found is None:
        raise RefusedError(BAD_REQUEST, "The Host header is missing or malformed.")
    if found[1] not in names:
        raise RefusedError(
            FORBIDDEN,
            f"This dashboard is not served as {found[1]!r}. If it should be, start it with "
            f"--allow-host {found[1].strip('[]')}",
        )


def refuse_embedding(environ: Mapping[str, Any]) -> None:
    """Refuse what another site's page wants to load as a part of itself; links to us are fine.

    It could not read the answers, but have a busy machine draw plots without end.
    """
    site, mode = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_SEC_FETCH_MODE")
    if site in ("cross-site", "same-site") and mode != "navigate":
        raise RefusedError(FORBIDDEN, "Pages of other sites may not load this.")


def require_own_page(environ: Mapping[str, Any], *, is_script: bool) -> None:
    """Refuse a change that is not asked for by a page of this very server.

    Everything that the browser says must agree, and it must say something. The Host is known by
    then, so the sender's scheme does not matter, but its name and port do.

    Args:
        is_script: it bears the token in a header, which no foreign page can: nothing need be said.
    """
    host = environ["HTTP_HOST"].lower()
    origin, site, referer = (
        environ.get(f"HTTP_{name}") for name in ("ORIGIN", "SEC_FETCH_SITE", "REFERER")
    )
    sources = [source for source in (origin, referer) if source is not None]
    if any(_netloc(source) != host for source in sources) or site not in (None, "same-origin"):
        raise RefusedError(FORBIDDEN, "A page of another site asked for this change.")
    if not sources and site is None and not is_script:
        raise RefusedError(
            FORBIDDEN,
            "Neither Origin, Referer nor Sec-Fetch-Site says where this change comes from; a "
            f"script on this host may send the header Origin: http://{host}",
        )


def _netloc(url: str) -> str | None:
    try:
        parts = urlsplit(url.lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") else None
