"""Why picture files cannot be used: one by one, and all of a folder's in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data.errors import DataError
from data.listing import listed, shown
from data.scan import FORMATS


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """what: follows the path, as in `a.png is empty`; remedy: what one can do about several."""

    what: str
    remedy: str


def damaged() -> Fault:
    return Fault(
        what="cannot be read as a picture",
        remedy=f"replace it by a whole one ({', '.join(FORMATS)}) or take it away",
    )


def foreign(name: str) -> Fault:
    return Fault(
        what=f"cannot be read as a picture: {name} is a format that is not supported",
        remedy="convert it to PNG or JPEG",
    )


def too_large() -> Fault:
    return Fault(
        what=f"has more than the {Image.MAX_IMAGE_PIXELS} pixels that are safe to decode",
        remedy="shrink it or take it away",
    )


class PictureError(DataError):
    """A single file that is no picture that can be used."""

    def __init__(self, path: Path, fault: Fault) -> None:
        super().__init__(f"{shown(path)} {fault.what}; {fault.remedy}")
        self.path, self.fault = path, fault


def missing(path: Path) -> DataError:
    """The error for a path that is no file."""
    if path.is_symlink():
        return DataError(
            f"{shown(path)} is a link to {shown(path.readlink())}, which is not there; "
            "mend or delete it"
        )
    return DataError(f"there is no picture file {shown(path)}; check the path")


def refuse_faults(errors: Sequence[DataError]) -> None:
    """One error for all of them, if there are any: paths by what is wrong, the first 20 of each."""
    if len(errors) < 2:
        if errors:
            raise errors[0]
        return
    by_fault: dict[Fault, list[Path]] = {}
    sentences = []
    for error in errors:
        if isinstance(error, PictureError):
            by_fault.setdefault(error.fault, []).append(error.path)
        else:
            sentences.append(str(error))
    for fault, paths in by_fault.items():
        if len(paths) == 1:
            sentences.append(str(PictureError(paths[0], fault)))
        else:
            sentences.append(
                f"{len(paths)} files: each {fault.what}; {fault.remedy}: {listed(paths)}"
            )
    raise DataError("; ".join(sentences)) from errors[0]
