"""Pictures of every mode that Pillow saves, against values worked out by hand from the samples."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from data.folders.files import FORMATS
from data.folders.pictures import channels_of, read_picture
from data.folders.preparation import Preparation

Array = NDArray[np.float64]
SIDE, BLOCK = 24, 8  # blocks of one colour: JPEG, too, keeps them
MODES = (
    *("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA"),
    *("RGBX", "RGBa", "La", "I;16", "I;16L", "I;16B", "I;16N"),
)
LOSSLESS = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
}
LEVELS = Preparation(integers=(0, 4095), reals=(-1, 3))


def blocks(low: float, high: float, bands: int, seed: int = 0) -> Array:
    """H x W x bands, whole numbers from low to high, one for each block and band."""
    random = np.random.default_rng(seed)
    count = SIDE // BLOCK
    values = np.rint(random.uniform(low, high, (count, count, bands)))
    return np.kron(values, np.ones((BLOCK, BLOCK, 1)))


def on_white(colours: Array, opacity: Array) -> Array:
    return colours * opacity / 255 + 255 - opacity


def ycbcr(y: Array, blue: Array, red: Array) -> Array:
    """ITU-R BT.601, as in JFIF."""
    blue, red = blue - 128, red - 128
    return np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], 2)


def lab(values: Array) -> Array:
    """CIE 1976 L*a*b* of D50 to sRGB (Bradford's adaptation is in the matrix)."""
    lightness, a, b = np.moveaxis(values, 2, 0)
    y = (lightness / 255 * 100 + 16) / 116
    xyz = np.stack([y + (a - 128) / 500, y, y - (b - 128) / 200], 2)
    xyz = np.where(xyz > 6 / 29, xyz**3, 3 * (6 / 29) ** 2 * (xyz - 4 / 29))
    xyz *= [0.9642, 1, 0.8249]
    matrix = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    linear = (xyz @ np.transpose(matrix)).clip(0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def made(mode: str) -> tuple[Image.Image, Array]:
    """A picture of that mode, and what it is to look like: H x W x 1 or 3, 0 to 255."""
    size = (SIDE, SIDE)

    def of(values: Array, kind: str = "u1") -> Image.Image:
        return Image.frombytes(mode, size, values.astype(kind).tobytes())

    grey, colours, opacity = blocks(0, 255, 1), blocks(0, 255, 3), blocks(0, 255, 1, seed=1)
    deep = blocks(0, 4095, 1)
    match mode:
        case "1":
            dots = blocks(0, 1, 1)
            return Image.fromarray(dots[:, :, 0] > 0), 255 * dots
        case "L":
            return of(grey), grey
        case "LA" | "La":
            return of(np.dstack([grey, opacity])), on_white(grey, opacity)
        case "RGB":
            return of(colours), colours
        case "RGBX":
            return of(np.dstack([colours, opacity])), colours
        case "RGBA" | "RGBa":
            return of(np.dstack([colours, opacity])), on_white(colours, opacity)
        case "CMYK":
            black = blocks(0, 200, 1, seed=2)
            inks = np.dstack([colours, black])
            return of(inks), (255 - colours) * (255 - black) / 255
        case "YCbCr":
            values = np.dstack([blocks(60, 200, 1), blocks(110, 145, 2, seed=2)])
            return of(values), ycbcr(*np.moveaxis(values, 2, 0))
        case "LAB":
            values = np.dstack([blocks(80, 200, 1), blocks(118, 138, 2, seed=2)])
            return of((values + np.array([0, 128, 128])) % 256), lab(values)  # a, b are signed
        case "HSV":
            return of(colours), colours
        case "P" | "PA":
            palette = np.random.default_rng(3).integers(0, 256, (256, 3))
            index = blocks(0, 255, 1)
            shown = palette[index[:, :, 0].astype(int)].astype(float)
            bands = index if mode == "P" else np.dstack([index, opacity])
            picture = of(bands)
            picture.putpalette(palette.astype("u1").tobytes())
            return picture, shown if mode == "P" else on_white(shown, opacity)
        case "I":
            return of(deep, "i4"), deep / 4095 * 255
        case "F":
            reals = blocks(-8, 24, 1) / 8
            return of(reals, "f4"), (reals + 1) / 4 * 255
    return of(deep, ">u2" if mode == "I;16B" else "<u2"), deep / 4095 * 255


def saved(mode: str, kind: str) -> bytes | None:
    """The file, None where the format does not take the mode as it is."""
    stream = io.BytesIO()
    try:
        made(mode)[0].save(stream, kind, **LOSSLESS.get(kind, {}))
    except (OSError, KeyError, ValueError):
        return None
    with Image.open(io.BytesIO(stream.getvalue())) as again:
        kept = again.mode == mode or (mode in ("L", "1") and kind == "GIF")
        return stream.getvalue() if kept or {again.mode, mode} <= {"I;16", "I;16L"} else None


def pairs() -> list[tuple[str, str]]:
    return [(mode, kind) for mode in MODES for kind in FORMATS if saved(mode, kind)]


@pytest.mark.parametrize(("mode", "kind"), pairs())
def test_a_picture_of_each_mode_is_read_as_worked_out_by_hand(
    tmp_path: Path, mode: str, kind: str
) -> None:
    path = tmp_path / "picture"
    content, expected = saved(mode, kind), made(mode)[1]
    assert content is not None
    path.write_bytes(content)
    channels = expected.shape[2]
    image_CHW = read_picture(path, (channels, SIDE, SIDE), LEVELS).numpy().astype(float)
    bound = 6 if kind in ("JPEG", "AVIF") or mode == "LAB" else 2 if mode == "YCbCr" else 1
    assert abs(image_CHW.transpose(1, 2, 0) - expected).max() <= bound
    assert channels_of([path]) == channels


def test_no_mode_was_left_out() -> None:
    found = {mode for mode, _ in pairs()}
    # Of these there are no files: Pillow knows them for work in memory alone.
    assert set(MODES) - found <= {"HSV", "RGBX", "RGBa", "La", "I;16N", "I;16L"}
    assert {kind for _, kind in pairs()} == set(FORMATS)
