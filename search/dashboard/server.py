"""Where the dashboard listens and under which names, and serving it with waitress."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import socket
from collections.abc import Callable
from typing import Any

from waitress import create_server
from waitress.channel import HTTPChannel

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
THREADS = 4  # a page asks for several things at once
LARGEST_BODY = 2**21  # bytes
MOST_WAITING = 100  # idle connections; one more closes the oldest of them


class ServingError(ValueError):
    """The dashboard cannot be started like this: one line with the value and the remedy."""


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. A new one is always accepted, if need be by closing one that is idle.

    Waitress stops accepting at its connection limit, so that idle ones would shut everyone out.
    """

    def __init__(self, server: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(server, *arguments, **options)
        there = server.active_channels.values()
        waiting = [one for one in there if not one.requests and one is not self]
        if len(waiting) >= MOST_WAITING:
            # Those still sending an answer are closed last. Occasional bytes do not reset the age.
            min(waiting, key=lambda it: (it.total_outbufs_len > 0, it.creation_time)).handle_close()


def check_host_name(name: str) -> str:
    """A host name or address as browsers write it into Host, in lower case and without a port.

    Raises ServingError if it is neither.
    """
    found = name.lower()
    with contextlib.suppress(ValueError):
        found = f"[{ipaddress.IPv6Address(found.strip('[]'))}]"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,252}|\[[0-9a-f:.]+\]", found):
        raise ServingError(
            f"{name!r} is not a host name; give one without scheme and port, like gpu7.example.org"
        )
    return found


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address, as `check_host_name` returns it; port 0 picks any free port.

    Raises ServingError if this machine has no such address, or the port is taken or reserved.
    """
    if not 0 <= port < 2**16:
        raise ServingError(f"--port takes 0 to 65535, but got {port}")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ServingError(
            f"cannot serve on port {port} of {host}: {reason}; give another --port (0: any free "
            "one), or --host 127.0.0.1"
        ) from error


def serve(application: Callable[..., Any], listening: socket.socket) -> None:
    """Answer requests until KeyboardInterrupt; those being answered then get five more seconds."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is nothing unusual
    server = create_server(
        application,
        sockets=[listening],
        threads=THREADS,
        ident=None,
        max_request_header_size=32 * 1024,
        max_request_body_size=LARGEST_BODY,  # which is read before the guard sees the request
        connection_limit=2 * MOST_WAITING,  # including those answered; macOS allows 256 open files
        channel_timeout=60,  # seconds
        cleanup_interval=10,
        log_socket_errors=False,
    )
    server.channel_class = _Channel
    try:
        server.run()
    finally:
        server.close()
