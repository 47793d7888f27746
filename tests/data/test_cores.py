"""Cores by affinity and by the quota of control groups, both versions."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data import cores
from data.cores import available_cores, cpu_quota

Fake = Callable[..., Path]
V2 = "31 24 0:27 {root} {at} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 32 0:28 {root} {at} rw,nosuid shared:8 - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Makes a /proc/self: its mount and membership, and the files of its groups."""

    def make(mount: str, membership: str, files: dict[str, str], root: str = "/") -> Path:
        at = tmp_path / "cgroup"
        for name, text in files.items():
            (at / name).parent.mkdir(parents=True, exist_ok=True)
            (at / name).write_text(text)
        other = "22 1 0:21 / /proc rw - proc proc rw"
        (tmp_path / "mountinfo").write_text(f"{other}\n{mount.format(root=root, at=at)}\n")
        (tmp_path / "cgroup-file").write_text(f"{membership}\n")
        proc = tmp_path / "proc"
        proc.mkdir()
        (tmp_path / "mountinfo").rename(proc / "mountinfo")
        (tmp_path / "cgroup-file").rename(proc / "cgroup")
        return proc

    return make


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3.0),
        ({"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ({"a/b/cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "200000 100000\n"}, 2.0),  # the mount's root is a container's own group
        ({"other/cpu.max": "100000 100000\n"}, math.inf),
        ({"a/b/cpu.max": "garbage\n"}, math.inf),
    ],
)
def test_version_2(fake: Fake, files: dict[str, str], quota: float) -> None:
    assert cpu_quota(fake(V2, "0::/a/b", files)) == quota


@pytest.mark.parametrize(
    ("membership", "root", "quota"),
    [
        ("4:cpu,cpuacct:/docker/abc", "/", 2.5),
        ("4:cpu,cpuacct:/docker/abc/inner", "/docker/abc", 0.25),  # only what is mounted is seen
        ("4:memory:/docker/abc", "/", math.inf),
    ],
)
def test_version_1(fake: Fake, membership: str, root: str, quota: float) -> None:
    files = {
        "docker/abc/cpu.cfs_quota_us": "250000\n",
        "docker/abc/cpu.cfs_period_us": "100000\n",
        "docker/cpu.cfs_quota_us": "-1\n",
        "docker/cpu.cfs_period_us": "100000\n",
        "cpu.cfs_quota_us": "25000\n" if root != "/" else "-1\n",
        "cpu.cfs_period_us": "100000\n",
    }
    assert cpu_quota(fake(V1, membership, files, root)) == quota


def test_a_group_outside_of_the_mount_counts_as_its_root(fake: Fake) -> None:
    files = {"cpu.max": "100000 100000\n"}
    assert cpu_quota(fake(V2, "0::/elsewhere", files, root="/docker/abc")) == 1.0


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "count"), [(0.1, 1), (1.5, 2), (2.0, 2), (math.inf, 4)])
def test_the_lesser_of_both(monkeypatch: pytest.MonkeyPatch, quota: float, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5}, raising=False)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert available_cores() == count


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_a_process_that_is_held_to_one_core() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from data.cores import available_cores\n"
        "print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
