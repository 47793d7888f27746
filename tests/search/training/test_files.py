"""Files are always whole, checkpoints are verified, and leftovers of killed writers are deleted."""

import hashlib
import io
import itertools
import multiprocessing
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from data.reading import host_digest, write_atomically
from search.store import StorageError
from search.store.folders import find_checkpoints
from search.training import files
from search.training.files import (
    CheckpointError,
    CheckpointUnwritableError,
    Remote,
    delete_abandoned,
    delete_checkpoint,
    latest_checkpoint,
    load_tensors,
    save_checkpoint,
)

FORK = multiprocessing.get_context("fork")
IDENTITY = {"trial": 1, "content": "a"}


def state(value: int, identity: Any = IDENTITY) -> dict[str, Any]:
    weights = torch.full((1000,), float(value))
    return {"identity": identity, "epoch": value, "weights": weights}


def latest(file: Path | Remote) -> int | None:
    """The epoch of the newest checkpoint, which must be whole."""
    found = latest_checkpoint(file, IDENTITY)
    assert found is None or bool((found["weights"] == found["epoch"]).all())
    return None if found is None else int(found["epoch"])


@pytest.mark.parametrize(
    ("saved", "fits"),
    [
        ({"trial": 1, "content": "a"}, True),
        ({"trial": 1, "content": "b"}, False),
        ({"trial": 2, "content": "a"}, False),
        ({"trial": 1}, True),  # of an earlier version
        ({"trial": 2}, False),
        (None, False),
    ],
)
def test_a_checkpoint_of_other_data_or_another_trial_is_recognised(
    saved: Any, fits: bool, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "trial-3.pt", state(1, saved))
    assert latest(tmp_path / "trial-3.pt") == (1 if fits else None)


@pytest.mark.parametrize(
    "url", ["memory://bucket/deep", "file://{folder}", "{folder}", "{s3}/deep/er"]
)
def test_checkpoints_work_wherever_they_are_stored(tmp_path: Path, url: str, s3: str) -> None:
    file = find_checkpoints(url.format(folder=tmp_path / "deep", s3=s3)) / "trial-3.pt"
    assert latest(file) is None
    delete_checkpoint(file)
    for epoch in (1, 2, 3):
        save_checkpoint(file, state(epoch))
    assert (latest(file), latest(file.with_suffix(".previous.pt"))) == (3, 2)
    file.write_bytes(file.read_bytes()[:-1])
    assert latest(file) == 2
    delete_checkpoint(file)
    assert latest(file) is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense://x", "Protocol not known: nonsense"),
        ("data:,x", "Read only filesystem"),
        ("s3://another/folder", "The specified bucket does not exist"),
        ("{folder}/file", r"^[^;]*/file is not a folder; move that file away$"),
        ("{folder}/new", r"^no permission [^;]*; give another --checkpoints$"),
    ],
)
@pytest.mark.usefixtures("s3")
def test_an_impossible_or_unwritable_place_is_an_error_with_one_remedy(
    url: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    if url.endswith("new"):
        monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StorageError, match=reason):
        find_checkpoints(url.format(folder=tmp_path))


@pytest.mark.faults
def test_flipped_bits_and_truncation_are_detected_and_cost_one_epoch(tmp_path: Path) -> None:
    file = tmp_path / "trial-3.pt"
    save_checkpoint(file, state(1))
    save_checkpoint(file, state(2))
    whole = file.read_bytes()
    rng = random.Random(0)
    for number in range(100):
        damaged = bytearray(whole)
        if number % 2:
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        else:
            del damaged[rng.randrange(len(whole)) :]
        file.write_bytes(damaged)
        assert latest(file) == 1


def test_a_store_that_cannot_be_reached_is_no_missing_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = find_checkpoints("memory://bucket/away") / "trial-3.pt"
    save_checkpoint(file, state(1))
    refused = Mock(side_effect=TimeoutError("Read timeout\non endpoint URL"))
    with monkeypatch.context() as outage:
        outage.setattr(MemoryFileSystem, "cat_file", refused)
        said = r"cannot read memory://bucket/away/trial-3.pt \(Read timeout\); nothing is lost: "
        with pytest.raises(CheckpointError, match=said):
            latest(file)
        with pytest.raises(StorageError, match=r"cannot keep checkpoints in .* \(Read timeout\)"):
            find_checkpoints("memory://bucket/away")
    assert latest(file) == 1


