"""Picture files of all modes, sizes and orientations, against values worked out by hand."""

import struct
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from data.datasets import load_test, load_training
from data.errors import DataError
from data.folders.composition import read_alike
from data.folders.pictures import channels_of, read_pictures
from data.folders.preparation import FIRST, Preparation, common_range
from tests.data.pets import save

PADDED = Preparation(fit="pad", levels=(0, 65535))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "I;16"])
@pytest.mark.parametrize("kind", ["tif", "png", "jpg", "webp", "bmp", "gif"])
def test_a_picture_of_the_right_size_is_taken_as_it_is(
    tmp_path: Path, mode: str, kind: str
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    deep = Image.fromarray(values[:, :, 0].astype(np.uint16) * 257)
    picture = deep if mode == "I;16" else Image.fromarray(values).convert(mode)
    path = tmp_path / f"a.{kind}"
    try:
        picture.save(path)
    except (OSError, ValueError):
        pytest.skip("the format does not take the mode")
    with Image.open(path) as again:
        is_deep = again.mode.startswith("I")
        expected = values[:, :, :1] if is_deep else np.asarray(again.convert("RGB"))
    channels = expected.shape[2]
    image_HWC = read_pictures([path], (channels, 24, 24), PADDED)[0]
    assert abs(image_HWC.astype(int) - expected).max() <= 1
    assert channels_of([path], 24) == (1 if (expected == expected[:, :, :1]).all() else 3)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_every_exif_orientation_is_turned_upright(tmp_path: Path, ending: str) -> None:
    corners = [(0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (0, 1), (1, 1), (1, 0)]
    for orientation, (row, column) in enumerate(corners, start=1):
        picture = Image.new("L", (120, 60), 0)
        picture.paste(255, (0, 0, 40, 20))
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(tmp_path / f"a.{ending}", picture, exif=exif)
        shape = (1, 12, 24) if orientation < 5 else (1, 24, 12)
        image_HW = torch.from_numpy(read_pictures([tmp_path / f"a.{ending}"], shape)[0, :, :, 0])
        assert image_HW.chunk(2, 0)[row].chunk(2, 1)[column].float().mean() > 100, orientation
        assert image_HW.float().mean() < 40


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (255, 0, 0, 255))
    picture.save(tmp_path / "rgba.png")
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    pictures_NHWC = read_pictures([tmp_path / "rgba.png", tmp_path / "p.png"], (3, 1, 2))
    assert (pictures_NHWC == [[255, 255, 255], [255, 0, 0]]).all()


def test_padding_keeps_proportions_and_takes_the_border_colour(
    tmp_path: Path,
) -> None:
    Image.new("RGB", (17, 3), (10, 200, 30)).save(tmp_path / "a.png")
    assert (read_pictures([tmp_path / "a.png"], (3, 20, 20), PADDED) == [10, 200, 30]).all()
    picture = Image.new("L", (80, 40), 255)
    picture.paste(0, (30, 10, 50, 30))
    picture.save(tmp_path / "a.png")
    image, notes = read_alike(tmp_path / "a.png", (1, 40, 40), None, PADDED)
    dark = (image[0] < 128).nonzero()
    assert (dark.amin(0).tolist(), dark.amax(0).tolist()) == ([15, 15], [24, 24])
    assert "padded at its sides" in notes


@pytest.mark.parametrize(
    ("extents", "integers", "expected"),
    [
        ([], True, None),
        ([(0, 4000), (7, 90)], True, (0, 4095)),
        ([(27_000, 31_000)], True, (27_000, 31_000)),  # a thermal camera
        ([(-500, 1500)], True, (-500, 1500)),  # Hounsfield units
        ([(0.1, 0.9)], False, (0, 1)),
        ([(0, 0.3)], False, (0, 0.3)),
        ([(0, 200)], False, (0, 255)),
    ],
)
def test_the_levels_present_decide_the_range(
    extents: list[tuple[float, float]], integers: bool, expected: tuple[float, float] | None
) -> None:
    assert common_range(extents, integers=integers) == expected


@pytest.mark.parametrize(("top", "kind", "ending"), [(4095, "u2", "png"), (1.0, "f4", "tif")])
def test_one_scale_is_found_in_training_used_for_test_and_reported(
    tmp_path: Path, top: float, kind: str, ending: str
) -> None:
    levels = np.linspace(0, top, 64).reshape(8, 8)
    for (part, share), name, index in product((("train", 1.0), ("test", 0.25)), "ab", range(3)):
        picture = Image.fromarray((levels * share).astype(kind))
        save(tmp_path / f"p/{part}/{name}/{index}.{ending}", picture)
    info, training = load_training(f"folder:{tmp_path / 'p'}", tmp_path)
    test = load_test(f"folder:{tmp_path / 'p'}", tmp_path)
    assert int(training.images_NCHW.max()) == 255
    assert int(test.images_NCHW.max()) == pytest.approx(64, abs=1)
    assert any(f"levels 0 to {top:g} made 0 to 255" in note for note in info.notes)
    assert Preparation.from_dict(asdict(info.preparation)) == info.preparation


@pytest.mark.parametrize(
    ("levels", "kind", "values", "used"),
    [
        ((0, 1), "u2", [0, 30_000, 65_535], (0, 65_535)),
        ((0, 255), "u2", [0, 900, 4000], (0, 4095)),
        ((0, 4095), "u2", [0, 100, 900], (0, 4095)),
        ((0, 65_535), "u2", [0, 100, 900], (0, 65_535)),
        ((0, 65_535), "f4", [0, 0.5, 1], (0, 1)),
        ((0, 255), "f4", [0, 0.5, 1], (0, 1)),
        ((0, 255), "f4", [0, 20, 100], (0, 255)),
        ((0, 1), "f4", [0, 0.1, 0.3], (0, 1)),
        ((-3, 4), "f4", [-1, 0.5, 1], (-3, 4)),
    ],
)
def test_levels_of_training_arrays_are_used_for_a_picture_that_they_fit(
    tmp_path: Path, levels: tuple[float, float], kind: str, values: list[float],
    used: tuple[float, float],
) -> None:  # fmt: skip
    path = tmp_path / ("a.tif" if kind == "f4" else "a.png")
    Image.fromarray(np.array([values], kind)).save(path)
    preparation = Preparation(levels=levels)
    assert Preparation.from_dict(asdict(preparation)) == preparation
    image, notes = read_alike(path, (1, 1, 3), None, preparation)
    black, white = used
    expected = np.rint((np.array(values) - black) * 255 / (white - black))
    assert image[0, 0].numpy() == pytest.approx(expected, abs=1)
    assert notes == [f"levels {black:.6g} to {white:.6g} made 0 to 255"]


def tiff(path: Path, values: NDArray[Any]) -> None:
    """Uncompressed, unsigned, with the array's bit depth; Pillow cannot write such files."""
    height, width, channels = values.shape
    bits, rows = 8 * values.itemsize, values.tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 2 if channels > 1 else 1)]
    tags += [(273, 8), (277, channels), (278, height), (279, len(rows)), (339, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start + rows + struct.pack("<H", len(tags)) + entries + bytes(4))


@pytest.mark.parametrize(
    ("top", "said"),
    [(65535, "only the upper 8 are used"), (4095, "6 pictures .* lower 12 .* would come out dark")],
)
def test_colours_of_16_bits_are_taken_as_declared_or_refused(
    tmp_path: Path, top: int, said: str
) -> None:
    levels = np.linspace(0, top, 192).reshape(8, 8, 3).astype("<u2")
    for part, name, index in product(("train", "test"), "ab", range(3)):
        tiff(tmp_path / f"p/{part}/{name}/{index}.tif", levels)
    if top < 65535:
        with pytest.raises(DataError, match=said):
            load_training(f"folder:{tmp_path / 'p'}", tmp_path)
        return
    info, training = load_training(f"folder:{tmp_path / 'p'}", tmp_path)
    assert said in "".join(info.notes)
    assert np.array_equal(training.images_NCHW[0].permute(1, 2, 0), levels >> 8)
    picture = tmp_path / "p/test/a/0.tif"
    assert any(said in it for it in read_alike(picture, (3, 8, 8), None, info.preparation)[1])


def test_unsigned_levels_of_32_bits(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", np.array([[[0], [2**31]], [[2**32 - 1], [2**30]]], "<u4"))
    image_HW = read_pictures([tmp_path / "a.tif"], (1, 2, 2))[0, :, :, 0]
    assert image_HW.tolist() == [[0, 128], [255, 64]]


def test_preparations_of_earlier_versions_and_levels_that_are_nan(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 4095], [65535, 257]], np.uint16)).save(tmp_path / "a.png")
    image_HW = read_pictures([tmp_path / "a.png"], (1, 2, 2), FIRST)[0, :, :, 0]
    assert image_HW.tolist() == [[0, 16], [255, 1]]
    Image.fromarray(np.array([[np.nan, 0.0], [1.0, 0.5]], np.float32)).save(tmp_path / "a.tif")
    assert read_pictures([tmp_path / "a.tif"], (1, 2, 2)).flatten().tolist() == [0, 0, 255, 128]
    earlier = {"fit": "pad", "integers": [0, 4095], "reals": None}
    assert Preparation.from_dict(earlier) == Preparation(fit="pad", levels=(0, 4095))
    assert Preparation.from_dict({"fit": "stretch", "levels": [0, 65535]}) == FIRST
    assert Preparation.from_dict({"fit": "stretch", "levels": [0, 1]}).of_arrays
    assert Preparation.from_dict(asdict(FIRST)) == FIRST


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a picture"),
        (b"just text", "cannot be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n", "cannot be read as a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC, .* not supported"),  # but named .png
        (b"II*\0\x08\0\0\0\0\0\0\0", "it is damaged, or a kind of TIFF"),
        (None, "there is no picture file"),
    ],
)
def test_files_that_are_not_whole_pictures_are_named(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "a\nb.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_pictures([path], (1, 8, 8))
    assert r"a\nb.png" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content is None or "convert other formats to PNG or JPEG" in str(caught.value)


def test_only_faults_of_one_kind_are_combined(tmp_path: Path) -> None:
    (empty := tmp_path / "empty.png").touch()
    missing = [tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(DataError, match=r"^there is no picture file [^,]*a.png; check the path$"):
        read_pictures([*missing, empty], (1, 4, 4))
    with pytest.raises(DataError, match=r"^2 files: [^;]*, [^;]*; replace them with intact"):
        read_pictures([empty, missing[0], empty], (1, 4, 4))


def test_pictures_that_pillow_cannot_convert_or_should_not_decode_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("LAB", (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a.tif is in Lab colours, .* not supported; replace it"):
        read_pictures([tmp_path / "a.tif"], (3, 4, 4))
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for limit in (50, 20):  # Pillow itself refuses only above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=f"more than the {limit} pixels that are safe"):
            read_pictures([tmp_path / "a.png"], (1, 8, 8))
