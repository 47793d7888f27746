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

from search.terminal.stopping import StopOnSignal

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
LARGEST_HEADERS = 32 * 1024  # bytes
THREADS = 4  # a page asks for several things at once
LARGEST_BODY = 2**21  # bytes
MOST_WAITING = 100  # idle connections; one more closes the oldest of them
MOST_CONNECTIONS = 200  # including those being answered; macOS allows 256 open files
IDLE_SECONDS = 60


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

    Raises:
        ServingError: it is neither.
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

    Raises:
        ServingError: the host is not an address of this machine, or the port is taken or reserved.
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


def serve(
    application: Callable[..., Any], listening: socket.socket, stopping: StopOnSignal
) -> None:
    """Answer requests until a signal; those being answered then get five more seconds."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is nothing unusual
    server = create_server(
        application,
        sockets=[listening],
        threads=THREADS,
        ident=None,
        max_request_header_size=LARGEST_HEADERS,
        max_request_body_size=LARGEST_BODY,  # which is read before the guard sees the request
        connection_limit=MOST_CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=10,
        log_socket_errors=False,
    )

    server.channel_class = _Channel

    def stop() -> None:
        raise KeyboardInterrupt  # out of the signal handler, as waitress's loop expects

    try:
        with contextlib.suppress(KeyboardInterrupt):
            stopping.on_signal = stop
            if not stopping.event.is_set():
                server.run()
    finally:
        stopping.on_signal = lambda: None
        server.close()
