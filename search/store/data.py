"""A study's data set: where it is now, and whether it is the one that the study was made with.

A folder of pictures may be moved, or mounted elsewhere on another host: it is the same data as long
as its fingerprint is the same. The study remembers every place where it was found. Initial weights
are also part of what a study was made with.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from data.datasets import FOLDER, canonical_name, find_dataset
from data.errors import DataError
from data.extensions import is_reference
from data.fingerprint import Fingerprint, differences
from data.folders import held_out
from search.spec import extensions
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.store.database import with_retry
from search.store.schema import FINGERPRINT
from search.store.studies import StudyHandle, damage_in_a_line, load_facts, load_spec
from search.training.task import Task
from search.training.weights import digests, file_of

# System attributes of a study, which dashboards do not show.
PLACES, HELD_OUT = "cnn_search:places", "cnn_search:held_out"
WEIGHTS = "cnn_search:weights"  # by source: SHA-256 and absolute path of the file
MOST_PLACES = 8


def is_folder(name: str) -> bool:
    """Whether it names a file or folder of the user's own, which may be moved."""
    return find_dataset(name).path is not None


def find_place(study: StudyHandle, named: str | None, data_dir: Path) -> str:
    """The name under which the study's data set can be loaded here.

    Args:
        named: by the user; None: try where it was found before, the latest place first.
        data_dir: gets the record of which pictures the study holds out for the test.

    Raises `SpecError` if the named one cannot be the study's, `DataError` if none is found.
    """
    spec = load_spec(study)
    own = spec.dataset
    place = own if named is None else canonical_name(named)
    if place != own and not (is_folder(place) and is_folder(own)):
        raise SpecError(
            "dataset",
            f"study {study.name!r} was made with dataset = {own!r}, but got {place!r}; give "
            "another --study NAME, or leave it out to resume",
        )
    if not is_folder(place):
        return place
    remembered = with_retry(study.db, partial(_remembered, study))
    if named is None:
        places = [it for it in remembered.get(PLACES, ()) if _runs_nothing_else(spec, it)]
        paths = ((it, find_dataset(it).path) for it in [*places, own])
        # Another user's folder may not even be entered.
        found = next((it for it, path in paths if path and os.access(path, os.R_OK)), None)
        if found is None:
            raise DataError(
                f"there is no {find_dataset(own).path}, where the images of study {study.name!r} "
                f"were; if they were moved, say where to: --dataset {own}, with the new path"
            )
        place = found
    if HELD_OUT in remembered and place.startswith(FOLDER):
        held_out.keep(Path(place.removeprefix(FOLDER)), remembered[HELD_OUT], data_dir)
    return place


def _runs_nothing_else(spec: StudySpec, place: str) -> bool:
    """Whether loading images from a remembered place runs at most the study's own code."""
    if not is_reference(place):
        return True
    content = extensions.read_own(Path(extensions.file_of(place)))
    own = [one for one in spec.extensions if one.name == extensions.file_of(spec.dataset)]
    return any(one.matches(content) for one in own)


def _remembered(study: StudyHandle) -> dict[str, Any]:
    """Under PLACES: where the data was found, latest first; under HELD_OUT: digests by name."""
    with study.told_if_gone():
        return study.db.optuna.get_study_system_attrs(study.study_id)


def check_data(study: StudyHandle, task: Task) -> None:
    """Raise a `DataError` saying what changed if this is not the data the study was made with."""
    if task.content is None:
        return
    stored = study.attributes.get(FINGERPRINT)
    if stored is None:  # a study of an earlier version
        was, now = (
            (tuple(it.class_names), it.image_shape, it.training_count)
            for it in (load_facts(study), task.info)
        )
        changes = "" if was == now else "different classes, or another size or number of pictures"
    else:
        with damage_in_a_line(study):
            changes = differences(Fingerprint.from_dict(stored), task.content)
    if changes:
        name = task.info.name
        moved = f" (if it was moved: --dataset {name}, with the new path)"
        raise DataError(
            f"study {study.name!r} was made with different data than {name} holds: "
            f"{changes}; put the data back{moved if is_folder(name) else ''}, or start another "
            "study with --study NAME"
        )


def hold_out(task: Task, data_dir: Path) -> None:
    """Make the test images final that were drawn from a folder. Raises DataError."""
    if task.info.test_is_drawn:
        root = Path(task.info.name.removeprefix(FOLDER))
        held_out.record_test(root, task.info.test_digests, data_dir)


def keep_data(study: StudyHandle, task: Task) -> None:
    """Check the data once more (another start may just have made the study with different data),
    and store whatever is not stored about it yet."""
    check_data(study, task)
    info, own = task.info, load_spec(study).dataset
    keep = partial(study.db.optuna.set_study_system_attr, study.study_id)

    def store(_: Connection) -> None:
        remembered = study.db.optuna.get_study_system_attrs(study.study_id)
        places = remembered.get(PLACES, [])
        if info.test_is_drawn and HELD_OUT not in remembered:
            keep(HELD_OUT, dict(info.test_digests))
        if is_folder(info.name) and info.name != [*places, own][0]:
            others = [place for place in places if place != info.name]
            keep(PLACES, [info.name, *others][:MOST_PLACES])
        if task.content is not None and FINGERPRINT not in study.study.user_attrs:
            study.study.set_user_attr(FINGERPRINT, task.content.to_dict())

    study.write(store)


def check_weights(study: StudyHandle, sources: Iterable[str | None]) -> None:
    """Raises a `DataError` if these files or folders hold other weights than the study began with.

    `WeightsError` if they cannot be read.
    """
    _compare(study, digests(sources))


def keep_weights(study: StudyHandle, sources: Iterable[str | None]) -> dict[str, str]:
    """Check the weights, and store what is not stored about them yet; returns their digests."""
    found = digests(sources)

    def store(_: Connection) -> None:
        known = _compare(study, found)  # another start may just have stored its own
        new = {it: (digest, str(file_of(it).absolute())) for it, digest in found.items()}
        study.db.optuna.set_study_system_attr(study.study_id, WEIGHTS, {**new, **known})

    if found and found.keys() - with_retry(study.db, partial(_compare, study, found)).keys():
        study.write(store)
    return found


def _compare(study: StudyHandle, found: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What the study knows of its weights: digest and path by source. Raises like the callers."""
    with damage_in_a_line(study):
        stored = _remembered(study).get(WEIGHTS, {})
        known = {source: (it[0], it[1]) for source, it in stored.items()}
    for source, digest in found.items():
        old, path = known.get(source, (digest, ""))
        if digest != old:
            raise DataError(
                f"study {study.name!r} was made with other initial weights than {source!r} holds "
                f"now; put back those that were in {path}, or start another study with --study NAME"
            )
    return known
