"""Classify the user's own pictures with a finished network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from data.errors import DataError, shown
from data.folders.composition import read_alike
from data.folders.pictures import FORMATS, pictures_below
from data.reading import write_atomically
from models.checks import shown as value_shown
from search.analysis.wording import counted, in_columns, percent, printable
from search.figures.images import contact_sheet
from search.spec.domains import SpecError, check_count, plain
from search.spec.study_name import check_study_name
from search.store import default_storage
from search.store.folders import FINAL, folders_named, from_here, runs_folder
from search.terminal.progress import to_html
from search.training.bundle import CONFIG, Bundle, Prediction, Skipped, read_bundle
from search.training.device import kept_threads, prepare_process
from search.training.epoch import BundleError

MOST_SHOWN = 20  # pictures
AT_ONCE = 4096  # pictures classified in one go: their pixels are copied


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """A network's predictions for pictures; shown as a line for each."""

    bundle: Bundle  # the network
    pictures: tuple[Prediction, ...]  # in the order given, those of a folder sorted
    skipped: tuple[Skipped, ...]  # files in folders that are not readable pictures, and why

    def table(self, top: int = 3) -> list[dict[str, Any]]:
        """A row for each picture, with plain values for `pandas.DataFrame` or `json.dumps`.

        `file`; `label`: the likeliest class's name; `probability`: its, in [0, 1]; `top`: the
        `top` likeliest classes, each with label and probability; `prepared`: how the picture was
        preprocessed, in words. Raises SpecError if `top` is not a whole number from 1 up.
        """
        top = plain(top)
        check_count("top", top)
        names = self.bundle.class_names
        return [
            {
                "file": str(picture.path),
                "label": names[picture.label],
                "probability": picture.probability,
                "top": [
                    {"label": names[label], "probability": share}
                    for label, share in picture.ranking[:top]
                ],
                "prepared": list(picture.notes),
            }
            for picture in self.pictures
        ]

    def __repr__(self) -> str:
        more = len(self.pictures) - MOST_SHOWN
        rest = [f"... and {counted(more, 'more picture')}"] if more > 0 else []
        return "\n".join([as_text(self.table()[:MOST_SHOWN]), *rest])

    def _repr_html_(self) -> str:
        """For the end of a notebook cell."""
        return to_html(Text(repr(self)))


def as_text(table: Sequence[Mapping[str, Any]]) -> str:
    """A line for each picture: file, the likeliest classes, what was done to it."""
    lines = []
    for row in table:
        first, *others = (
            f"{printable(one['label'])} {percent(one['probability'], 1)}" for one in row["top"]
        )
        file = printable(str(from_here(Path(row["file"]))))
        lines.append((file, first, ", ".join(others), "; ".join(row["prepared"])))
    return "\n".join(in_columns(lines))


@kept_threads()
def predict(
    paths: str | Path | Sequence[str | Path],
    *,
    bundle: str | Path | Bundle | None = None,
    study: str | None = None,
    runs_dir: str | Path | None = None,
    sheet: str | Path | None = None,
) -> Predictions:
    """Classify pictures: files, and everything below folders.

    This is what `python -m search.predict` does. Needs neither data set nor database.

    Example:
        >>> found = predict(["drawing.png", "photos/"], study="digits")
        >>> [(row["file"], row["label"], row["probability"]) for row in found.table()]

    Args:
        paths: one or several. Any size, grey or colour. After training on a folder, they are read
            as it was; if the training images are arrays of figures on a plain ground, a picture is
            inverted, scaled and centred like them. Folders are sorted; links to folders below them,
            damaged files and non-pictures are skipped.
        bundle: the folder that `finalise` wrote, or the network itself (`final.bundle`).
        study: instead of `bundle`, the study whose network to use (its folder in `runs_dir`); of
            several with this name, that of the database that $SEARCH_STORAGE names. With neither,
            the network finished last there.
        runs_dir: None: $SEARCH_RUNS_DIR, or runs/ beside the database that $SEARCH_STORAGE names,
            or ./runs.
        sheet: path of a contact sheet to write, a PNG file.

    Raises:
        SpecError: an invalid study name, or both a bundle and a study.
        BundleError: there is no network, or there are several of studies with that name, or the
            sheet cannot be written.
        DataError: a path does not exist, a named file is not a picture, or there are no pictures.
    """
    if sheet is not None:
        check_sheet(sheet)
    if bundle is not None and study is not None:
        raise SpecError("study", f"give either a bundle or a study, but got both, {study=}")
    if isinstance(bundle, Bundle):
        network = bundle
    else:
        network = read_bundle(bundle_folder(bundle, study, runs_dir))
    given = [paths] if isinstance(paths, str) or not isinstance(paths, Iterable) else list(paths)
    for one in given:
        if not isinstance(one, str | Path):
            raise DataError(
                f"pictures are files and folders, but got {value_shown(one)}; save it first"
            )
    prepare_process()
    found = _classify(network, [Path(path) for path in given])
    if sheet is not None:
        write_sheet(found, sheet)
    return found


