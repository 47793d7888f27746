import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search.training import temporary
from search.training.temporary import delete_abandoned, own_temporary, write_atomically


def hold(target: Path, seconds: float = 60.0) -> None:
    with own_temporary(target):
        time.sleep(seconds)


def started(target: Path) -> tuple[multiprocessing.process.BaseProcess, Path]:
    """A process that is writing, and its temporary file."""
    process = multiprocessing.get_context("fork").Process(target=hold, args=(target,))
    before = set(target.parent.iterdir())
    process.start()
    deadline = time.monotonic() + 30
    while not (new := set(target.parent.iterdir()) - before):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.05)  # locked by now
    return process, new.pop()


def test_what_is_being_written_stays_and_goes_once_its_writer_is_killed(tmp_path: Path) -> None:
    process, file = started(tmp_path / "trial-3.pt")
    assert delete_abandoned(tmp_path) == []
    os.utime(file, (0, 0))  # stopped for a day: it lives
    assert delete_abandoned(tmp_path) == []
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert delete_abandoned(tmp_path) == [file]
    assert list(tmp_path.iterdir()) == []


def test_another_hosts_file_stays_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock may not be seen from here."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(temporary.socket, "gethostname", lambda: "another")
        context = own_temporary(tmp_path / "trial-3.pt")
        file, opened = context.__enter__()
    opened.close()
    assert delete_abandoned(tmp_path) == []
    os.utime(file, (0, 0))
    assert delete_abandoned(tmp_path) == [file]


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(temporary.fcntl, "flock", no_locks)
    with own_temporary(tmp_path / "trial-3.pt") as (file, _):
        assert delete_abandoned(tmp_path) == []
        os.utime(file, (0, 0))
        assert delete_abandoned(tmp_path) == [file]


def test_an_earlier_versions_files_go_with_their_process(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = [tmp_path / f"trial-3.pt.{ended.pid}.{end}" for end in ("tmp", "link")]
    for path in (*dead, tmp_path / f"trial-3.pt.{os.getppid()}.tmp"):
        path.touch()
    assert sorted(delete_abandoned(tmp_path)) == sorted(dead)


@pytest.mark.parametrize(
    "name", ["notes.tmp", "trial-3.pt", "a.12.tmp.gz", "x.12345678-1234567.tmp", ".tmp", "12.tmp"]
)
def test_a_persons_files_stay(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.touch()
    os.utime(file, (0, 0))
    assert delete_abandoned(tmp_path) == []
    assert file.exists()


def test_links_and_folders_stay(tmp_path: Path) -> None:
    other, folder = tmp_path / "other", tmp_path / "folder"
    other.mkdir()
    folder.mkdir()
    (other / "a.1-1.tmp").touch()
    (folder / "a.0123abcd-0123abcd.tmp").symlink_to(other / "a.1-1.tmp")
    (folder / "b.0123abcd-0123abcd.tmp").mkdir()
    (folder / "c").symlink_to(other)
    assert delete_abandoned(folder) == []
    assert len(list(folder.iterdir())) == 3


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert delete_abandoned(tmp_path / "absent") == []


def write_for_ever(file: Path) -> None:
    while True:
        write_atomically(file, bytes(10_000))


@pytest.mark.faults
def test_swept_without_pause_every_write_succeeds(
    tmp_path: Path, times: Callable[[int, int], int]
) -> None:
    """A file just made and not yet locked is taken for a left-over; its writer makes another."""
    process = multiprocessing.get_context("fork").Process(
        target=write_for_ever, args=(tmp_path / "file",)
    )
    process.start()
    ends = time.monotonic() + times(2, 60)
    while time.monotonic() < ends:
        delete_abandoned(tmp_path)
        assert process.is_alive()
    process.kill()
    process.join()
    delete_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
