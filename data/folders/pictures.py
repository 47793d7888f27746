"""Image files of any origin as tensors of one shape, or refused with a reason.

Shapes: N images, C channels (1 grey, 3 RGB), H x W pixels.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from data.errors import DataError, shown
from data.folders.files import FORMATS, PictureError, foreign_format, refuse_faults
from data.folders.levels import is_deep, range_for, to_8_bits, words
from data.folders.preparation import Fit, Preparation

LARGE = 16_000_000  # pixels after decoding, from where one picture is taken at a time
_ROOM = 4  # how much larger than asked for a large picture is left when its pixels are averaged
_AS_IT_IS = Preparation()
_large_one = threading.Lock()
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def read_picture(
    path: Path, image_shape: tuple[int, int, int], preparation: Preparation = _AS_IT_IS
) -> Tensor:
    """The image file at `path` as uint8 CHW of `image_shape`, prepared as a folder's images are.

    Turned upright by its EXIF tag, transparent parts white, more than 8 bits scaled to 8 (see
    `data.folders.levels`), resized to H x W (antialiased) as `preparation` says. Colour profiles
    are not applied. Raises DataError.
    """
    return read_pictures([path], image_shape, preparation)[0]


def read_pictures(
    paths: Sequence[Path],
    image_shape: tuple[int, int, int],
    preparation: Preparation = _AS_IT_IS,
) -> Tensor:
    """As `read_picture` for each of `paths`: uint8 NCHW, in their order; all faults in one."""
    channels, height, width = image_shape
    pictures_NHWC = np.empty((len(paths), height, width, channels), dtype=np.uint8)

    def read_into(index: int) -> None:
        with loaded(paths[index], (width, height), preparation.fit) as picture:
            flat = picture.flat(preparation, "L" if channels == 1 else "RGB")
            small = _fitted(flat, (width, height), preparation.fit)
        pictures_NHWC[index] = np.asarray(small).reshape(height, width, channels)

    refuse_faults([fault for fault in each(read_into, range(len(paths))) if fault is not None])
    return torch.from_numpy(pictures_NHWC).permute(0, 3, 1, 2).contiguous()


def check_pictures(paths: Sequence[Path]) -> None:
    """Raises DataError for those that cannot be decoded, all at once."""

    def decode(path: Path) -> None:
        with loaded(path, (1, 1), "pad"):
            pass

    refuse_faults([fault for fault in each(decode, paths) if fault is not None])


def each(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result | DataError]:
    """What `work` gives for each item, or the DataError that it raises; several at a time."""

    def attempt(item: _Item) -> _Result | DataError:
        try:
            return work(item)
        except DataError as error:
            return error

    # Pillow decodes and resizes without holding the interpreter's lock.
    with hushed(), ThreadPoolExecutor(8) as pool:
        return list(pool.map(attempt, items))


def read_grey(path: Path, longest: int, preparation: Preparation) -> NDArray[np.float32]:
    """The image file as grey levels (H, W) in [0, 1], its longer side at most `longest` pixels.

    Its proportions stay, else prepared as by `read_picture`. Raises DataError.
    """
    with hushed(), loaded(path, (longest, longest), "pad") as picture:
        grey = picture.flat(preparation, "L")
        if max(grey.size) > longest:
            grey = grey.resize(_inside(grey.size, (longest, longest)), Image.Resampling.BOX)
        levels_HW: NDArray[np.float32] = np.asarray(grey, dtype=np.float32) / np.float32(255)
        return levels_HW


def about(path: Path, preparation: Preparation) -> tuple[int, int, list[str]]:
    """(width, height, what is to be said of the image file). Raises DataError."""
    with hushed(), opened(path) as image:
        notes = ["first of its frames"] if getattr(image, "n_frames", 1) > 1 else []
        if is_deep(image):
            notes.append(f"levels {words(range_for(image, preparation))} made 0 to 255")
        return image.width, image.height, notes


def channels_of(paths: Sequence[Path], size: int | None = None) -> int:
    """1 where every picture is grey, in its mode or in all its pixels; else 3.

    `size`: side in pixels that they will be read in, from which JPEGs are decoded smaller. Those
    that cannot be read count as grey.
    """
    with hushed():
        return 1 if all(_is_grey(path, size) for path in paths) else 3


def _is_grey(path: Path, size: int | None) -> bool:
    try:
        with opened(path) as image:
            if image.mode in ("1", "L", "LA") or is_deep(image):
                return True
        with loaded(path, None if size is None else (size, size), "pad") as (image, _):
            pixels_HWC = np.asarray(Loaded(image, 1).flat(_AS_IT_IS, "RGB"))
            return bool((pixels_HWC == pixels_HWC[:, :, :1]).all())
    except DataError:
        return True


class Loaded(NamedTuple):
    """A picture in memory, upright; factor: by how much it may be shrunk by averaging pixels."""

    image: Image.Image
    factor: int

    def flat(self, preparation: Preparation, mode: Literal["L", "RGB"]) -> Image.Image:
        """In that mode, white where it is transparent."""
        flat = image = self.image
        if is_deep(image):
            flat = to_8_bits(image, range_for(image, preparation))
        elif image.has_transparency_data:
            below = Image.new("RGBA", image.size, "white")
            flat = Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")
        flat = flat.convert(mode)
        return flat.reduce(self.factor) if self.factor > 1 else flat


@contextmanager
def loaded(path: Path, box: tuple[int, int] | None, fit: Fit) -> Iterator[Loaded]:
    """The picture, JPEGs decoded at a fraction of their size but at least twice what `box` takes.

    One that is large all the same is the only large one in memory while it is open.
    """
    with opened(path) as image:
        if box is not None and image.format in ("JPEG", "MPO"):
            width, height = _wanted(image, box, fit)
            image.draft(None, (2 * width, 2 * height))
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise Image.DecompressionBombError  # Pillow itself only warns up to twice as many
        large = image.width * image.height > LARGE
        with _large_one if large else nullcontext():
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            factor = 1
            if large and box is not None:
                width, height = _wanted(image, box, fit)
                factor = max(1, min(image.width // width, image.height // height) // _ROOM)
            yield Loaded(image, factor)


def _wanted(image: Image.Image, box: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """(width, height) in pixels that the picture, as it is stored, will have in `box`."""
    if image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8):  # lies on its side
        box = box[::-1]
    return box if fit == "stretch" else _inside(image.size, box)


def _inside(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) with the proportions of `size` in `box`."""
    scale = min(box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _fitted(picture: Image.Image, box: tuple[int, int], fit: Fit) -> Image.Image:
    """`picture`, in mode L or RGB, as one of the size of `box`."""
    size = box if fit == "stretch" else _inside(picture.size, box)
    small = picture.resize(size, Image.Resampling.BILINEAR)
    if size == box:
        return small
    levels_HWC = np.asarray(small).reshape(size[1], size[0], -1)
    edges = [levels_HWC[0], levels_HWC[-1], levels_HWC[:, 0], levels_HWC[:, -1]]
    ground = np.median(np.concatenate(edges), axis=0).astype(np.uint8)
    whole = Image.new(small.mode, box, tuple(map(int, ground)))
    whole.paste(small, ((box[0] - size[0]) // 2, (box[1] - size[1]) // 2))
    return whole


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture at `path`, not decoded; what goes wrong with it inside becomes a DataError."""
    if not path.is_file():
        what = "there is no picture file" if not path.is_symlink() else "a link to nothing:"
        raise DataError(f"{what} {shown(path)}; check the path")
    if foreign := foreign_format(path):
        raise PictureError(path, f"cannot be read: {foreign} is a format that is not supported")
    try:
        # By its path, Pillow would map it into memory, and garble TIFFs that lie on their side.
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except PermissionError as error:
        reason = f"cannot read {shown(path)} ({error.strerror}); check its permissions"
        raise DataError(reason) from error
    except Image.DecompressionBombError as error:
        why = f"has more than the {Image.MAX_IMAGE_PIXELS} pixels that are safe to decode"
        raise PictureError(path, why) from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise PictureError(path, "cannot be read as a picture") from error


@contextmanager
def hushed() -> Iterator[None]:
    """Without Pillow's warnings of odd metadata; what matters in them is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
