"""What in a folder is a picture, by its name and its first bytes; what is skipped, and what wrong.

A file is taken for a picture if it is called like one or begins like one: if it then cannot be
read, that is a fault to be told. Everything else that people, cameras and systems leave there is
skipped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, features

from data.errors import DataError, listed, shown

# Pillow knows more, among them EPS, for which it runs an interpreter on the file.
FORMATS: tuple[str, ...] = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
if features.check("avif"):
    FORMATS += ("AVIF",)

_OURS = "apng avif bmp dib gif jfif jpe jpeg jpg pbm pfm pgm png pnm ppm tif tiff webp"  # endings
# Most camera raws begin as a TIFF does, of which Pillow would take the thumbnail.
_FOREIGN = (
    "dcm exr heic heif ico jp2 jxl psd svg tga 3fr arw cr2 cr3 crw dcr dng erf iiq kdc mef mos mrw "
    "nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
)
_REMEDY = f"put a whole picture of {', '.join(FORMATS)} in its place, or delete it"
# Of macOS, Synology, QNAP, Windows and Linux; hidden ones are skipped anyway.
_SYSTEM_FOLDERS = (
    "__macosx,network trash folder,temporary items,@eadir,@tmp,#recycle,#snapshot,@recycle,"
    "@recently-snapshot,$recycle.bin,recycler,recycled,system volume information,found.000,"
    "lost+found"
)


def is_system_folder(name: str) -> bool:
    """Hidden, or made by a system for itself."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS.split(",")


def is_picture(path: Path) -> bool:
    """Whether the file is meant to be a picture, readable or not. A missing one is by its name."""
    if path.name.startswith("."):
        return False  # ._photo.jpg is macOS's note on photo.jpg
    if _ending(path) in f"{_OURS} {_FOREIGN}".split():
        return True
    with contextlib.suppress(Exception):  # of many kinds, for what only begins like a picture
        if path.is_file():  # no pipe, which would block
            with path.open("rb") as file, Image.open(file, formats=FORMATS):
                return True
    return False


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
        self.path, self.why = path, why


def refuse_faults(errors: Sequence[DataError]) -> None:
    """One error for all of them, if there are any: paths by what is wrong, the first 20 of each."""
    by_reason: dict[str, list[Path]] = {}
    for error in errors:
        if not isinstance(error, PictureError):
            raise error
        by_reason.setdefault(error.why, []).append(error.path)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        told = [f"{len(paths)} that {why} ({listed(paths)})" for why, paths in by_reason.items()]
        raise DataError(f"files {' and '.join(told)}; {_REMEDY}") from errors[0]
