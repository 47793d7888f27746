"""Where the dashboard listens and under which names, and waitress from first request to last."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import socket
from collections.abc import Callable
from typing import Any

from search.dashboard import ServingError
from search.terminal.stopping import StopOnSignal

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
LARGEST_HEADERS = 32 * 1024  # bytes
THREADS = 4  # a page asks for several things at once
MOST_CONNECTIONS = 800  # below the usual limit of 1024 open files; idle ones keep nobody out
IDLE_SECONDS = 60


def check_host_name(name: str) -> str:
    """A name or an address as browsers write it into Host, in lower case and without a port.

    Raises:
        ServingError: it is neither.
    """
    found = name.lower()
    with contextlib.suppress(ValueError):
        found = f"[{ipaddress.IPv6Address(found.strip('[]'))}]"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,252}|\[[0-9a-f:.]+\]", found):
        raise ServingError(
            f"{name!r} is no host name; give one without scheme and port, like gpu7.example.org"
        )
    return found


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address, as `check_host_name` has it; port 0 takes any free one.

    Raises:
        ServingError: the host is none of this machine's, or the port is taken or reserved.
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
    """Answer requests until a signal; those that are being answered get five seconds more."""
    from waitress import create_server

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is no news
    server = create_server(
        application,
        sockets=[listening],
        threads=THREADS,
        ident=None,
        max_request_header_size=LARGEST_HEADERS,
        connection_limit=MOST_CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=10,
        log_socket_errors=False,
    )

    def stop() -> None:
        raise KeyboardInterrupt  # out of the handler: what waitress's loop understands

    try:
        with contextlib.suppress(KeyboardInterrupt):
            stopping.on_signal = stop
            if not stopping.event.is_set():
                server.run()
    finally:
        stopping.on_signal = lambda: None
        server.close()
