"""Arbitrary pictures and archives are read, or refused in one line, in bounded memory.

Hypothesis makes up a few examples per run; `pytest --hypothesis-profile=long` on this file searches
for some minutes. Whatever it has found is kept as an explicit example.
"""

import io
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from data.datasets import load_test, load_training
from data.errors import DataError
from data.folders.composition import Composition, read_alike
from data.folders.preparation import Preparation
from tests.hostile import bounded_memory, edited, refused_in_a_line

COMPOSED = Composition(on_dark=True, ground=0, level=1, size=20 / 28)


@pytest.fixture(autouse=True, scope="module")
def _bounded() -> Iterator[None]:
    with bounded_memory(2**31):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


# Pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)


def saved(picture: Any, kind: str, **options: Any) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return kind, buffer.getvalue()


TURNED = Image.Exif()
TURNED[0x0112] = 6
PICTURES = [
    *(saved(PIXELS, kind) for kind in ("png", "jpeg", "tiff", "webp", "bmp", "gif", "ppm")),
    saved(PIXELS, "tiff", compression="tiff_lzw"),
    saved(PIXELS, "tiff", compression="jpeg"),
    saved(PIXELS[..., 0], "png"),
    saved(PIXELS[..., 0].astype(np.uint16) * 257, "png"),
    saved(PIXELS[..., 0].astype(np.float32), "tiff"),
    saved(PIXELS, "jpeg", progressive=True, exif=TURNED),
]  # fmt: skip
FLOATS = st.floats(width=32, allow_subnormal=False)  # torch may flush subnormals to 0


@given(st.sampled_from(PICTURES).flatmap(lambda it: st.tuples(st.just(it[0]), edited(it[1]))))
@example(saved(np.full((4, 4), 1e20, np.float32), "tiff"))
@example(saved(np.full((4, 4), np.inf, np.float32), "tiff"))
@example(saved(np.array([[-3e38, 3e38]], np.float32), "tiff"))
@example(saved(np.array([[0, 1e-45]], np.float32), "tiff"))
@example(saved(np.full((4, 4), -(2**31), np.int32), "tiff"))
def test_pictures(folder: Path, picture: tuple[str, bytes]) -> None:
    kind, content = picture
    path = folder / f"a.{kind}"
    path.write_bytes(content)
    of_files, of_arrays = Preparation(fit="pad"), Preparation()
    for shape, *how in (((3, 8, 8), None, of_files), ((1, 28, 28), COMPOSED, of_arrays)):
        with refused_in_a_line(DataError):
            read_alike(path, shape, *how)


@given(st.lists(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)),
                              elements=FLOATS), min_size=8, max_size=8))  # fmt: skip
@example([np.full((2, 2), 1e20, np.float32)] * 8)
@example([np.full((2, 2), np.nan, np.float32)] * 8)
@example([np.array([[0, 1e-45]], np.float32)] * 8)
def test_folders_of_any_levels(folder: Path, levels: list[Any]) -> None:
    root = folder / "pictures"
    shutil.rmtree(root, ignore_errors=True)
    for index, level in enumerate(levels):
        path = root / "ab"[index % 2] / f"{index}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(level).save(path)
    with refused_in_a_line(DataError):
        load_training(f"folder:{root}", folder / "raw")
        load_test(f"folder:{root}", folder / "raw")


# Archives


def archive(**changes: Any) -> bytes:
    labels = np.arange(12) % 3
    images = np.zeros((12, 4, 5), np.uint8)
    parts = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    buffer = io.BytesIO()
    np.savez(buffer, **{**parts, **changes})
    return buffer.getvalue()


NUMBERS = st.one_of(
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?"),
    st.sampled_from([np.dtype(it) for it in ("U3", "S2", "c8", "M8[s]", "g")]),
)
SHAPES = st.one_of(
    arrays.array_shapes(min_dims=0, max_dims=4, max_side=4),
    st.sampled_from([(12,), (12, 1), (12, 4, 5), (12, 4, 5, 3), (12, 4, 5, 1), (3,)]),
)
CHANGES = st.dictionaries(
    st.sampled_from(
        ["x_train", "y_train", "x_test", "y_test", "x_val", "y_val", "class_names", "x"]
    ),
    NUMBERS.flatmap(lambda dtype: arrays.arrays(
        dtype, SHAPES, elements=arrays.from_dtype(dtype, allow_subnormal=False))),
    min_size=1, max_size=2,
)  # fmt: skip


@given(st.one_of(CHANGES.map(lambda changes: archive(**changes)), edited(archive())))
@example(archive(x_train=np.full((12, 4, 5), 1e20)))
@example(archive(x_train=np.full((12, 4, 5), 2**62)))
@example(archive(x_train=np.full((12, 4, 5), np.longdouble("1e400"))))
@example(archive(y_train=np.array([2**40] * 12)))
@example(archive().replace(b"\x0b\x00\x14\x00x_train", b"\xff\xff\x14\x00x_train", 1))
def test_archives(folder: Path, content: bytes) -> None:
    path = folder / "mine.npz"
    path.write_bytes(content)
    for load in (load_training, load_test):
        with refused_in_a_line(DataError):
            load(f"npz:{path}", folder)


def test_a_large_16_bit_picture_takes_few_bytes_per_pixel(tmp_path: Path) -> None:
    """60 kB on disk, 5 000 x 5 000 pixels: in double precision it took 38 bytes for each."""
    path = tmp_path / "a.png"
    Image.fromarray(np.full((5000, 5000), 900, np.uint16)).save(path, compress_level=9)
    assert path.stat().st_size < 100_000
    with bounded_memory(2**29), warnings.catch_warnings():
        image, _ = read_alike(path, (1, 28, 28), None, Preparation(levels=(0, 4095)))
    assert image.float().mean() == pytest.approx(56, abs=1)
