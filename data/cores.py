"""How many CPU cores this process may use: in a container or under taskset fewer than there are."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")


def available_cores() -> int:
    """The cores of the process's affinity, or of its control groups' quota where that is less.

    A quota of 1.5 cores counts as 2: two threads use it up, one cannot.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cpu_quota())))


def cpu_quota(proc: Path = PROC) -> float:
    """The least CPU quota, in cores, of the process's control group and all above; else infinity.

    Args:
        proc: the process's folder under /proc; its `mountinfo` says where the groups' files are.
    """
    quotas = (quota for folder in _groups(proc) if (quota := _quota(folder)) is not None)
    return min(quotas, default=math.inf)


def _groups(proc: Path) -> Iterator[Path]:
    """Folders of the group that limits the process's CPU time and of the groups above it.

    Those above a mount's root, as of a container, cannot be seen from within.
    """
    try:
        mounts = (proc / "mountinfo").read_text().splitlines()
        memberships = (proc / "cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    paths: dict[str, PurePosixPath] = {}  # of "" in version 2, which does not part controllers
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), PurePosixPath(path)))
    for line in mounts:
        before, _, after = line.partition(" - ")
        root, mount_point = before.split(" ")[3:5]
        kind, _, options = after.split(" ", 2)
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller not in paths or (controller and "cpu" not in options.split(",")):
            continue
        group = paths[controller]
        inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
        if ".." not in inside.parts:
            folder = Path(mount_point) / inside
            yield from (folder, *folder.parents[: len(inside.parts)])


def _quota(folder: Path) -> float | None:
    """Cores that a group may use, by the file of either version of control groups."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        cores = int(quota) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return cores if cores > 0 else None  # -1: no limit
