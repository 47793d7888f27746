"""Studies in the database: made once, found again, and held to what they were made with."""

from __future__ import annotations

import dataclasses
import platform
import warnings
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import func, select

from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.space import queued_baseline
from search.store.identity import study_identity, study_transaction
from search.store.storage import Database, StorageError, snapshot, with_retry
from search.store.tables import studies, trials
from search.store.tables import study_user_attributes as attributes
from search.store.view import DATASET, FINGERPRINT, HARDWARE, SPEC, VERSIONS, load_spec

if TYPE_CHECKING:
    from data.examples import DatasetInfo
    from data.fingerprint import Fingerprint

# Of a stored specification: totals, and what a study of before does not record of its report.
MAY_CHANGE = ("trials", "repeats", "published")
PACKAGES = ("cnn-search", "optuna", "torch", "torchvision", "numpy")


def find_study(db: Database, name: str) -> optuna.Study | None:
    """The study of that name; None where there is none.

    Raises:
        StorageError: a study of that name was made by something else.
    """
    try:
        study = with_retry(db, lambda: optuna.load_study(study_name=name, storage=db.optuna))
    except KeyError:
        return None
    if SPEC not in study.user_attrs and not study.get_trials(deepcopy=False):
        return None  # made by a start that was killed before it could say more
    load_spec(study)
    study_identity(db, study)
    return study


def latest_study(db: Database) -> optuna.Study:
    """The study that was worked on last, for commands that are not told which.

    Raises:
        StorageError: there is none.
    """
    query = (
        select(studies.c.study_name)
        .join(trials, trials.c.study_id == studies.c.study_id)
        .join(attributes, attributes.c.study_id == studies.c.study_id)
        .where(attributes.c.key == SPEC)
        .group_by(studies.c.study_id, studies.c.study_name)
        .having(func.min(trials.c.datetime_start).is_not(None))
        .order_by(func.min(trials.c.datetime_start).desc(), studies.c.study_id.desc())
        .limit(1)
    )

    def attempt() -> str | None:
        with snapshot(db) as connection:
            return connection.scalar(query)

    latest = with_retry(db, attempt)
    if latest is None:
        raise StorageError(f"no studies in {db.url}; run python -m search.study first")
    study = find_study(db, latest)
    assert study is not None
    return study


def require_study(db: Database, name: str | None) -> optuna.Study:
    """The study of that name, or the latest; an error that lists the names where it is missing."""
    if name is None:
        return latest_study(db)
    study = find_study(db, name)
    if study is None:
        names = sorted(optuna.get_all_study_names(db.optuna))
        there = f"there are: {', '.join(names)}" if names else "there is none yet"
        raise StorageError(f"no study {name!r} in {db.url}; {there}")
    return study


def create_study(
    db: Database,
    name: str,
    spec: StudySpec,
    info: DatasetInfo,
    *,
    validation_count: int,
    content: Fingerprint | None = None,
) -> optuna.Study:
    """Make the study and queue its baseline; harmless if another start is doing the same.

    Args:
        content: the data set's fingerprint.
    """
    study = optuna.create_study(
        storage=db.optuna, study_name=name, direction="minimize", load_if_exists=True
    )
    # Two starts at once may both get here: the lock lets the second find what the first has made.
    with study_transaction(db, study):
        if SPEC not in study.user_attrs:
            if content is not None:
                study.set_user_attr(FINGERPRINT, content.to_dict())
            _furnish(db, study, spec, info, validation_count)
    load_spec(study)
    study_identity(db, study)
    return study


def _furnish(
    db: Database, study: optuna.Study, spec: StudySpec, info: DatasetInfo, validation_count: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["validation loss"])
    study.set_user_attr(
        DATASET,
        {
            "name": info.name,
            "title": info.title,
            "class_names": list(info.class_names),
            "image_shape": list(info.image_shape),
            "training_count": info.training_count,
            "validation_count": validation_count,
            "own_validation": info.has_own_validation,
            "notes": list(info.notes),
        },
    )
    if spec.baseline is not None:
        db.optuna.create_new_trial(study._study_id, queued_baseline(spec))
    study.set_user_attr(SPEC, spec.to_dict())


def note_environment(study: optuna.Study, hardware: str) -> None:
    """Record what trains this study, for its pages."""
    study.set_user_attr(HARDWARE, hardware)
    study.set_user_attr(VERSIONS, versions())


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that was not installed
            continue
    return found


def carry_on_spec(study: optuna.Study, wanted: StudySpec, named: Collection[str]) -> StudySpec:
    """The specification under which an existing study goes on.

    Args:
        wanted: what this start would make of its flags and its file.
        named: the fields that the person gave, by flag or by file; others follow the study.

    Raises:
        SpecError: a named field differs from what the study was made with.
    """
    stored = load_spec(study)
    for name in (field.name for field in dataclasses.fields(StudySpec)):
        old, new = getattr(stored, name), getattr(wanted, name)
        if name in named and name not in MAY_CHANGE and old != new:
            raise SpecError(
                name,
                f"study {study.study_name!r} was made with {name} = {_short(old)}, but got "
                f"{_short(new)}; give another --study NAME, or leave it out to carry on",
            )
    return stored.with_total(wanted.trials) if "trials" in named else stored


def set_total(study: optuna.Study, trials: int) -> None:
    """Change the number of trials that the study ends with; the one thing that may change."""
    spec = load_spec(study)
    if spec.trials != trials:
        study.set_user_attr(SPEC, spec.with_total(trials).to_dict())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
