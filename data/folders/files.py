"""What in a folder is a picture, by its name; what is skipped, and what is wrong with one.

What is called like a picture and cannot be read is a fault to be told. Everything else that people,
cameras and systems leave there is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import features

from data.errors import DataError, listed, shown

# Pillow knows more, among them EPS, for which it runs an interpreter on the file.
FORMATS: tuple[str, ...] = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
if features.check("avif"):
    FORMATS += ("AVIF",)

_OURS = "apng avif bmp dib gif jfif jpe jpeg jpg pbm pfm pgm png pnm ppm tif tiff webp"  # endings
_FOREIGN = "heic heif jp2 jxl psd svg tga dcm exr arw cr2 cr3 dng nef orf raf rw2"
_REMEDY = f"put a whole picture of {', '.join(FORMATS)} in its place, or delete it"
# Of macOS, Synology, QNAP, Windows and Linux; hidden ones are skipped anyway.
_SYSTEM_FOLDERS = (
    "__macosx,@eadir,@tmp,#recycle,#snapshot,@recycle,@recently-snapshot,$recycle.bin,recycler,"
    "system volume information,lost+found"
)


def is_system_folder(name: str) -> bool:
    """Hidden, or made by a system for itself."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS.split(",")


def is_picture(path: Path) -> bool:
    """Whether the file is meant to be a picture, readable or not."""
    # ._photo.jpg is macOS's note on photo.jpg
    return _ending(path) in f"{_OURS} {_FOREIGN}".split() and not path.name.startswith(".")


def foreign_format(path: Path) -> str | None:
    """The format of a picture that is not read here, by its name; None for others."""
    return _ending(path).upper() if _ending(path) in _FOREIGN.split() else None


def pictures_below(folder: Path, skipped: list[Path]) -> Iterator[Path]:
    """The pictures in `folder` and in all folders below it, sorted; links to folders not followed.

    What is no picture is added to `skipped`. Raises OSError for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        skipped += [Path(place, name) for name in folders if is_system_folder(name)]
        folders[:] = sorted(name for name in folders if not is_system_folder(name))
        for path in (Path(place, name) for name in sorted(files)):
            if is_picture(path):
                yield path
            else:
                skipped.append(path)


def _ending(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


class PictureError(DataError):
    """A single file that is no usable picture, and why: `a.png` `is empty`."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{shown(path)} {why}; {_REMEDY}")
        self.fault = f"{path} {why}"


def refuse_faults(errors: Sequence[DataError]) -> None:
    """One error for all of them, if there are any; the first 20 by name."""
    faults = [error.fault for error in errors if isinstance(error, PictureError)]
    if len(faults) > 1 and len(faults) == len(errors):
        raise DataError(f"{len(faults)} files: {listed(faults)}; {_REMEDY}") from errors[0]
    for error in errors:
        raise error
