"""Where verified bytes come from, through the small Fashion-MNIST of conftest.py."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import FashionMNIST

from data.errors import DataError
from data.published import PUBLISHED

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def read(small_fashion: Any, *, train: bool = True) -> list[bytes]:
    return PUBLISHED["fashion_mnist"].read(small_fashion.data_dir, train=train)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [truncate, flip_a_bit, empty]


def test_packed_and_extracted_files_read_alike(small_fashion: Any) -> None:
    small_fashion.put_packed()
    expected = [gzip.decompress(small_fashion.packed[name]) for name in (IMAGES, LABELS)]
    assert read(small_fashion) == expected
    small_fashion.put_extracted()
    assert read(small_fashion) == expected
    for packed in small_fashion.raw.glob("*.gz"):
        packed.unlink()
    assert read(small_fashion) == expected


def test_reading_training_files_opens_no_test_file_and_needs_none(small_fashion: Any) -> None:
    small_fashion.put_packed(IMAGES, LABELS)
    (small_fashion.raw / "t10k-images-idx3-ubyte.gz").mkdir()  # cannot be opened
    assert len(read(small_fashion)) == 2


def test_reading_writes_nothing(small_fashion: Any) -> None:
    small_fashion.put_packed()
    before = sorted(small_fashion.data_dir.rglob("*"))
    read(small_fashion)
    read(small_fashion, train=False)
    assert sorted(small_fashion.data_dir.rglob("*")) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_extracted_file_beside_a_good_archive_does_no_harm(
    small_fashion: Any, damage: Callable[[Path], None]
) -> None:
    small_fashion.put_packed()
    expected = read(small_fashion)
    small_fashion.put_extracted()
    damage(small_fashion.raw / "train-images-idx3-ubyte")
    assert read(small_fashion) == expected


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_beside_a_good_extracted_file_does_no_harm(
    small_fashion: Any, damage: Callable[[Path], None]
) -> None:
    small_fashion.put_packed()
    expected = read(small_fashion)
    small_fashion.put_extracted()
    damage(small_fashion.raw / IMAGES)
    assert read(small_fashion) == expected


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [IMAGES, LABELS, "train-images-idx3-ubyte"])
def test_a_file_damaged_in_every_form_is_named_with_the_remedy(
    small_fashion: Any, name: str, damage: Callable[[Path], None]
) -> None:
    if name.endswith(".gz"):
        small_fashion.put_packed()
    else:
        small_fashion.put_extracted()
    damage(small_fashion.raw / name)
    with pytest.raises(DataError) as caught:
        read(small_fashion)
    message = str(caught.value)
    assert str(small_fashion.raw / name) in message
    assert message.count(str(small_fashion.raw)) == 1  # the whole ones are not blamed
    assert "delete it" in message
    assert "Connection refused" in message
    assert "\n" not in message


def test_absent_files_are_listed_with_their_place_and_nothing_is_left_behind(
    small_fashion: Any,
) -> None:
    with pytest.raises(DataError) as caught:
        read(small_fashion)
    message = str(caught.value)
    for name in small_fashion.packed:
        assert name in message
    assert f"into {small_fashion.raw}" in message
    assert "\n" not in message
    assert not small_fashion.data_dir.exists()


def test_only_what_is_missing_is_asked_for(small_fashion: Any) -> None:
    small_fashion.put_packed(IMAGES, "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=f"put {LABELS} into"):
        read(small_fashion)


def test_a_file_that_cannot_be_opened_is_named(small_fashion: Any) -> None:
    small_fashion.put_packed()
    (small_fashion.raw / "train-images-idx3-ubyte").mkdir()
    with pytest.raises(DataError, match="train-images-idx3-ubyte: Is a directory"):
        read(small_fashion)


def test_a_file_without_end_is_named(small_fashion: Any) -> None:
    small_fashion.put_packed()
    (small_fashion.raw / IMAGES).unlink()
    (small_fashion.raw / IMAGES).symlink_to("/dev/zero")
    with pytest.raises(DataError, match=f"cannot read .*{IMAGES}: it is no regular file"):
        read(small_fashion)


def test_what_is_missing_is_fetched_for_both_splits(
    small_fashion: Any,
    serve: Callable[[dict[str, bytes]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(small_fashion.packed)
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    expected = [gzip.decompress(small_fashion.packed[name]) for name in (IMAGES, LABELS)]
    assert read(small_fashion) == expected
    assert sorted(server.got) == sorted(small_fashion.packed)
    assert read(small_fashion) == expected
    assert len(read(small_fashion, train=False)) == 2
    assert len(server.got) == 4  # from disk from now on


def test_a_damaged_archive_is_fetched_again_and_nothing_else(
    small_fashion: Any,
    serve: Callable[[dict[str, bytes]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_fashion.put_packed()
    expected = read(small_fashion)
    truncate(small_fashion.raw / IMAGES)
    server = serve(small_fashion.packed)
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    assert read(small_fashion) == expected
    assert server.got == [IMAGES]
    assert (small_fashion.raw / IMAGES).read_bytes() == small_fashion.packed[IMAGES]


def test_the_next_mirror_is_tried(
    small_fashion: Any,
    serve: Callable[[dict[str, bytes]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(small_fashion.packed)
    monkeypatch.setattr(FashionMNIST, "mirrors", [*FashionMNIST.mirrors, server.url])
    assert len(read(small_fashion)) == 2


def test_test_files_that_are_not_to_be_had_do_not_hinder_training(
    small_fashion: Any,
    serve: Callable[[dict[str, bytes]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve({name: small_fashion.packed[name] for name in (IMAGES, LABELS)})
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    assert len(read(small_fashion)) == 2
    with pytest.raises(DataError, match=r"put t10k-images-idx3-ubyte\.gz, t10k-labels"):
        read(small_fashion, train=False)


def test_something_else_under_the_address_is_refused_and_removed(
    small_fashion: Any,
    serve: Callable[[dict[str, bytes]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(dict.fromkeys(small_fashion.packed, b"<html>Please log in</html>"))
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    with pytest.raises(DataError, match="sent something else than the published train-images"):
        read(small_fashion)
    assert [path.name for path in small_fashion.data_dir.rglob("*") if path.is_file()] == [".lock"]


def test_a_directory_that_cannot_be_written_is_named(
    small_fashion: Any,
    serve: Callable[[dict[str, bytes]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(small_fashion.packed)
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    small_fashion.data_dir.write_text("a file where a directory is wanted")
    with pytest.raises(DataError, match=f"cannot write to {small_fashion.data_dir}"):
        read(small_fashion)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_directory_with_good_files_is_as_good_as_another(small_fashion: Any) -> None:
    small_fashion.put_packed()
    for folder in (small_fashion.raw, small_fashion.raw.parent, small_fashion.data_dir):
        folder.chmod(0o555)
    assert len(read(small_fashion)) == 2
