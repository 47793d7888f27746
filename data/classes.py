"""The pictures of one split, by class: a folder for each class, its pictures directly in it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import DataError
from data.listing import MOST, is_text, listed, shown
from data.scan import LeftOut, is_picture, is_system_folder


def class_of(file: str, *, version: int) -> str:
    """The class of ".../<class>/<file>". One name in two spellings of Unicode is one class."""
    name = file.split("/")[-2]
    return name if version == 1 else unicodedata.normalize("NFC", name)


def scan_classes(root: Path, split: str, skipped: LeftOut) -> list[str]:
    """The pictures in root/split/<class>/, sorted, as "split/<class>/<file>"; split may be "".

    All that is wrong of one kind is told at once. Raises DataError, and OSError for what cannot be
    read.
    """
    scan = _Scan(skipped=skipped)
    files = []
    for place in scan.folders(root / split):
        names = list(scan.pictures(place))
        if not names:
            scan.empty.append(place)
        files += [f"{split}/{place.name}/{name}".removeprefix("/") for name in names]
    scan.refuse()
    if not files:
        raise DataError(f"{shown(root / split)} has no folders of images; make one for each class")
    return sorted(files)


def has_classes(root: Path) -> bool:
    """Whether a folder in `root` holds pictures directly: PATH/<class>/* without splits."""
    return any(
        is_picture(path) and path.is_file()
        for folder in root.iterdir()
        if not is_system_folder(folder.name) and folder.is_dir()
        for path in folder.iterdir()
    )


def refuse_names(names: Sequence[str], folder: Path) -> None:
    """Raises DataError for names that can neither be shown nor stored."""
    bytes_alone = [name for name in names if _is_bytes(name)]
    if bytes_alone:
        raise DataError(
            f"{listed([folder / name for name in bytes_alone])}: the name is no text in UTF-8; "
            "rename it"
        )
    bad = [name for name in names if not is_text(name)]
    if bad:
        more = f" and {len(bad) - MOST} more" if len(bad) > MOST else ""
        raise DataError(
            f"{', '.join(map(repr, bad[:MOST]))}{more} has control characters in its name "
            f"(in {shown(folder)}); rename it"
        )


def _is_bytes(name: str) -> bool:
    return any(unicodedata.category(letter) == "Cs" for letter in name)


@dataclass(kw_only=True, slots=True)
class _Scan:
    """One pass over the folders of a split, and what it found wrong."""

    skipped: LeftOut
    links: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)

    def folders(self, place: Path) -> Iterator[Path]:
        with os.scandir(place) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        classes: list[Path] = []
        for entry in found:
            path = place / entry.name
            if entry.is_dir():
                system = is_system_folder(entry.name)
                (self.skipped.folders if system else classes).append(path)
            elif not entry.name.startswith(".") and _leads_nowhere(entry):
                self.links.append(path)
            else:
                (self.skipped.strays if is_picture(path) else self.skipped.files).append(path)
        refuse_names([path.name for path in classes], place)
        yield from classes

    def pictures(self, folder: Path) -> Iterator[str]:
        """The names of the pictures in a class's folder."""
        names = []
        with os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                if entry.is_file():
                    if is_picture(path):
                        names.append(entry.name)
                    else:
                        self.skipped.files.append(path)
                elif entry.is_dir() and is_system_folder(entry.name):
                    self.skipped.folders.append(path)
                elif not entry.name.startswith("."):
                    (self.links if _leads_nowhere(entry) else self.others).append(path)
        refuse_names(names, folder)
        yield from names

    def refuse(self) -> None:
        """Raises DataError for what was found wrong, all of the first kind that is there."""
        for paths, what, remedy in (
            (self.links, "is a link to nothing", "mend it or delete it"),
            (
                self.others,
                "is not a file",
                "images lie directly in their class's folder",
            ),
            (self.empty, "has no images", "give it some or delete it"),
        ):
            if paths:
                raise DataError(f"{listed(paths)} {what}; {remedy}")


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()
