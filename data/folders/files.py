"""What in a folder is a picture, by its name and its first bytes; what is skipped, and what wrong.

A file is taken for a picture if it is called like one or begins like one: if it then cannot be
read, that is a fault to be told. Everything else that people, cameras and systems leave there is
skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import features

from data.errors import DataError, listed, shown

# Pillow knows more, among them EPS, for which it runs an interpreter on the file.
FORMATS: tuple[str, ...] = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
if features.check("avif"):
    FORMATS += ("AVIF",)

_OURS = (
    ".apng .avif .bmp .dib .gif .jfif .jpe .jpeg .jpg .pbm .pfm .pgm .png .pnm .ppm .tif .tiff "
    ".webp"
)
# Most begin as a TIFF does, of which Pillow would take the thumbnail.
_RAW = (
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf "
    ".raw .rw2 .rwl .sr2 .srf .srw .x3f"
)
_ENDINGS, _CAMERA_RAW = frozenset(_OURS.split()), frozenset(_RAW.split())
_FOREIGN = dict.fromkeys(_CAMERA_RAW, "camera raw") | {
    ".dcm": "DICOM",
    ".exr": "OpenEXR",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".ico": "ICO",
    ".jp2": "JPEG 2000",
    ".jxl": "JPEG XL",
    ".psd": "Photoshop",
    ".svg": "SVG",
    ".tga": "Targa",
}
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
# Of macOS, Synology, QNAP, Windows and Linux; hidden ones are skipped anyway.
_SYSTEM = (
    "__macosx,network trash folder,temporary items,@eadir,@tmp,#recycle,#snapshot,@recycle,"
    "@recently-snapshot,$recycle.bin,recycler,recycled,system volume information,"
    "found.000,lost+found"
)
_SYSTEM_FOLDERS = frozenset(_SYSTEM.split(","))


@dataclass(kw_only=True, slots=True)
class LeftOut:
    """Paths that were skipped. strays: pictures that lie beside the classes' folders."""

    files: list[Path] = field(default_factory=list)
    strays: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def in_words(self, most: int = 5) -> str | None:
        """`skipped 3 files that are no pictures (a, b, c) and ...`; None: nothing was."""
        parts = []
        for paths, one, several in (
            (self.files, "file that is no picture", "files that are no pictures"),
            (
                self.strays,
                "picture outside the classes' folders",
                "pictures outside the classes' folders",
            ),
            (self.folders, "folder of the system", "folders of the system"),
        ):
            if paths:
                names = listed(sorted({path.name for path in paths}), most)
                parts.append(f"{len(paths)} {one if len(paths) == 1 else several} ({names})")
        return f"skipped {' and '.join(parts)}" if parts else None


def is_system_folder(name: str) -> bool:
    """Hidden, or made by a system for itself."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def is_picture(path: Path) -> bool:
    """Whether the file is meant to be a picture, readable or not. A missing one is by its name."""
    if path.name.startswith("."):
        return False  # ._photo.jpg is macOS's note on photo.jpg
    ending = path.suffix.lower()
    return ending in _ENDINGS or ending in _FOREIGN or _format_of(_head(path)) is not None


def foreign_format(path: Path) -> str | None:
    """The format of a picture that is not read here; None for ours and for what is none."""
    head, ending = _head(path), path.suffix.lower()
    found = _format_of(head)
    if found == "ours" and not (ending in _CAMERA_RAW and head.startswith((b"II*\0", b"MM\0*"))):
        return None
    return found if found == "HEIC" or found == "AVIF" else _FOREIGN.get(ending)


def pictures_below(folder: Path, skipped: LeftOut) -> Iterator[Path]:
    """The pictures in `folder` and in all folders below it, sorted; links to folders not followed.

    Raises OSError for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        skipped.folders += [Path(place, name) for name in folders if is_system_folder(name)]
        folders[:] = sorted(name for name in folders if not is_system_folder(name))
        for path in (Path(place, name) for name in sorted(files)):
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
            return file.read(32)
    except OSError:
        return b""


def _format_of(head: bytes) -> str | None:
    """ "ours" for one of FORMATS, the name of another that cameras give wrong endings, or None."""
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "ours" if "AVIF" in FORMATS else "AVIF"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "HEIC"
    is_bmp = head.startswith(b"BM") and head[14:18] in (
        bytes([size, 0, 0, 0]) for size in (12, 40, 52, 56, 64, 108, 124)
    )
    is_webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return "ours" if is_bmp or is_webp or head.startswith(_BEGINNINGS) else None


class PictureError(DataError):
    """A single file that is no usable picture. `what` follows its path; `remedy` fits several."""

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(f"{shown(path)} {what}; {remedy}")
        self.path, self.fault = path, (what, remedy)


def refuse_faults(errors: Sequence[DataError]) -> None:
    """One error for all of them, if there are any: paths by what is wrong, the first 20 of each."""
    by_fault: dict[tuple[str, str], list[Path]] = {}
    sentences = []
    for error in errors:
        if isinstance(error, PictureError):
            by_fault.setdefault(error.fault, []).append(error.path)
        else:
            sentences.append(str(error))
    for (what, remedy), paths in by_fault.items():
        if len(paths) == 1:
            sentences.append(f"{shown(paths[0])} {what}; {remedy}")
        else:
            sentences.append(f"{len(paths)} files: each {what}; {remedy}: {listed(paths)}")
    if errors:
        raise DataError("; ".join(sentences)) from errors[0]
