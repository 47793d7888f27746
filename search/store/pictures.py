"""Which pictures optuna-dashboard shows of a trial, announced in its system attributes.

Optuna lets nobody write to a trial that has ended. So its pictures are announced as it ends, in one
transaction with its end and in the form of `optuna.artifacts.upload_artifact`; the files are drawn
afterwards, by `search.dashboard.trial_artifacts`, and whenever one is missing.

K classes; a confusion matrix holds images, rows by their true class, columns by the predicted one.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.artifacts import ArtifactMeta
from sqlalchemy import select

from search.store.database import Database, snapshot, transaction, with_retry
from search.store.leases import Lease, fence
from search.store.schema import trial_system_attributes as attributes
from search.store.schema import trials

Picture = Literal["curves", "confusion"]
CONFUSION = "confusion"  # attribute: the matrix after the trial's last epoch
_ARTIFACT = "artifacts:"  # Optuna's prefix
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FILE_NAMES: Mapping[Picture, str] = {
    "curves": "learning curves.png",
    "confusion": "confusion matrix.png",
}


def drawable(system_attributes: Mapping[str, Any], *, epochs: int) -> list[Picture]:
    """What there is to draw of a trial that ends after so many epochs."""
    found: list[Picture] = ["curves"] if epochs else []
    return [*found, "confusion"] if CONFUSION in system_attributes else found


def announcement(pictures: Iterable[Picture]) -> dict[str, str]:
    """System attributes that announce these pictures, under new random ids."""
    metas = [
        ArtifactMeta(
            artifact_id=str(uuid.uuid4()),
            filename=_FILE_NAMES[picture],
            mimetype="image/png",
            encoding=None,
        )
        for picture in pictures
    ]
    return {f"{_ARTIFACT}{meta.artifact_id}": json.dumps(asdict(meta)) for meta in metas}


def announced(system_attributes: Mapping[str, Any]) -> dict[Picture, str]:
    """The ids of the pictures announced there; other artifacts, and deleted ones, are left out."""
    found = {}
    for key, value in system_attributes.items():
        if key.startswith(_ARTIFACT) and is_artifact_id(id_ := key.removeprefix(_ARTIFACT)):
            for picture, name in _FILE_NAMES.items():
                if _meta(value) == (id_, name):
                    found[picture] = id_
    return found


def is_artifact_id(text: str) -> bool:
    """Whether it is an id as Optuna and we make them, and so can name a file of our folder.

    Whoever can write to the database can write anything there, `../../.bashrc` too.
    """
    return _ID.fullmatch(text) is not None


def _meta(value: object) -> tuple[object, object] | None:
    """(id, file name) in one artifact's attribute; None for a deleted one or anything else."""
    try:
        meta = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None
    return (meta.get("artifact_id"), meta.get("filename")) if isinstance(meta, dict) else None


class Announcer(NamedTuple):
    """The trial to which an artifact belongs."""

    study_id: int
    trial_id: int
    number: int


def announcer(db: Database, artifact_id: str) -> Announcer | None:
    """Whose artifact that is, not only of ours; None where no trial has it.

    Raises:
        StorageError: the database stayed away.
    """
    query = (
        select(trials.c.study_id, trials.c.trial_id, trials.c.number)
        .join(attributes, attributes.c.trial_id == trials.c.trial_id)
        .where(attributes.c.key == f"{_ARTIFACT}{artifact_id}")
    )

    def attempt() -> Announcer | None:
        with snapshot(db) as connection:
            row = connection.execute(query).first()
            return None if row is None else Announcer(*row)

    return with_retry(db, attempt)


def pack_confusion(confusion_KK: NDArray[np.int64]) -> str:
    """About 150 characters for 10 classes and 5 000 for 100: every reader of trials loads it."""
    return base64.b64encode(zlib.compress(confusion_KK.astype("<i4").tobytes(), 9)).decode()


def record_confusion(db: Database, lease: Lease, confusion_KK: NDArray[np.int64]) -> None:
    """Keep the matrix with a trial that is about to be completed.

    Raises:
        LostLeaseError: see `search.store.leases.fence`; nothing was written.
        StorageError: the database stayed away.
    """

    def attempt() -> None:
        with transaction(db, durable=False) as connection:
            fence(connection, lease)
            db.optuna.set_trial_system_attr(lease.trial_id, CONFUSION, pack_confusion(confusion_KK))

    with_retry(db, attempt)


def confusion_of(system_attributes: Mapping[str, Any], classes: int) -> NDArray[np.int64] | None:
    """The matrix kept there; None where there is none, or none of so many classes."""
    packed, size = system_attributes.get(CONFUSION), 4 * classes**2
    if not isinstance(packed, str):
        return None
    try:
        # No more than belongs there: a few bytes can be unpacked into gigabytes.
        counts = zlib.decompressobj().decompress(base64.b64decode(packed), size + 1)
    except (ValueError, zlib.error):
        return None
    if len(counts) != size:
        return None
    confusion_KK = np.frombuffer(counts, dtype="<i4").reshape(classes, classes).astype(np.int64)
    return confusion_KK if (confusion_KK >= 0).all() else None