def test_what_cannot_be_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling.pt").symlink_to("nowhere")
    assert latest(tmp_path / "file" / "trial-3.pt") is None
    assert latest(tmp_path / "dangling.pt") is None


class Evil:
    """Its pickle asks for a function call when loaded."""

    def __init__(self, sign: Path) -> None:
        self._sign = str(sign)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (self._sign,)


@pytest.mark.faults
@pytest.mark.parametrize("new", [True, False])
def test_a_malicious_pickle_is_not_executed(tmp_path: Path, new: bool) -> None:
    """With a correct digest, which anyone can write."""
    sign, file, written = tmp_path / "executed", tmp_path / "trial-3.pt", io.BytesIO()
    torch.save({"epoch": Evil(sign)}, written, _use_new_zipfile_serialization=new)
    evil = written.getvalue()
    file.write_bytes(files.MAGIC + hashlib.sha256(evil).digest() + evil)
    assert latest(file) is None
    assert not sign.exists()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a file is being written, its name identifies the writer."""
    file = tmp_path / "metrics.json"
    write_atomically(file, b"old")
    found: list[str] = []

    def full(_: int) -> None:
        found.extend(sorted(path.name for path in tmp_path.iterdir()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_atomically(file, b"new")
    assert caught.value.filename == str(file)
    assert found[1].startswith(f"{file.name}.{host_digest()}-{os.getpid()}-")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("error", "refusals", "waits"), [(5, 2, 2), (32, 7, 6), (None, 1, 0)])
def test_a_scanner_that_holds_new_files_for_moments_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any, refusals: int, waits: int
) -> None:
    """As on Windows, where nobody can rename such a file; only other reasons, or longer, count."""
    file = tmp_path / "trial-3.pt"
    save_checkpoint(file, state(1))
    refused = PermissionError(13, "Access is denied")
    if error is not None:
        refused.winerror = error
    replies, waited, rename = iter([refused] * refusals), list[float](), Path.replace

    def held(self: Path, target: Path) -> Path:
        for reply in replies:
            raise reply
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", held)
    monkeypatch.setattr(time, "sleep", waited.append)
    if refusals <= waits:
        save_checkpoint(file, state(2))
        assert latest(file) == 2
    else:
        with pytest.raises(CheckpointUnwritableError, match="Access is denied"):
            save_checkpoint(file, state(2))
        assert latest(file) == 1
    assert len(waited) == waits
    assert sum(waited) < 2.5


def save_for_ever(file: Path, first: int) -> None:
    for epoch in itertools.count(first):
        save_checkpoint(file, {**state(epoch), "more": torch.zeros(200_000)})


@pytest.mark.faults
def test_killed_while_saving_leaves_a_whole_file(
    tmp_path: Path, times: Callable[[int, int], int]
) -> None:
    """Real processes, killed at times spread over many saves; each continues where one ended."""
    file = tmp_path / "trial-3.pt"
    first = 0
    for attempt in range(times(12, 200)):
        process = FORK.Process(target=save_for_ever, args=(file, first))
        process.start()
        while (latest(file) or 0) <= first:
            time.sleep(0.001)
        time.sleep(0.0037 * (attempt % 12))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        epoch = latest(file)
        assert epoch is not None
        assert epoch > first
        first = epoch + 1


def test_leftovers_of_killed_writers_are_deleted(tmp_path: Path) -> None:
    """At once on this host; those of another host or an earlier version after an hour."""
    delete_abandoned(tmp_path / "absent")
    child = FORK.Process(target=print)
    child.start()
    child.join()
    of_child, own = (f"{host_digest()}-{pid}-01234567" for pid in (child.pid, os.getpid()))
    others = [f"00000000-{pid}-01234567" for pid in (child.pid, os.getpid())]
    kept = {f"trial-3.pt.{writer}.partial.tmp" for writer in (own, *others)}
    kept |= {"notes.tmp", "under way.partial.tmp"}
    for name in (*kept, f"trial-3.pt.{of_child}.partial.tmp", "file.0123.partial.tmp"):
        (tmp_path / name).touch()
        if name in ("notes.tmp", "file.0123.partial.tmp"):
            os.utime(tmp_path / name, (0, 0))
    delete_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_compressed_weights_are_refused_before_they_grow() -> None:
    """200 kB that would unpack to 200 MB."""
    buffer, small = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer)
    with zipfile.ZipFile(buffer) as given, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in given.infolist():
            new.writestr(entry.filename, given.read(entry))
    with pytest.raises(ValueError, match="compressed"):
        load_tensors(small.getvalue())
