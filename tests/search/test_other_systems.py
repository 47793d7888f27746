"""The study command without anything that only Linux has, as on Windows and macOS.

What a type checker can find there, `mypy --platform win32` finds in `make test`.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Python imports it at each start, in the worker processes too.
SITECUSTOMIZE = """
import errno, os, platform, signal, subprocess, sys, time

REAL_KILL, REAL_OPEN = os.kill, os.open

def kill(pid, number):  # Windows ends the process, whatever it would have done on this signal
    REAL_KILL(pid, number and 9)

def no_folder(path, *rest, **options):
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return REAL_OPEN(path, *rest, **options)

def no_proc(event, arguments):
    if event == "open" and str(arguments[0]).startswith("/proc"):
        frame = sys._getframe()
        while frame := frame.f_back:
            if "site-packages" in frame.f_code.co_filename:  # libraries know every system
                return
            if frame.f_globals.get("__name__", "").startswith(("data.", "models.", "search.")):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])

sys.addaudithook(no_proc)
os.kill, os.open = kill, no_folder
subprocess.Popen.terminate = subprocess.Popen.kill = lambda self: kill(self.pid, 9)
platform.libc_ver = lambda *_: ("", "")
for module, names in {
    os: ("fork", "forkpty", "killpg", "sched_getaffinity", "geteuid", "setsid"),
    signal: ("SIGKILL", "SIGUSR1", "SIGHUP", "SIGALRM"),
    time: ("clock_gettime", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC"),
}.items():
    for name in names:
        delattr(module, name)
"""


def test_ctrl_c_and_the_same_command_again(make_site: Callable[..., Any], tmp_path: Path) -> None:
    site, tools = make_site(), tmp_path / "tools"
    tools.mkdir()
    (tools / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join([str(tools), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "CI": "true", "OMP_NUM_THREADS": "1"}
    options = {"env": env, "stderr": subprocess.PIPE}
    process = site.search(500, "--workers", "2", **options)  # more than there is time for
    site.wait_for_reports(4)
    process.send_signal(signal.SIGINT)
    _, err = site.output_of(process, 130, seconds=30)
    assert "Traceback" not in err
    before = site.view()
    assert all(row.worker.endswith(":?") for one in before.trials for row in one.reports)
    assert site.held() == 0  # the workers have released all trials

    total = str(len(before.trials) + 2)
    again = site.search(500, "--workers", "1", "--trials", total, **options)
    out, _ = site.output_of(again)
    assert f"{total} of {total} trials" in out
    assert not site.view().in_state("running", "interrupted")
