"""Who holds a lease, and whether that process can be or must be alive.

A worker's name is `host:pid:start:scope`. Start (in clock ticks since boot) tells a process from a
later one with the same number. Scope (boot id and process namespace) tells apart hosts and
containers that call themselves alike. Both are read from Linux's /proc; without it they are `?`,
and a dead worker is noticed only when its lease runs out.
"""

import os
import re
import socket
from pathlib import Path

_UNKNOWN = "?"


def this_worker() -> str:
    """The name of this process, at most 150 characters. A forked child has its own."""
    host = socket.gethostname().replace(":", "_")[:64]
    return f"{host}:{os.getpid()}:{_start(os.getpid())}:{_scope()}"


def has_died(worker: str) -> bool:
    """Whether the process of that name has certainly ended; False where that cannot be known."""
    if not _is_local(worker):
        return False
    _, pid, start, _ = worker.split(":")
    found = _start(int(pid))
    return _is_gone(int(pid)) if found == _UNKNOWN else found != start


def is_alive(worker: str) -> bool:
    """Whether the process of that name certainly exists, running or stopped, on this host."""
    if not _is_local(worker):
        return False
    _, pid, start, _ = worker.split(":")
    return start != _UNKNOWN and _start(int(pid)) == start


def _is_local(worker: str) -> bool:
    """Whether it is one of those processes that /proc shows here under their own numbers."""
    here, parts = this_worker().split(":"), worker.split(":")
    if len(parts) != 4 or not re.fullmatch("[0-9]{1,9}", parts[1]):
        return False  # no process of ours wrote that
    return (parts[0], parts[3]) == (here[0], here[3]) and here[3] != _UNKNOWN


def display_name(worker: str) -> str:
    """`host:pid`, for people."""
    return ":".join(worker.split(":")[:2])


def _start(pid: int) -> str:
    """When the process started; `?` where it cannot be seen, `ended` for one not yet waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return _UNKNOWN
    # "pid (name) state ppid ...": the name may hold spaces and brackets. proc(5): fields 3 and 22.
    fields = stat.rpartition(")")[2].split()
    return "ended" if fields[0] in "ZX" else fields[19]


def _is_gone(pid: int) -> bool:
    """/proc can hide other users' processes (hidepid); signals tell hidden from gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _scope() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return _UNKNOWN
    return f"{boot}-{namespace}"
