"""Pictures of more than 8 bits: one scale for all of a data set, found in it, kept and told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.datasets import load_test, load_training
from data.errors import DataError
from data.folders.levels import common_range
from data.folders.pictures import read_picture
from data.folders.preparation import FIRST, Preparation
from data.folders.recompose import read_alike


def save(path: Path, levels_HW: object, kind: str, **how: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(levels_HW, dtype=kind)).save(path, **how)


def folder_of(root: Path, top: float, kind: str, ending: str) -> Path:
    """Two classes of ramps, from 0 to shares of `top`; the test pictures reach half of it."""
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    for name in ("a", "b"):
        for index in range(4):
            share = 1 if name == "b" and index == 3 else 0.25
            save(root / f"train/{name}/{index}.{ending}", top * share * ramp, kind)
        save(root / f"test/{name}/0.{ending}", top / 2 * ramp, kind)
    return root


@pytest.mark.parametrize(
    ("top", "kind", "ending", "levels"),
    [
        (4095, "uint16", "png", (0, 4095)),
        (65535, "uint16", "tif", (0, 65535)),
        (250, "uint16", "png", (0, 255)),
        (1, "float32", "tiff", (0, 1)),
        (255, "float32", "tiff", (0, 255)),
        (7.5, "float32", "tiff", (0, 7.5)),
        (2**30 - 1, "int32", "tiff", (0, 2**30 - 1)),
    ],
)
def test_one_scale_serves_training_test_and_prediction(
    tmp_path: Path, top: float, kind: str, ending: str, levels: tuple[float, float]
) -> None:
    root = folder_of(tmp_path / "scans", top, kind, ending)
    info, training = load_training(f"folder:{root}", tmp_path)
    test = load_test(f"folder:{root}", tmp_path)
    used = info.preparation.reals if kind == "float32" else info.preparation.integers
    assert used == pytest.approx(levels)
    white = 255 * top / levels[1]
    brightest = training.images_NCHW.flatten(1).amax(1).tolist()
    assert brightest == pytest.approx([white / 4] * 7 + [white], abs=1)
    assert test.images_NCHW.flatten(1).amax(1).tolist() == pytest.approx([white / 2] * 2, abs=1)
    alone, notes = read_alike(root / f"test/a/0.{ending}", (1, 8, 8), None, info.preparation)
    assert np.array_equal(alone.numpy(), test.images_NCHW[0].numpy())
    assert any("levels 0 to" in note for note in info.notes)
    assert any("levels 0 to" in note and "own" not in note for note in notes)
    assert Preparation.from_dict(info.preparation.to_dict()) == info.preparation


def test_a_picture_without_a_common_scale_has_its_own_and_says_so(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.linspace(0, 4095, 64).reshape(8, 8), "uint16")
    image, notes = read_alike(tmp_path / "a.png", (1, 8, 8), None)
    assert (image.min(), image.max()) == (0, 255)
    assert "levels 0 to 4095 made 0 to 255, its own range" in notes


@pytest.mark.parametrize(
    ("extents", "integers", "expected"),
    [
        ([], True, None),
        ([(0, 4000), (7, 90)], True, (0, 4095)),
        ([(27_000, 31_000)], True, (27_000, 31_000)),  # a thermal camera
        ([(-500, 1500)], True, (-500, 1500)),  # Hounsfield units
        ([(0, 0)], True, (0, 1)),
        ([(5, 5)], True, (5, 6)),
        ([(0.1, 0.9)], False, (0, 1)),
        ([(0, 0.3)], False, (0, 0.3)),
        ([(0, 200)], False, (0, 255)),
        ([(-1, 1)], False, (-1, 1)),
        ([(0, 1e9)], False, (0, 1e9)),
    ],
)
def test_levels_that_are_there_decide(
    extents: list[tuple[float, float]], integers: bool, expected: tuple[float, float] | None
) -> None:
    assert common_range(extents, integers=integers) == expected


def test_what_a_tiff_declares_is_believed_unless_it_is_all_that_fits(tmp_path: Path) -> None:
    levels = np.linspace(0, 1000, 64).reshape(8, 8)
    save(tmp_path / "said.tif", levels, "uint16", tiffinfo={281: 2000})
    save(tmp_path / "default.tif", levels, "uint16", tiffinfo={281: 65535})
    save(tmp_path / "white.tif", levels, "uint16", tiffinfo={262: 0, 281: 1000})
    for name, brightest in (("said", 125), ("default", 249)):
        image = read_picture(tmp_path / f"{name}.tif", (1, 8, 8))
        assert int(image.max()) == pytest.approx(brightest, abs=1)
        assert int(image[0, 0, 0]) == 0
    image = read_picture(tmp_path / "white.tif", (1, 8, 8))
    assert (int(image[0, 0, 0]), int(image[0, 7, 7])) == (255, 6)  # white is zero


def test_levels_that_are_no_numbers_are_black(tmp_path: Path) -> None:
    levels = np.array([[np.nan, 0.0], [1.0, 0.5]])
    save(tmp_path / "a.tif", levels, "float32")
    assert read_picture(tmp_path / "a.tif", (1, 2, 2)).tolist() == [[[0, 0], [255, 128]]]


def test_transparent_16_bit_grey_is_white(tmp_path: Path) -> None:
    save(tmp_path / "a.png", [[0, 300], [65535, 300]], "uint16", transparency=300)
    assert read_picture(tmp_path / "a.png", (1, 2, 2)).tolist() == [[[0, 255], [255, 255]]]


def test_networks_of_before_the_choice_see_what_they_saw(tmp_path: Path) -> None:
    save(tmp_path / "a.png", [[0, 4095], [65535, 257]], "uint16")
    assert read_picture(tmp_path / "a.png", (1, 2, 2), FIRST).tolist() == [[[0, 16], [255, 1]]]


def png_of_16_bit_colours(path: Path, top: int) -> None:
    """Which Pillow reads and does not write."""
    import struct
    import zlib

    levels = np.random.default_rng(0).integers(0, top + 1, (8, 8, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(body)) + kind + body
        content += struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(content)


def test_colours_that_use_a_few_of_16_bits_are_refused(tmp_path: Path) -> None:
    for top, root in ((65535, tmp_path / "full"), (4095, tmp_path / "few")):
        for name in ("a", "b"):
            for index in range(4):
                png_of_16_bit_colours(root / f"train/{name}/{index}.png", top)
    info, training = load_training(f"folder:{tmp_path / 'full'}", tmp_path / "data")
    assert info.image_shape == (3, 8, 8)
    assert int(training.images_NCHW.max()) > 250
    with pytest.raises(DataError, match=r"use 12 of these only .* convert them to 8 bits"):
        load_training(f"folder:{tmp_path / 'few'}", tmp_path / "data")
