import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.store.claims import display_name, has_died, is_alive, this_worker

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """A process that prints its name and then waits."""
    program = "from search.store.claims import *; print(this_worker(), flush=True); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def name_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_living_process(other: subprocess.Popen[str]) -> None:
    name = name_of(other)
    assert name != this_worker()
    assert not has_died(name)
    assert not has_died(this_worker())
    os.kill(other.pid, signal.SIGSTOP)
    assert not has_died(name)  # stopped, it may yet go on
    assert is_alive(name)


def test_a_killed_process(other: subprocess.Popen[str]) -> None:
    name = name_of(other)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert has_died(name)  # a zombie already
    assert not is_alive(name)
    other.wait()
    assert has_died(name)


def test_another_process_under_its_number() -> None:
    host, pid, start, scope = this_worker().split(":")
    assert has_died(f"{host}:{pid}:{int(start) - 1}:{scope}")


@pytest.mark.parametrize("part", [0, 3])
def test_of_other_hosts_nothing_is_known(part: int) -> None:
    parts = this_worker().split(":")
    parts[1:3] = ["999999999", "1"]
    assert has_died(":".join(parts))
    parts[part] += "x"
    assert not has_died(":".join(parts))


def test_names_that_it_did_not_make() -> None:
    assert not has_died("unknown")
    assert not has_died("a:b:c:d")


def test_display_name() -> None:
    assert display_name("host:12:34:scope") == "host:12"
    assert display_name("unknown") == "unknown"


@pytest.mark.parametrize("pid", ["x", "-1", "", "9" * 30, "../1", "1 ", "\u0661"])
def test_a_name_that_is_none_is_neither_dead_nor_alive(pid: str) -> None:
    """Whoever can write to the database can write any."""
    host, _, start, scope = this_worker().split(":")
    name = f"{host}:{pid}:{start}:{scope}"
    assert not has_died(name)
    assert not is_alive(name)
