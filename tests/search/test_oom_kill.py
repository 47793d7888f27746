"""A trial too large for memory: the kernel kills its workers repeatedly; no other trial fails."""

import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from search import study
from tests.search.conftest import Call

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
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

    def take_in_children(self, *, but: Collection[psutil.Process]) -> None:
        """Add this process's current children; what they allocate from now on counts."""
        for child in psutil.Process().children():
            if child not in but:
                with suppress(OSError):  # it has just ended
                    (self.folder / "cgroup.procs").write_text(str(child.pid))

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


@pytest.mark.usefixtures("unseen")
def test_the_kernel_kills_workers_and_the_study_continues(
    memory_group: MemoryGroup, make_site: Callable[..., Any], call: Call
) -> None:
    site, others, ended = make_site(), psutil.Process().children(), threading.Event()
    (site.folder / "study.toml").write_text(STUDY)
    words = ("--config", "study.toml", "--study", "s", "--workers", "2")

    def take_in_workers() -> None:
        while not ended.wait(0.05):
            memory_group.take_in_children(but=others)

    with ThreadPoolExecutor() as threads:
        taken_in = threads.submit(take_in_workers)
        try:
            call(site, study.main, *words)  # not in the group: the kernel is to kill only workers
        finally:
            ended.set()
        taken_in.result()
    # While one is dying, the kernel, still short of memory, may kill its neighbour as well.
    assert memory_group.kills >= 3
    view = site.view()
    assert [(trial.number, trial.reason) for trial in view.in_state("failed")] == [
        (0, "abandoned 3 times without a new epoch: each time its worker was gone")
    ]
    assert view.finished == 4
    assert not view.in_state("running")
