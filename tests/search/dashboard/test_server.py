"""The real server on a real socket: whatever is sent, it answers and keeps running."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from search.dashboard.server import ServingError, check_host_name, listen, serve


class Served:
    """A server in a thread, which a real one is not."""

    def __init__(self, application: Any) -> None:
        self.listening = listen("127.0.0.1", 0)
        self.port: int = self.listening.getsockname()[1]
        self._thread = threading.Thread(
            target=serve, args=(application, self.listening), daemon=True
        )
        self._thread.start()

    def send(self, raw: bytes) -> bytes:
        """The answer to these bytes, as far as it came before the server hung up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            answer = b""
            try:
                connection.sendall(raw)
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    answer += chunk
            except TimeoutError:
                raise
            except OSError:
                pass  # it had hung up before all was sent
        return answer

    def is_well(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/api/meta", headers={"Host": "localhost"})
            return connection.getresponse().status == 200
        finally:
            connection.close()


@pytest.fixture(scope="module")
def served(untouched: Any) -> Served:
    found = Served(untouched.guard())
    deadline = time.monotonic() + 60
    while not found.is_well():
        assert time.monotonic() < deadline
    return found


HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/studies" + HEAD
MALFORMED = (
    b"",
    b"hello\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,  # TLS
    *(
        b"GET " + path + HEAD + b"\r\n"
        for path in (b"/%00", b"/static/../../_app.py", b"/static/%2e%2e/_app.py", b"/%ff%fe",
                     b"/%0d%0aSet-Cookie:%20x=y", b"/" + b"a" * 30_000)
    ),
    b"GET /" + HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /" + HEAD + b"Host: evil.example\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: evil.example\r\n\r\n",
    b"BREW /dashboard" + HEAD + b"\r\n",
    *(
        POST + b"Content-Length: " + length + b"\r\n\r\n{}"
        for length in (b"9999999999", b"-1", b"100", b"2\r\nTransfer-Encoding: chunked")
    ),
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: gzip\r\n\r\n",
)  # fmt: skip


def test_malformed_requests_are_refused_and_the_next_is_served(served: Served) -> None:
    for raw in MALFORMED:
        answer = served.send(raw)
        if answer:
            status = int(answer.split(None, 2)[1])
            assert 400 <= status < 600 or raw.startswith(b"GET http"), raw[:80]
            assert not any(word in answer for word in (b"Set-Cookie", b"def ", b"Traceback"))
        assert served.is_well(), raw[:80]


def test_chunks_are_read_whole_and_checked(served: Served) -> None:
    head = (
        b"PUT /api/studies/1/note HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    for version, status in ((b"2", b"204"), (b"0", b"409")):
        body = b'{"version": ' + version + b', "body": "chunked"}'
        first, second = body[:9], body[9:]
        chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(first), first, len(second), second)
        assert served.send(head + chunks).split(None, 2)[1] == status


@pytest.mark.parametrize(
    "says",
    [b"", b"GET / HTTP/1.1\r\nHost: local", b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n"],
)
def test_hundreds_of_idle_connections_keep_nobody_out(says: bytes, served: Served) -> None:
    with ExitStack() as stack:
        held = []
        for _ in range(400):  # more than the server takes
            address = ("127.0.0.1", served.port)
            held.append(stack.enter_context(socket.create_connection(address, timeout=10)))
            held[-1].sendall(says)
        for _ in range(3):
            began = time.monotonic()
            assert served.is_well()
            assert time.monotonic() - began < 5
            for one in held:  # a byte now and then does not make them worth more
                with suppress(OSError):
                    one.sendall(b"a")
    assert served.is_well()


def test_a_large_body_is_refused_before_it_is_sent(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(POST + b"Content-Length: 9999999\r\n\r\n")
        assert connection.recv(100).split(None, 2)[1] == b"413"


def test_errors_about_unusable_addresses_say_what_to_do() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"port {port} of 127.0.0.1: .*--port"):
            listen("127.0.0.1", port)
    for host in ("192.0.2.1", "no.such.host.invalid", "a" * 300):
        with pytest.raises(ServingError, match=r"--host 127\.0\.0\.1"):
            listen(host, 0)


def test_host_names_as_browsers_write_them() -> None:
    for name, host in (("GPU7", "gpu7"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("10.0.0.1",) * 2):
        assert check_host_name(name) == host
    for name in ("", "*", "http://a", "a:80", "a b", "a\nb", "ü", "a" * 300):
        with pytest.raises(ServingError, match="host name"):
            check_host_name(name)
