"""What in a folder is a picture, by its name and its first bytes, and what is skipped.

A file is taken for a picture if it is called like one or begins like one: what then cannot be read
is a fault to be told. Everything else that people, cameras and systems leave there is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import features

from data.listing import listed

# Pillow knows more, among them EPS, for which it runs an interpreter on the file.
FORMATS: tuple[str, ...] = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
if features.check("avif"):
    FORMATS += ("AVIF",)

_ENDINGS = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"),
    *(".pbm", ".pfm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff"),
)
# Most of them begin as a TIFF does, of which Pillow would take the thumbnail.
_RAW = dict.fromkeys(
    (
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef"),
        *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"),
        *(".srf", ".srw", ".x3f"),
    ),
    "camera raw",
)
_FOREIGN = _RAW | {
    ".dcm": "DICOM",
    ".exr": "OpenEXR",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".ico": "ICO",
    ".j2k": "JPEG 2000",
    ".jp2": "JPEG 2000",
    ".jxl": "JPEG XL",
    ".psd": "Photoshop",
    ".svg": "SVG",
    ".tga": "Targa",
}
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_FOREIGN_BEGINNINGS = (
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"v/1\x01", "OpenEXR"),
    (b"\0\0\1\0", "ICO"),
    (b"%!PS", "EPS"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
)
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_HEAD = 32  # bytes of a file that tell its format
# Of macOS, Synology, QNAP, Windows and Linux; hidden ones are left out anyway.
_SYSTEM_FOLDERS = frozenset(
    {"__macosx", "network trash folder", "temporary items"}
    | {"@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"}
    | {"$recycle.bin", "recycler", "recycled", "system volume information", "found.000"}
    | {"lost+found"}
)


@dataclass(kw_only=True, slots=True)
class LeftOut:
    """What was left out: paths, in the order in which they were met.

    strays: pictures that lie beside the classes' folders and not in them.
    """

    files: list[Path] = field(default_factory=list)
    strays: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def in_words(self, most: int = 5) -> str | None:
        """`skipped 3 files that are no pictures (a, b, c) and ...`; None: nothing was."""
        parts = []
        for paths, one, what in (
            (self.files, "file", "that are no pictures"),
            (self.strays, "picture", "outside the classes' folders"),
            (self.folders, "folder", "of the system"),
        ):
            if paths:
                names = listed(sorted({path.name for path in paths}), most)
                kind = one if len(paths) == 1 else f"{one}s"
                what = what if len(paths) > 1 else what.replace("are no pictures", "is no picture")
                parts.append(f"{len(paths)} {kind} {what} ({names})")
        return f"skipped {' and '.join(parts)}" if parts else None


def is_system_folder(name: str) -> bool:
    """Hidden, or made by a system for itself."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def is_picture(path: Path) -> bool:
    """Whether the file is meant to be a picture, readable or not. A missing one is by its name."""
    if path.name.startswith("."):
        return False  # ._photo.jpg is macOS's note on photo.jpg
    if path.suffix.lower() in _ENDINGS or path.suffix.lower() in _FOREIGN:
        return True
    head = _head(path)
    return _is_ours(head) or _foreign(head) in ("HEIC", "AVIF")


def foreign_format(path: Path) -> str | None:
    """The format of a picture that is not read here; None for ours and for what is none."""
    head, ending = _head(path), path.suffix.lower()
    if _is_ours(head) and not (ending in _RAW and head.startswith((b"II*\0", b"MM\0*"))):
        return None
    return _foreign(head) or _FOREIGN.get(ending)


def is_ours(path: Path) -> bool:
    """Whether the file begins as one of FORMATS does, whatever it is called."""
    return _is_ours(_head(path))


def pictures_below(folder: Path, skipped: LeftOut) -> Iterator[Path]:
    """The pictures in `folder` and in all folders below it, sorted; links to folders not followed.

    Raises OSError for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        skipped.folders += [Path(place, name) for name in folders if is_system_folder(name)]
        folders[:] = sorted(name for name in folders if not is_system_folder(name))
        yield from keep_pictures([Path(place, name) for name in sorted(files)], skipped)


def keep_pictures(paths: Sequence[Path], skipped: LeftOut) -> Iterator[Path]:
    for path in paths:
        if is_picture(path):
            yield path
        else:
            skipped.files.append(path)


def _head(path: Path) -> bytes:
    """The file's first bytes; empty of one that cannot be read, or is a pipe that would block."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _is_ours(head: bytes) -> bool:
    if head.startswith(_BEGINNINGS):
        return True
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF" in FORMATS
    if head.startswith(b"BM"):
        return head[14:18] in (bytes([size, 0, 0, 0]) for size in (12, 40, 52, 56, 64, 108, 124))
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _foreign(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIC" if brand in _HEIC else None
    return next((name for start, name in _FOREIGN_BEGINNINGS if head.startswith(start)), None)
