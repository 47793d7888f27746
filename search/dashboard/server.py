"""The server: waitress on one socket, from its first request to its last."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from search.dashboard.bodies import LARGEST_BODY
from search.dashboard.headers import REFUSED
from search.terminal.stopping import StopOnSignal

LARGEST_HEADERS = 32 * 1024  # bytes
THREADS = 4  # a page asks for several things at once
MOST_WAITING = 100  # connections; one more costs the least useful of them its place
MOST_CONNECTIONS = 400  # with those whose requests are being answered
IDLE_SECONDS = 60
_UNWANTED = ("400", "401", "403")


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Waitress's own answer to what is no HTTP: with our headers too."""

    def build_response_header(self) -> bytes:
        self.response_headers.extend(REFUSED.items())
        header: bytes = super().build_response_header()
        return header


class _Task(WSGITask):  # type: ignore[misc]
    """An answer; whoever has not shown the token, or is refused, does not keep the connection."""

    def build_response_header(self) -> bytes:
        if self.status.startswith(_UNWANTED):
            self.set_close_on_finish()
        self.channel.was_served = True
        header: bytes = super().build_response_header()
        return header


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. A new one is always accepted, if need be in place of one that only waits.

    Waitress accepts no more once it has so many, so that idle ones would shut everyone out.
    """

    task_class = _Task
    error_task_class = _ErrorTask
    was_served = False

    def __init__(self, server: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(server, *arguments, **options)
        waiting = [c for c in server.active_channels.values() if not c.requests and c is not self]
        if len(waiting) >= MOST_WAITING:
            min(waiting, key=_Channel.worth).handle_close()

    def worth(self) -> tuple[bool, float]:
        """Those that have never asked for anything go first, the oldest ahead; a byte now and then
        makes none younger. Then those that have rested longest."""
        return self.was_served, self.last_activity if self.was_served else self.creation_time


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
    server.channel_class = _Channel

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
