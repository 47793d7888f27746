"""Reads image files of any origin as arrays of one shape, or refuses them with a reason.

A file that is named like a picture but cannot be read is reported as a fault. Everything else that
users, cameras and systems leave in a folder is skipped.

Shapes: N images, C channels (1 grey, 3 RGB), H x W pixels.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from data.errors import DataError, listed, shown
from data.folders.preparation import Fit, Preparation, Range, common_range, extent, scale

# Pillow supports more, including EPS, for which it runs an interpreter on the file.
FORMATS: tuple[str, ...] = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
if features.check("avif"):
    FORMATS += ("AVIF",)

_OURS = "apng avif bmp dib gif jfif jpe jpeg jpg pbm pfm pgm png pnm ppm tif tiff webp"  # suffixes
_FOREIGN = "heic heif jp2 jxl psd svg tga dcm exr arw cr2 cr3 dng nef orf raf rw2"
_FOREIGN_FORMAT = "is a format that is not supported"
_HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftypheim", b"ftyphevc")
_TIFF = (b"II*\0", b"MM\0*")
_USABLE = f"({', '.join(FORMATS)}; convert other formats to PNG or JPEG)"
_REMEDY = f"; replace it with an intact picture {_USABLE}, or delete it"
_REMEDY_OF_SEVERAL = f"; replace them with intact pictures {_USABLE}, or delete them"
# Created by macOS, Synology, QNAP, Windows and Linux; hidden ones are skipped anyway.
_SYSTEM_FOLDERS = (
    "__macosx,@eadir,@tmp,#recycle,#snapshot,@recycle,@recently-snapshot,$recycle.bin,recycler,"
    "system volume information,lost+found"
)
UPPER_BITS = "16 bits per colour: only the upper 8 are used"
_AS_IT_IS = Preparation()
_Result = TypeVar("_Result")
# Silences Pillow's warnings about odd metadata; those that matter are errors here.
HUSHED = partial(warnings.catch_warnings, action="ignore")


def is_system_folder(name: str) -> bool:
    """Whether a folder is hidden, or made by a system for its own use."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS.split(",")


def is_picture(path: Path) -> bool:
    """Whether the file's name says that it is a picture, readable or not."""
    if path.name.startswith("."):  # ._photo.jpg is macOS's note on photo.jpg
        return False
    return path.suffix.lower()[1:] in f"{_OURS} {_FOREIGN}".split()


def pictures_below(folder: Path, skipped: list[Path]) -> Iterator[Path]:
    """The pictures in `folder` and all folders below it, sorted; does not follow folder links.

    Adds everything else to `skipped`. Raises OSError for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        left = [it for it in folders if is_system_folder(it) or Path(place, it).is_symlink()]
        skipped += [Path(place, name) for name in left]
        folders[:] = [name for name in folders if name not in left]
        for path in (Path(place, name) for name in sorted(files)):
            if is_picture(path):
                yield path
            else:
                skipped.append(path)


def read_pictures(
    paths: Sequence[Path],
    image_shape: tuple[int, int, int],
    preparation: Preparation = _AS_IT_IS,
) -> NDArray[np.uint8]:
    """The image files as uint8 NHWC of `image_shape` (C, H, W), in the given order.

    Turned upright by their EXIF tags, transparent parts white, more than 8 bits scaled to 8, then
    resized (antialiased) as `preparation` says. If that is of arrays, a pixel of a shrunk picture
    is the mean over its area, so that an enlarged training image becomes the original again. Colour
    profiles are not applied. Raises one DataError for all faults, which names the first 20.
    """
    channels, height, width = image_shape
    pictures_NHWC = np.empty((len(paths), height, width, channels), dtype=np.uint8)

    def read_into(index: int, path: Path) -> None:
        with decoded(path, (width, height), preparation.fit) as image:
            flat = flattened(image, preparation, "L" if channels == 1 else "RGB")
            small = _fitted(flat, (width, height), preparation)
        pictures_NHWC[index] = np.asarray(small).reshape(height, width, channels)

    errors = [error for error in each(read_into, paths) if error is not None]
    told = [str(error) for error in errors]
    faults = [one.removesuffix(_REMEDY) for one in told if one.endswith(_REMEDY)]
    if len(faults) > 1:
        raise DataError(f"{len(faults)} files: {listed(faults)}{_REMEDY_OF_SEVERAL}") from errors[0]
    if errors:
        raise errors[0]
    return pictures_NHWC


def each(work: Callable[[int, Path], _Result], paths: Sequence[Path]) -> list[_Result | DataError]:
    """What `work` returns for each index and path, or the DataError that it raises."""

    def attempt(index: int) -> _Result | DataError:
        try:
            return work(index, paths[index])
        except DataError as error:
            return error

    # Pillow decodes without the GIL; for small files, threads wait for it longer than they decode.
    large = any(path.is_file() and path.stat().st_size >= 20_000 for path in paths[:1])
    with HUSHED(), ThreadPoolExecutor(4) as pool:
        return list((pool.map if large else map)(attempt, range(len(paths))))


def channels_of(paths: Sequence[Path], side: int) -> int:
    """1 if every picture is grey, by its mode or in all its pixels; else 3.

    `side`: pixels per side at which they will be read. Unreadable pictures count as grey.
    """
    with HUSHED():
        return 1 if all(_is_grey(path, (side, side)) for path in paths) else 3


def _is_grey(path: Path, box: tuple[int, int]) -> bool:
    try:
        with opened(path) as image:
            if image.mode in ("1", "L", "LA") or is_deep(image):
                return True
        with decoded(path, box, "pad") as image:
            pixels_HWC = np.asarray(flattened(image, _AS_IT_IS, "RGB"))
            return bool((pixels_HWC == pixels_HWC[:, :, :1]).all())
    except DataError:
        return True


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow holds its samples in more than 8 bits: only grey pictures."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def is_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Whether it has 16 bits per colour, of which Pillow keeps the upper 8; call before loading."""
    return not is_deep(image) and any(";16" in str(tile[3]) for tile in image.tile)


