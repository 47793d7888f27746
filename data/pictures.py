"""Image files of any origin as tensors of one shape, or refused with a reason.

Shapes: N images, C channels (1 grey, 3 RGB), H x W pixels.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from data.cores import available_cores
from data.examples import DataError

# Pillow knows more, among them EPS, for which it runs an interpreter on the file.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY_MODES = ("1", "L", "LA", "I", "F")  # and those of 16 bits, "I;16..."


def read_picture(path: Path, image_shape: tuple[int, int, int]) -> Tensor:
    """The image file at `path` as uint8 CHW of `image_shape`, prepared as a folder's images are.

    Turned upright by its EXIF tag, transparent parts white, 16-bit grey scaled to 8, the whole
    picture resized to H x W (antialiased; its proportions give way). Raises DataError.
    """
    return read_pictures([path], image_shape)[0]


def read_pictures(paths: Sequence[Path], image_shape: tuple[int, int, int]) -> Tensor:
    """As `read_picture` for each of `paths`: uint8 NCHW, in their order."""
    channels, height, width = image_shape
    pictures_NHWC = np.empty((len(paths), height, width, channels), dtype=np.uint8)

    def read_into(index: int) -> None:
        with _opened(paths[index]) as image:
            # A large JPEG is decoded at a fraction of its size, at least twice what is asked for.
            image.draft(None, (2 * width, 2 * height))
            upright = ImageOps.exif_transpose(image)
            plain = _plain(upright).convert("L" if channels == 1 else "RGB")
            small = plain.resize((width, height), Image.Resampling.BILINEAR)
        pictures_NHWC[index] = np.asarray(small).reshape(height, width, channels)

    # Pillow decodes and resizes without holding the interpreter's lock.
    with _hushed(), ThreadPoolExecutor(min(8, available_cores())) as pool:
        for _ in pool.map(read_into, range(len(paths))):
            pass
    return torch.from_numpy(pictures_NHWC).permute(0, 3, 1, 2).contiguous()


def read_grey(path: Path, longest: int) -> NDArray[np.float32]:
    """The image file as grey levels (H, W) in [0, 1], its longer side at most `longest` pixels.

    Its proportions stay, else prepared as by `read_picture`; but a drawing in white on nothing at
    all is shown on black. Raises DataError.
    """
    with _hushed(), _opened(path) as image:
        image.draft(None, (2 * longest, 2 * longest))
        upright = ImageOps.exif_transpose(image)
        grey = _plain(upright).convert("L")
        if upright.has_transparency_data and grey.getextrema() == (255, 255):
            grey = _plain(upright, ground="black").convert("L")
        if max(grey.size) > longest:
            sides = [max(1, round(side * longest / max(grey.size))) for side in grey.size]
            grey = grey.resize((sides[0], sides[1]), Image.Resampling.BOX)
        levels_HW: NDArray[np.float32] = np.asarray(grey, dtype=np.float32) / np.float32(255)
        return levels_HW


def about(path: Path) -> tuple[int, int, int]:
    """(width, height, number of frames) of the image file. Raises DataError."""
    with _hushed(), _opened(path) as image:
        return image.width, image.height, getattr(image, "n_frames", 1)


def channels_of(paths: Sequence[Path]) -> int:
    """1 where every picture is grey, in its mode or in all its pixels; else 3."""
    with _hushed():
        return 1 if all(_is_grey(path) for path in paths) else 3


def _is_grey(path: Path) -> bool:
    with _opened(path) as image:
        if image.mode in _GREY_MODES or image.mode.startswith("I;16"):
            return True
        red, green, blue = _plain(image).convert("RGB").split()
        return red.tobytes() == green.tobytes() == blue.tobytes()


def _plain(image: Image.Image, ground: str = "white") -> Image.Image:
    """`image` without transparency, laid on `ground`, and with 8 bits a channel."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        scaled = np.asarray(image, dtype=np.float64) * (255 / 65535)
        return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, ground)
        return Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")
    return image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture at `path`; whatever goes wrong with it inside becomes a DataError."""
    if not path.is_file():
        raise DataError(f"there is no picture file {path}; check the path")
    try:
        with Image.open(path, formats=FORMATS) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError  # Pillow itself only warns up to twice as many
            yield image
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path} has more than the {Image.MAX_IMAGE_PIXELS} pixels that are safe to decode; "
            "shrink it or take it away"
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError(
            f"{path} cannot be read as a picture; replace it by a whole one "
            f"({', '.join(FORMATS)}) or take it away"
        ) from error


@contextmanager
def _hushed() -> Iterator[None]:
    """Without Pillow's warnings of odd metadata; what matters in them is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
