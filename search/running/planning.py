"""From what a person asks for to a study that can be worked on: first all checks, then writing."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch

from data.datasets import canonical_name, choose_dataset, find_dataset
from search.running.journal import journal_from_environment
from search.running.wish import Wish, read_wish
from search.running.worker import Worker
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.space import check_space
from search.store.catalog import create_study, find_study, note_environment, set_total
from search.store.folders import runs_folder, study_folders, usable
from search.store.identity import study_transaction
from search.store.leftovers import sweep
from search.store.opening import database_exists, open_database
from search.store.storage import Database
from search.store.study_data import check_data, find_place, is_folder, keep_data, load_study_task
from search.store.study_folder import check_folder, study_folder
from search.store.view import load_facts, load_spec
from search.training.device import describe_hardware
from search.training.task import Task
from search.training.weights import check_sources, with_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be done, with everything checked that a person can get wrong, and nothing written.

    Attributes:
        runs: where the study will have its folder.
        substitute: why the data set is only a substitute, if it is one.
        url: of the database.
        db, existing: the database and the study in it, where they are there already.
    """

    name: str
    spec: StudySpec
    task: Task
    runs: Path
    substitute: str | None
    url: str
    db: Database | None
    existing: optuna.Study | None


def make_plan(
    *,
    config: str | None,
    flags: Mapping[str, Any],
    weights: str | None = None,
    study: str | None,
    url: str,
    data_dir: Path,
    runs_dir: Path | None = None,
    device: torch.device,
) -> Plan:
    """The plan for a study file with flags over it, or for going on with a study that there is.

    Args:
        config: name or path of a study file; None for the default one.
        flags: fields of `StudySpec` that replace the file's.
        weights: file in place of the weights that the study file starts from.
        study: its name; None for one made of the file's and the data set's.
        runs_dir: see `runs_folder`.

    Raises:
        SpecError, StudyFileError: the study cannot be, or differs from the one that exists.
        DataError: its images cannot be had.
        StorageError: the database or the folder cannot be used.
    """
    wish = read_wish(config, flags)
    if weights is not None:
        wish = replace(wish, fields=with_weights(wish.fields, weights))
    db = open_database(url) if database_exists(url) else None
    dataset, substitute = _choose(wish, study, db, data_dir)
    name = study or wish.study_name(dataset)
    existing = find_study(db, name) if db is not None else None
    place = dataset
    try:
        if db is not None and existing is not None:
            place = find_place(db, existing, None if wish.dataset is None else dataset, data_dir)
            if is_folder(place):
                dataset = load_spec(existing).dataset  # the same, as the study calls it
        spec = wish.spec(dataset, existing, place)
        task = load_study_task(spec, data_dir, device, place=place)
        check_space(spec, task.image_shape, task.classes)
        check_sources(spec, task.image_shape, task.classes)
        if existing is None and not find_dataset(dataset).has_own_size:
            spec = replace(
                spec,
                image_size=task.image_shape[1],
                mirror_changes_class=task.info.mirror_changes_class,
            )
    except SpecError as error:
        raise wish.with_line(error) from error
    if existing is not None:
        check_data(existing, task)
    runs = runs_folder(url, runs_dir)
    usable(next(study_folders(runs, name)))
    return Plan(
        name=name,
        spec=spec,
        task=task,
        runs=runs,
        substitute=substitute,
        url=url,
        db=db,
        existing=existing,
    )


def _choose(
    wish: Wish, study: str | None, db: Database | None, data_dir: Path
) -> tuple[str, str | None]:
    """(data set, why it is a substitute or None)."""
    dataset, reason = wish.dataset, None
    if dataset is None and study is not None and db is not None:
        found = find_study(db, study)
        dataset = None if found is None else load_facts(found).name
    if dataset is None:
        dataset, reason = choose_dataset(data_dir)
    return canonical_name(dataset), reason


def begin(plan: Plan, stop: threading.Event, *, trials_at_a_time: int | None) -> Worker:
    """Make the study, or take it up again; from here on it is in the database.

    Args:
        trials_at_a_time: see `Worker`.
    """
    db, spec, task = plan.db or open_database(plan.url), plan.spec, plan.task
    study = plan.existing or create_study(
        db,
        plan.name,
        spec,
        task.info,
        validation_count=len(task.validation),
        content=task.content,
    )
    keep_data(db, study, task)
    with study_transaction(db, study):  # it may have been deleted while the images were loaded
        set_total(study, spec.trials)
        note_environment(study, describe_hardware(task.device))
    folder = study_folder(db, study, plan.runs)
    sweep(db, study, folder)
    return Worker(
        db=db,
        study=study,
        spec=spec,
        task=task,
        folder=folder,
        stop=stop,
        check=partial(check_folder, db, study, folder),
        journal=journal_from_environment(),
        trials_at_a_time=trials_at_a_time,
    )