def check_sheet(sheet: str | Path) -> None:
    """Raises BundleError unless it is the name of a PNG file."""
    if Path(sheet).suffix.lower() != ".png":
        raise BundleError(f"contact sheets are PNG files, but got --sheet {sheet}; name it .png")


def write_sheet(found: Predictions, sheet: str | Path) -> None:
    """Write the contact sheet, a PNG file. Raises BundleError if it cannot be written."""
    try:
        write_atomically(Path(sheet), contact_sheet(found.bundle, found.pictures))
    except OSError as error:
        raise BundleError(
            f"cannot write the contact sheet {sheet} ({error.strerror}); give another --sheet"
        ) from error


def bundle_folder(
    bundle: str | Path | None = None,
    study: str | None = None,
    runs_dir: str | Path | None = None,
    storage: str | None = None,
) -> Path:
    """The network's folder: by its path or its study, else the latest.

    `storage` is the URL of the study's database, which need not exist; None: $SEARCH_STORAGE, or
    the default. Raises SpecError for an invalid study name, BundleError if there is no finished
    network, or several studies of that name have one.
    """
    if bundle is not None:
        if not isinstance(bundle, str | Path):
            got = value_shown(bundle)
            raise BundleError(f"bundle must be a folder or a network, final.bundle, but got {got}")
        return Path(bundle)
    storage = storage or default_storage()
    runs = runs_folder(storage, runs_dir)
    of = "" if study is None else f" of study {check_study_name(study)!r}"
    folders = runs.glob("*") if study is None else folders_named(runs, study, storage)
    configs = [path for folder in folders for path in folder.glob(f"{FINAL}/{CONFIG}")]
    if not configs:
        raise BundleError(
            f"no finished network{of} under {runs.absolute()}; run python -m search.finalize "
            "first, or give --bundle FOLDER"
        )
    if study is not None and len(configs) > 1:
        found = ", ".join(str(path.parent) for path in configs)
        raise BundleError(f"several networks{of}: {found}; give one of them as --bundle FOLDER")
    return max(configs, key=lambda path: path.stat().st_mtime_ns).parent


def _classify(bundle: Bundle, paths: Sequence[Path]) -> Predictions:
    seen, skipped, left_out = [], list[Skipped](), list[Path]()
    for file, was_named in _find_pictures(paths, left_out):
        try:
            read = read_alike(file, bundle.image_shape, bundle.composition, bundle.preparation)
        except DataError as error:
            if was_named:
                raise
            skipped.append(Skipped(path=file, reason=str(error)))
        else:
            seen.append((file, *read))
    for file in left_out:
        is_link = file.is_symlink() and file.is_dir()
        why = "a link to a folder; name it to include it" if is_link else "no picture"
        skipped.append(Skipped(path=file, reason=f"{shown(file)} is {why}"))
    if not seen:
        names = ", ".join(map(str, paths))
        raise DataError(
            f"no picture to classify in {names}; give files or folders of {', '.join(FORMATS)}"
        )
    found = []
    for first in range(0, len(seen), AT_ONCE):
        some = seen[first : first + AT_ONCE]
        shares_NK = bundle.probabilities(torch.stack([image_CHW for _, image_CHW, _ in some]))
        found += [
            Prediction(path=file, image_CHW=image_CHW, notes=tuple(notes), shares_K=shares_K)
            for (file, image_CHW, notes), shares_K in zip(some, shares_NK, strict=True)
        ]
    return Predictions(bundle=bundle, pictures=tuple(found), skipped=tuple(skipped))


def _find_pictures(given: Iterable[Path], left_out: list[Path]) -> Iterator[tuple[Path, bool]]:
    """Yields (file, whether the user named it directly)."""
    for path in given:
        try:
            path.stat()
            if path.is_dir():
                yield from ((file, False) for file in pictures_below(path, left_out))
            else:
                yield path, True
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else error
            where = getattr(error, "filename", None) or path
            raise DataError(f"cannot read {where} ({reason}); check the path") from error
