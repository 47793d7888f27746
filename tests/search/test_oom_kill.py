"""A trial too large for memory: the kernel kills its workers repeatedly; no other trial fails."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.faults
LIMIT_BYTES = 1_300_000_000  # room for two workers on small networks, not for the large one
STUDY = """\
[study]
dataset = "digits"
trials = 4
epochs = 2

[space]
depth = 1
width = [4, 8]
hidden = []

[baseline] # 94 million weights, their gradients and Adam's two moments: 1.5 GB
depth = 3
width = 1024
"""


class MemoryGroup:
    """A control group with a memory limit, under cgroup v1 or v2."""

    def __init__(self, parent: Path, limit_file: str, kills_file: str) -> None:
        self.folder = parent / f"cnn-search-{uuid.uuid4().hex}"
        self._kills_file = kills_file
        self.folder.mkdir()
        (self.folder / limit_file).write_text(str(LIMIT_BYTES))

    def take_in_children(self, pid: int) -> None:
        """Add the current children of a process; what they allocate from now on counts."""
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):  # it has just ended
                (self.folder / "cgroup.procs").write_text(child)

    @property
    def kills(self) -> int:
        lines = (self.folder / self._kills_file).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@pytest.fixture
def memory_group() -> Iterator[MemoryGroup]:
    root = Path("/sys/fs/cgroup")
    try:
        if (root / "memory").is_dir():
            group = MemoryGroup(root / "memory", "memory.limit_in_bytes", "memory.oom_control")
        else:
            group = MemoryGroup(root, "memory.max", "memory.events")
    except OSError as error:
        pytest.skip(f"no memory control group can be made here ({error})")
    yield group
    group.folder.rmdir()


def test_the_kernel_kills_workers_and_the_study_continues(
    memory_group: MemoryGroup, make_site: Callable[..., Any]
) -> None:
    site = make_site()
    (site.folder / "study.toml").write_text(STUDY)
    words = ("--config", "study.toml", "--study", "s", "--workers", "2")
    process = site.start("search.study", *words)
    # Only workers: the kernel might choose the study command itself, which then ends them.
    while process.poll() is None:
        memory_group.take_in_children(process.pid)
        time.sleep(0.05)
    assert process.returncode == 0, process.stdout.read()
    # While one is dying, the kernel, still short of memory, may kill its neighbour as well.
    assert memory_group.kills >= 3
    view = site.view()
    assert [(trial.number, trial.reason) for trial in view.in_state("failed")] == [
        (0, "abandoned 3 times without a new epoch: each time its worker was gone")
    ]
    assert view.finished == 4
    assert not view.in_state("running")
