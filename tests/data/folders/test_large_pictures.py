"""Pictures of many pixels: memory that is bounded, and the same images as of small ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.folders import pictures
from data.folders.pictures import channels_of, read_grey, read_picture, read_pictures
from data.folders.preparation import Preparation

PADDED = Preparation(fit="pad", integers=(0, 65535))
MEASURE = """
import resource, sys
from pathlib import Path
from data.folders.pictures import channels_of, read_pictures
from data.folders.survey import prepare
from data.folders.preparation import Preparation, Reading
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, paths = most(), [Path(path) for path in sys.argv[1:]]
prepare(Path(), sys.argv[1:], Reading())
images = read_pictures(paths, (channels_of(paths, 32), 32, 32), Preparation(fit="pad"))
print(most() - before, int(images.float().mean()))
"""


def test_a_bomb_of_16_bits_takes_no_float_copy(tmp_path: Path) -> None:
    """3.4 GB of float64 as it was read once, for each of up to eight threads."""
    levels = np.zeros((9400, 9400), dtype=np.uint16)
    levels[:4700] = 65535
    Image.fromarray(levels).save(tmp_path / "0.png", compress_level=1)
    (tmp_path / "1.png").symlink_to(tmp_path / "0.png")
    del levels
    paths = [str(tmp_path / f"{index}.png") for index in range(2)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    megabytes, mean = map(float, done.stdout.split())
    assert megabytes < 500  # one picture is 177 MB as it is decoded
    assert mean == pytest.approx(127, abs=1)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_strips_give_what_the_whole_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int
) -> None:
    waves = np.sin(np.indices((700, 900)) / 90).sum(0) * 60 + 128
    if mode == "I;16":
        picture = Image.fromarray((waves * 257).astype(np.uint16))
    else:
        picture = Image.fromarray(
            np.stack([waves, waves.T[:700, :700].mean() + 0 * waves, 255 - waves], 2).astype("u1")
        )
        picture = picture.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.tif", exif=exif)
    channels = 3 if mode in ("RGB", "RGBA", "P", "CMYK") else 1
    shape, path = (channels, 20, 20), tmp_path / "a.tif"
    whole, grey = read_picture(path, shape, PADDED), read_grey(path, 20)
    monkeypatch.setattr(pictures, "LARGE", 1000)
    monkeypatch.setattr("data.folders.levels.STRIP_PIXELS", 9000)
    strips = read_picture(path, shape, PADDED)
    assert (whole.int() - strips.int()).abs().max() <= 3
    assert abs(read_grey(path, 20) - grey).max() <= 6 / 255
    assert channels_of([path], 20) == channels


def test_several_large_ones_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{level}.png" for level in range(20)]
    for level, path in enumerate(paths):
        Image.new("L", (64, 64), level).save(path)
    monkeypatch.setattr(pictures, "LARGE", 100)
    images_NCHW = read_pictures(paths, (1, 4, 4))
    assert images_NCHW[:, 0, 0, 0].tolist() == list(range(20))


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
@pytest.mark.parametrize("orientation", [1, 8])
def test_large_jpegs_shrink_while_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, orientation: int
) -> None:
    y, x = np.indices((1000, 2000))
    values = np.stack([x / 2000, y / 1000, (x + y) / 3000], 2) * 255
    picture = Image.fromarray(values.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"save_all": True, "append_images": [picture]} if kind == "MPO" else {}
    picture.save(tmp_path / "a.jpg", kind, quality=95, exif=exif, **more)
    sizes = []
    flat = pictures._flat

    def spy(image: Image.Image, *args: object, **named: object) -> Image.Image:
        sizes.append(image.size)
        return flat(image, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "_flat", spy)
    image = read_picture(tmp_path / "a.jpg", (3, 32, 32), PADDED)
    assert sizes == [(250, 125)]
    sizes.clear()
    assert channels_of([tmp_path / "a.jpg"], 32) == 3
    assert sizes == [(250, 125)]
    upright = picture if orientation == 1 else picture.transpose(Image.Transpose.ROTATE_90)
    upright.save(tmp_path / "whole.png")
    reference = read_picture(tmp_path / "whole.png", (3, 32, 32), PADDED)
    assert (image.int() - reference.int()).abs().float().mean() < 2


def test_a_jpeg_over_the_limit_is_read_if_it_decodes_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (400, 400), 77).save(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    image = read_picture(tmp_path / "a.jpg", (1, 16, 16))
    assert torch.all((image.int() - 77).abs() <= 1)
