"""A large folder of pictures is decoded once, by one process, and again after it has changed."""

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from data.datasets import load_training
from data.folders import cache, folder
from data.folders.held_out import keep, record_path, record_test
from tests.data.pets import colour, draw, fill, load, make_pets, save


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures in each decoding call; small folders are cached, too."""
    found, read = [], folder.read_pictures
    monkeypatch.setattr(cache, "WORTH", 1)

    def count(paths: list[Path], *rest: object) -> object:
        found.append(len(paths))
        return read(paths, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(folder, "read_pictures", count)
    return found


@pytest.mark.parametrize("drawn", [True, False])
def test_a_second_start_decodes_nothing_and_gives_the_same_data(
    tmp_path: Path, decoded: list[int], drawn: bool
) -> None:
    """Even while another process holds the cache's lock."""
    root = make_pets(tmp_path / "pets")
    save(root / "train/cat/coloured.png", colour(7, 9, 5))
    if not drawn:
        make_pets(root, "test")
    info, training, test = load(root)
    assert decoded
    decoded.clear()
    locks = [FileLock(path) for path in (tmp_path / "data/pictures").glob("*.lock")]
    assert locks
    with ThreadPoolExecutor() as pool, ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        again, training_again, test_again = pool.submit(load, root).result(timeout=20)
    assert decoded == []
    assert again == info
    assert info.test_is_drawn == drawn
    assert again.test_digests
    for old, new in ((training, training_again), (test, test_again)):
        assert torch.equal(new.images_NCHW, old.images_NCHW)
        assert torch.equal(new.labels_N, old.labels_N)


def exchange(root: Path) -> None:
    """Replaces a file but keeps its size and time, as some copy programs do."""
    path = root / "train/cat/0.png"
    facts, picture = path.stat(), path.with_name("new.png")
    draw(picture, 2000)
    with path.open("r+b") as file:
        file.write(picture.read_bytes().ljust(facts.st_size, b"\0")[: facts.st_size])
    picture.unlink()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_mtime_ns == facts.st_mtime_ns


def damage(root: Path) -> None:
    for path in (root.parent / "data/pictures").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-100])


def relabel(root: Path) -> None:
    (root / "train/cat/1.png").rename(root / "train/dog/x.png")


@pytest.mark.parametrize("change", [exchange, damage, relabel])
def test_after_a_change_pictures_are_decoded_again(
    tmp_path: Path, decoded: list[int], change: Callable[[Path], object]
) -> None:
    root = make_pets(tmp_path / "pets")
    load(root)
    change(root)
    decoded.clear()
    info, training, test = load(root)
    assert decoded
    (root.parent / "data/pictures").rename(tmp_path / "away")
    fresh = load(root)
    assert info == fresh[0]
    assert torch.equal(training.images_NCHW, fresh[1].images_NCHW)
    assert torch.equal(test.images_NCHW, fresh[2].images_NCHW)


def test_the_choice_of_test_pictures_counts_but_not_when_it_became_final(
    tmp_path: Path, decoded: list[int]
) -> None:
    root, data_dir = make_pets(tmp_path / "pets"), tmp_path / "data"
    drawn = load(root)[0].test_digests
    record_test(root, drawn, data_dir)
    decoded.clear()
    assert load(root)[0].test_digests == drawn
    assert decoded == []
    for seed in range(3000, 3050):
        draw(root / f"train/cat/{seed}.png", seed)
    assert load(root)[0].test_digests == drawn
    record_path(root, data_dir).unlink()
    info, _, test = load(root)
    assert len(info.test_digests) == len(test) > len(drawn)
    keep(root, drawn, data_dir)
    assert load(root)[0].test_digests == drawn


@pytest.mark.parametrize("drawn", [True, False])
def test_pictures_added_while_a_folder_is_decoded_are_in_the_next_reading(
    tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch, drawn: bool
) -> None:
    root = make_pets(tmp_path / "pets", *(["train"] if drawn else ["train", "test"]))
    read = folder.read_pictures

    def add(*given: object) -> object:
        if not (root / "train/cat/late.png").exists():
            draw(root / "train/cat/late.png", 3000)
        return read(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(folder, "read_pictures", add)
        info, _ = load_training(f"folder:{root}", tmp_path / "data")
    if drawn:
        record_test(root, info.test_digests, tmp_path / "data")
    assert load(root)[0].training_count == info.training_count + 1
    decoded.clear()
    load(root)
    assert decoded == []


def test_only_the_classes_count_where_a_study_has_its_files_beside_them(
    tmp_path: Path, decoded: list[int]
) -> None:
    (make_pets(tmp_path / "all") / "train").rename(tmp_path / "pets")
    root = tmp_path / "pets"
    load(root)
    (root / "studies.db").write_bytes(b"SQLite")
    save(root / "runs/pets/figures/curves.png", colour(1))
    (root / "runs/pets/study.json").write_text("{}")
    save(root / ".thumbnails/0.png", colour(2))
    for change, fresh in (
        (lambda: None, False),
        (lambda: fill(root / "fox", 3000), True),
        (lambda: shutil.rmtree(root / "fox"), True),
    ):
        change()
        decoded.clear()
        load(root)
        assert bool(decoded) == fresh


def test_small_folders_are_not_cached_and_an_unwritable_cache_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_pets(tmp_path / "pets", "train", "test")
    load(root)
    assert not (tmp_path / "data/pictures").exists()
    monkeypatch.setattr(cache, "WORTH", 1)
    (tmp_path / "data").write_text("no folder")
    assert len(load(root)[1]) == 32


def test_what_nobody_has_used_for_a_month_goes(tmp_path: Path, decoded: list[int]) -> None:
    pets, moved = make_pets(tmp_path / "pets"), tmp_path / "moved"
    load(pets)
    pictures = tmp_path / "data/pictures"
    before = set(pictures.glob("*.npz"))
    assert before

    def wait_a_month() -> None:
        for path in pictures.glob("*.npz"):
            os.utime(path, (ago := time.time() - cache.UNUSED - 60, ago))

    wait_a_month()
    load(pets)  # this counts as use
    load(make_pets(tmp_path / "others"))
    assert before < set(pictures.glob("*.npz"))
    wait_a_month()
    shutil.move(pets, moved)
    load(moved)
    assert not before & set(pictures.glob("*.npz"))
    assert decoded


def test_readers_that_start_together_decode_once(tmp_path: Path, decoded: list[int]) -> None:
    root = make_pets(tmp_path / "pets", "train", "test")
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: load_training(f"folder:{root}", tmp_path / "data"), "ab"))
    assert len(decoded) == 1
    assert torch.equal(both[0][1].images_NCHW, both[1][1].images_NCHW)
    assert not list((tmp_path / "data/pictures").glob("*.partial"))
