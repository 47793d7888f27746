"""A finished network on a person's own pictures.

Shapes: N pictures, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from data.errors import DataError, shown
from data.folders.files import FORMATS, LeftOut, pictures_below
from data.folders.recompose import read_alike
from search.training.bundle import Bundle
from search.training.evaluate import logits


class _Seen(NamedTuple):
    path: Path
    image_CHW: torch.Tensor
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """What the network makes of one picture.

    Attributes:
        path: as it was given, or found in a folder that was.
        image_CHW: uint8, the picture as the network saw it.
        notes: what was done to the picture before, in words.
        ranking: every class's index and probability, the likeliest first.
    """

    path: Path
    image_CHW: torch.Tensor
    notes: tuple[str, ...]
    ranking: tuple[tuple[int, float], ...] = field(repr=False)

    @property
    def label(self) -> int:
        return self.ranking[0][0]

    @property
    def probability(self) -> float:
        return self.ranking[0][1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A file of a folder that was left out, and why."""

    path: Path
    reason: str


def find_pictures(
    given: Iterable[Path], left_out: LeftOut | None = None
) -> Iterator[tuple[Path, bool]]:
    """(file, whether it was named itself): the pictures below folders sorted.

    Links to folders are not followed. Raises DataError for a path that is not there, and for a
    folder that cannot be read.
    """
    for path in given:
        try:
            path.stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"cannot read {path} ({reason}); check the path") from error
        if path.is_dir():
            yield from (
                (file, False) for file in _below(path, LeftOut() if left_out is None else left_out)
            )
        else:
            yield path, True


def _below(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    try:
        yield from pictures_below(folder, left_out)
    except OSError as error:
        raise DataError(
            f"cannot read folder {error.filename} ({error.strerror}); check its rights"
        ) from error


def classify(bundle: Bundle, paths: Sequence[Path]) -> tuple[list[Prediction], list[Skipped]]:
    """Classify picture files, and those in folders, prepared like the training images.

    Args:
        paths: files and folders, see `find_pictures`. Damaged pictures in a folder, and files
            there that are none, are skipped.

    Raises:
        BundleError: the bundle holds no network.
        DataError: a path that is not there, a named file that is no picture, or no picture at all.
    """
    model = bundle.network()
    seen: list[_Seen] = []
    skipped: list[Skipped] = []
    left_out = LeftOut()
    for path, named in find_pictures(paths, left_out):
        try:
            image_CHW, notes = read_alike(
                path, bundle.image_shape, bundle.composition, bundle.preparation
            )
        except DataError as error:
            if named:
                raise
            skipped.append(Skipped(path=path, reason=str(error)))
        else:
            seen.append(_Seen(path, image_CHW, tuple(notes)))
    for files, what in ((left_out.files, "no picture"), (left_out.folders, "a system's folder")):
        skipped += [Skipped(path=path, reason=f"{shown(path)} is {what}") for path in files]
    if not seen:
        names = ", ".join(map(str, paths))
        raise DataError(
            f"no picture to classify in {names}; give files or folders of {', '.join(FORMATS)}"
        )
    images_NCHW = torch.stack([one.image_CHW for one in seen])
    shares_NK = logits(model, images_NCHW, bundle.mean_C, bundle.std_C).softmax(1)
    ranked = shares_NK.sort(dim=1, descending=True, stable=True)
    rankings = zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True)
    predictions = [
        Prediction(
            path=one.path,
            image_CHW=one.image_CHW,
            notes=one.notes,
            ranking=tuple(zip(labels, shares, strict=True)),
        )
        for one, (labels, shares) in zip(seen, rankings, strict=True)
    ]
    return predictions, skipped
