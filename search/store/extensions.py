"""The user's own files of a stored study, which are copied into its folder before it is trained.

If they have changed since, whoever only reads the study uses the copies; whoever trains must put
them back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from data.reading import write_atomically
from search.spec.config import StudySpec
from search.spec.extensions import SHOWN, Extension, ExtensionError, read_own, versions_of
from search.store import StorageError
from search.store.folders import claimed_folder, from_here, runs_folder
from search.store.schema import SPEC
from search.store.studies import StudyHandle, load_spec

COPIES = "extensions"  # in a study's folder
_log = logging.getLogger(__name__)


def read_spec(study: StudyHandle, attributes: Mapping[str, Any] | None = None) -> StudySpec:
    """`load_spec` for those who only read; a changed or missing file is read from its copy.

    The copy has the stored SHA-256, as a file that trains must. Raises `StorageError` if the study
    cannot be read so either.
    """
    attributes = attributes or study.attributes
    try:
        return load_spec(study, attributes)
    except StorageError as error:
        folder = claimed_folder(study, runs_folder(study.db.url, study.db.runs_dir))
        if not isinstance(error.__cause__, ExtensionError) or folder is None:
            raise
        try:
            return StudySpec.from_dict(attributes[SPEC], partial(_copy, folder=folder))
        except ExtensionError:
            raise error from error.__cause__


def check_files(study: StudyHandle) -> None:
    """`load_spec` for those who train: its error names the study's copy of a file if it can."""
    try:
        load_spec(study)
    except StorageError as error:
        folder = claimed_folder(study, runs_folder(study.db.url, study.db.runs_dir))
        cause = error.__cause__
        if isinstance(cause, ExtensionError) and folder is not None:
            copy = _copy(cause.extension, folder.absolute())
            told = f"{error}; the study's copy of it is {from_here(copy)}"
            if cause.extension.matches(read_own(copy)):
                raise StorageError(told) from cause
        raise


def keep_copies(extensions: Iterable[Extension], folder: Path) -> None:
    """Copy the files into the study's folder, unless that has been done; a failure is logged."""
    for one in extensions:
        copy = _copy(one, folder)
        content = next((it for it in versions_of(one).values() if one.matches(it)), None)
        try:
            if content is not None and not one.matches(read_own(copy)):
                write_atomically(copy, content)
        except OSError as error:
            _log.warning("cannot copy %s to %s (%s)", one.name, copy, error.strerror)


def _copy(one: Extension, folder: Path) -> Path:
    """`mynet-3880aa51bae4.py`: files in several folders may have one name."""
    name = Path(one.name)
    return folder / COPIES / f"{name.stem}-{one.sha256[:SHOWN]}{name.suffix}"
