"""The server: waitress on one socket, from its first request to its last."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

from waitress import create_server

from search.dashboard.bodies import LARGEST_BODY
from search.terminal.stopping import StopOnSignal

LARGEST_HEADERS = 32 * 1024  # bytes
THREADS = 4  # a page asks for several things at once
MOST_CONNECTIONS = 800  # below the usual limit of 1024 open files; idle ones keep nobody out
IDLE_SECONDS = 60


def serve(
    application: Callable[..., Any], listening: socket.socket, stopping: StopOnSignal
) -> None:
    """Answer requests until a signal; those that are being answered get five seconds more."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is no news
    server = create_server(
        application,
        sockets=[listening],
        threads=THREADS,
        ident=None,
        max_request_body_size=LARGEST_BODY + 1,
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
