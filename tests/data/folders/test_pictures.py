import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.errors import DataError
from data.folders.pictures import channels_of, read_picture, read_pictures

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def pixels(path: Path, channels: int, height: int, width: int) -> list[list[int]]:
    """By row and column, the values of all channels in a row."""
    image_CHW = read_picture(path, (channels, height, width))
    assert image_CHW.dtype == torch.uint8
    assert image_CHW.shape == (channels, height, width)
    return image_CHW.permute(1, 2, 0).flatten(1).tolist()


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for shape in ((5, 7), (5, 7, 3)):
        values = random.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "a.png")
        channels = 1 if len(shape) == 2 else 3
        image_CHW = read_picture(tmp_path / "a.png", (channels, 5, 7))
        assert np.array_equal(image_CHW.permute(1, 2, 0).numpy().reshape(shape), values)


def test_many_are_read_in_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{level}.png" for level in range(40)]
    for level, path in enumerate(paths):
        Image.new("L", (4, 4), level).save(path)
    images_NCHW = read_pictures(paths, (1, 4, 4))
    assert images_NCHW[:, 0, 0, 0].tolist() == list(range(40))
    assert images_NCHW.is_contiguous()


def test_a_large_picture_is_averaged_not_sampled(tmp_path: Path) -> None:
    checks = np.indices((400, 400)).sum(0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "a.png")
    assert all(120 <= v <= 135 for row in pixels(tmp_path / "a.png", 1, 8, 8) for v in row)


def test_a_large_jpeg_decoded_small_looks_like_one_decoded_whole(tmp_path: Path) -> None:
    y, x = np.indices((900, 1200))
    values = np.stack([x / 1200, y / 900, (x + y) / 2100], 2) * 255
    picture = Image.fromarray(values.astype(np.uint8))
    picture.save(tmp_path / "a.jpg", quality=95)
    small = read_picture(tmp_path / "a.jpg", (3, 32, 32)).permute(1, 2, 0).numpy().astype(int)
    reference = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert abs(small - reference).max() <= 3


def test_a_small_jpeg_loses_nothing_that_is_asked_for(tmp_path: Path) -> None:
    checks = np.kron(np.indices((6, 6)).sum(0) % 2 * 255, np.ones((8, 8)))
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    small = read_picture(tmp_path / "a.jpg", (1, 48, 48))[0].numpy().astype(int)
    assert abs(small - checks).max() <= 10


def test_the_exif_tag_turns_a_picture_upright(tmp_path: Path) -> None:
    picture = Image.new("L", (2, 2), 0)
    picture.putpixel((0, 0), 255)  # top left as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right of the stored picture
    picture.save(tmp_path / "a.png", exif=exif)
    assert pixels(tmp_path / "a.png", 1, 2, 2) == [[0, 255], [0, 0]]


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (255, 0, 0, 255))
    picture.save(tmp_path / "rgba.png")
    assert pixels(tmp_path / "rgba.png", 3, 1, 2) == [[*WHITE, *RED]]
    picture.convert("LA").save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png", 1, 1, 2)[0] == [255, 76]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([*BLACK, *RED])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    assert pixels(tmp_path / "p.png", 3, 1, 2) == [[*WHITE, *RED]]


def test_sixteen_bits_become_eight_by_scaling(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert pixels(tmp_path / name, 1, 1, 4) == [[0, 1, 128, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_other_modes_are_read(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.new("RGB", (3, 3), WHITE).convert(mode).save(path)
    for channels in (1, 3):
        assert min(min(row) for row in pixels(path, channels, 3, 3)) >= 254


def test_pictures_are_grey_where_all_are(tmp_path: Path) -> None:
    grey, grey_as_rgb, colour = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    Image.new("L", (3, 3), 7).save(grey)
    Image.new("RGB", (3, 3), (7, 7, 7)).save(grey_as_rgb)
    picture = Image.new("RGB", (3, 3), (7, 7, 7))
    picture.putpixel((2, 2), (7, 7, 8))
    picture.save(colour)
    assert channels_of([grey, grey_as_rgb]) == 1
    assert channels_of([grey, grey_as_rgb, colour]) == 3
    assert pixels(grey_as_rgb, 1, 3, 3) == [[7] * 3] * 3


def truncated_png() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "PNG")
    return stream.getvalue()[:-500]


def truncated_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG")
    return stream.getvalue()[:-500]


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def icon() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (16, 16)).save(stream, "ICO")
    return stream.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a picture"),
        (b"just text", "cannot be read as a picture"),
        (truncated_png(), "cannot be read as a picture"),
        (truncated_jpeg(), "cannot be read as a picture"),
        (EPS, "cannot be read as a picture"),
        (icon(), "cannot be read as a picture"),  # whole, but no format of ours
        (png_of_size(10_000, 10_000), "pixels that are safe"),  # Pillow only warns of this one
        (png_of_size(60_000, 60_000), "pixels that are safe"),
    ],
    ids=["empty", "text", "truncated png", "truncated jpeg", "eps", "ico", "large", "bomb"],
)
def test_what_is_no_whole_picture_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_picture(path, (1, 8, 8))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.png", "."])
def test_what_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="there is no picture file"):
        read_picture(tmp_path / name, (1, 8, 8))
