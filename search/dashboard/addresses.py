"""Where the dashboard listens, and the names under which browsers may call it."""

from __future__ import annotations

import ipaddress
import re
import socket

from search.dashboard import ServingError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
HOST_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\]"


def check_host_name(name: str) -> str:
    """A name or an address as browsers write it into Host, in lower case and without a port.

    Raises:
        ServingError: it is neither.
    """
    found = name.lower().strip("[]") if ":" in name else name.lower()
    try:
        if ":" in found:
            return f"[{ipaddress.IPv6Address(found)}]"
        if re.fullmatch(HOST_NAME, found):
            return found
    except ValueError:
        pass
    raise ServingError(
        f"{name!r} is no host name; give one without scheme and port, like gpu7.example.org"
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address; port 0 takes any free one.

    Args:
        host: as `check_host_name` has it.

    Raises:
        ServingError: the host is none of this machine's, or the port is taken or reserved.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ServingError(
            f"cannot serve on {host!r}: no such address; give --host 127.0.0.1"
        ) from error
    family, kind, _, _, address = found[0]
    listening = socket.socket(family, kind)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # or a second socket could be bound to the port as well
    except OSError as error:
        listening.close()
        raise ServingError(
            f"cannot serve on port {port} of {host}: {error.strerror}; give another --port (0: any "
            "free one), or --host 127.0.0.1"
        ) from error
    return listening


def is_loopback(listening: socket.socket) -> bool:
    """Whether only programs of this host can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def is_wildcard(listening: socket.socket) -> bool:
    """Whether it has every address of this host, and so no name of its own."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_unspecified
