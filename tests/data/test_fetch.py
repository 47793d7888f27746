import gzip
import hashlib
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data import fetch
from data.fetch import Archive, FetchError, answering
from data.files import File, read

CONTENT = bytes(range(256)) * 400


def slow_failure(*_arguments: object, **_more: object) -> None:
    time.sleep(1.5)
    raise OSError("late")


def archive(*urls: str) -> Archive:
    return Archive(path="set/part.gz", md5="7c9d60a0a13d8cbf1f2be4fb7e1ff8b5", urls=urls)


def test_a_host_that_is_silent_is_given_up_within_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PROBE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, but never answers
        start = time.monotonic()
        with pytest.raises(FetchError, match=r"127\.0\.0\.1:\d+: (no answer|timed out)"):
            fetch.fetch(archive(f"http://127.0.0.1:{silent.getsockname()[1]}/part.gz"), tmp_path)
    assert time.monotonic() - start < 2
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_takes_long_to_look_up_is_given_up_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", slow_failure)
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"no answer within 0\.3 s"):
        answering(archive("http://somewhere.invalid/part.gz"))
    assert time.monotonic() - start < 1


def test_a_download_that_stalls_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(fetch, "_probe", lambda _url: None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(FetchError, match="timed out"):
            fetch.fetch(archive(f"http://127.0.0.1:{silent.getsockname()[1]}/part.gz"), tmp_path)
    assert time.monotonic() - start < 3
    assert socket.getdefaulttimeout() is None


def test_each_host_is_named_with_its_reason(serve: Callable[[dict[str, bytes]], Any]) -> None:
    server = serve({})
    with pytest.raises(FetchError) as caught:
        answering(archive("http://127.0.0.1:9/part.gz", f"{server.url}part.gz"))
    assert "127.0.0.1:9: Connection refused; " in str(caught.value)
    assert "404" in str(caught.value)


def read_to_queue(digests: list[str], url: str, data_dir: Path, start: Any, queue: Any) -> None:
    packed, plain = digests
    part = Archive(path="set/part.gz", md5=packed, urls=(url,))
    start.wait()
    [content] = read("the set", [File(path="set/part", md5=plain, archive=part)], data_dir)
    queue.put(hashlib.md5(content).hexdigest())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock, and no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes_that_start_at_once_fetch_once_and_all_read_whole_files(
    tmp_path: Path, serve: Callable[[dict[str, bytes]], Any]
) -> None:
    packed = gzip.compress(CONTENT, mtime=0)
    digests = [hashlib.md5(content).hexdigest() for content in (packed, CONTENT)]
    server = serve({"part.gz": packed})
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    arguments = (digests, f"{server.url}part.gz", tmp_path, start, queue)
    processes = [context.Process(target=read_to_queue, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert [queue.get(timeout=5) for _ in processes] == [digests[1]] * 4
    assert server.got == ["part.gz"]