def samples(image: Image.Image) -> NDArray[np.generic]:
    """The levels of a deep picture. Pillow represents unsigned 32-bit levels as signed."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # a TIFF's; 258: bits, 339: sample format
    is_unsigned = (tags.get(258), tags.get(339, (1,))) == ((32,), (1,))
    return values.view(np.uint32) if is_unsigned and image.mode == "I" else values


def levels_of(values: NDArray[np.generic], preparation: Preparation) -> Range:
    """The levels for a deep picture of these samples: the common ones if they fit, or its own.

    Those of training pictures fit all pictures. Those of training arrays may be in another unit, so
    they fit only a picture within them, and fractions (floats from 0 to 1) only if they are, too.
    """
    common, is_whole = preparation.levels, values.dtype.kind != "f"
    if common is not None and not preparation.of_arrays:
        return common
    low, high = own = extent(values)
    if common is not None:
        (black, white), in_fractions = common, not is_whole and 0 <= low <= high <= 1
        if black <= low and high <= white and (white <= 1 or not in_fractions):
            return common
    return common_range([own], integers=is_whole) or (0, 1)


def flattened(
    image: Image.Image, preparation: Preparation, mode: Literal["L", "RGB"]
) -> Image.Image:
    """The decoded picture in that mode, white where it is transparent."""
    if is_deep(image):
        values = samples(image)
        image = Image.fromarray(scale(values, levels_of(values, preparation)))
    elif image.has_transparency_data:
        below = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")
    return image.convert(mode)


@contextmanager
def decoded(path: Path, box: tuple[int, int], fit: Fit) -> Iterator[ImageFile.ImageFile]:
    """The picture, upright; JPEGs at reduced size, but at least twice what fits in `box`."""
    with opened(path) as image:
        width, height = box if fit == "stretch" else inside(image.size, box)
        if image.mode == "LAB":
            raise _unfit(path, "is in Lab colours, which are not supported")
        image.draft(None, (2 * width, 2 * height))
        limit, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
        if limit is not None and pixels > limit:
            raise Image.DecompressionBombError  # Pillow itself only warns up to twice as many
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        yield image


def inside(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) with the proportions of `size` that fits in `box`."""
    scale = min(box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _fitted(picture: Image.Image, box: tuple[int, int], preparation: Preparation) -> Image.Image:
    """`picture`, in mode L or RGB, fitted to the size of `box`."""
    size = box if preparation.fit == "stretch" else inside(picture.size, box)
    by_mean = preparation.of_arrays and picture.width >= size[0] and picture.height >= size[1]
    small = picture.resize(size, Image.Resampling.BOX if by_mean else Image.Resampling.BILINEAR)
    if size == box:
        return small
    levels_HWC = np.asarray(small).reshape(size[1], size[0], -1)
    edges = [levels_HWC[0], levels_HWC[-1], levels_HWC[:, 0], levels_HWC[:, -1]]
    ground = np.median(np.concatenate(edges), axis=0).astype(np.uint8)
    whole = Image.new(small.mode, box, tuple(map(int, ground)))
    whole.paste(small, ((box[0] - size[0]) // 2, (box[1] - size[1]) // 2))
    return whole


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The picture at `path`, not decoded; any error inside the `with` becomes a DataError."""
    if not path.is_file():
        raise DataError(f"there is no picture file {shown(path)}; check the path")
    if (ending := path.suffix.lower()[1:]) in _FOREIGN.split():
        raise _unfit(path, f"cannot be read: {ending.upper()} {_FOREIGN_FORMAT}")
    try:
        # Given a path, Pillow would map the file into memory and garble TIFFs stored sideways.
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except PermissionError as error:
        raise _unfit(path, "cannot be read: permission denied") from error
    except Image.DecompressionBombError as error:
        why = f"has more than the {Image.MAX_IMAGE_PIXELS} pixels that are safe to decode"
        raise _unfit(path, why) from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        with path.open("rb") as file:
            start = file.read(12)
        why = " as a picture"
        if start[4:] in _HEIC:  # phones and mail programs call it .jpg
            why = f": it is HEIC, which {_FOREIGN_FORMAT}"
        elif isinstance(error, UnidentifiedImageError) and start.startswith(_TIFF):
            why = ": it is damaged, or a kind of TIFF that is not supported, such as 64 bits"
        raise _unfit(path, f"cannot be read{why}") from error


def _unfit(path: Path, why: str) -> DataError:
    return DataError(f"{shown(path)} {why}{_REMEDY}")
