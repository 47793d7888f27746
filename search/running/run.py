"""From the user's request to one process's part in a study: first all checks, then writing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Connection

from data.datasets import FOLDER, canonical_name, choose_dataset, find_dataset
from search.analysis.findings import without_effect
from search.analysis.wording import warm_start_in_words
from search.running.by_hand import check_requests, kept_total, read_queue
from search.running.request import Request
from search.sampling.earlier import is_source, read_earlier
from search.sampling.flat import set_flat
from search.sampling.limits import Limits, limits_of
from search.sampling.registry import find_pruner, make_pruner, make_sampler
from search.spec.config import Earlier, StudySpec
from search.spec.domains import ParameterValue, SpecError
from search.spec.extensions import check_complete
from search.spec.space import check_space, has_baseline
from search.store import extensions, folders, studies, without_password
from search.store.data import (
    check_data,
    check_weights,
    find_place,
    hold_out,
    keep_data,
    keep_weights,
)
from search.store.database import Database
from search.store.opening import database_exists, open_database
from search.store.schema import HARDWARE, VERSIONS
from search.store.studies import StudyHandle
from search.store.views import load_earlier
from search.training.device import describe_hardware, versions
from search.training.files import Remote
from search.training.task import Task, load_study_task, noting_copies
from search.training.train import train
from search.training.weights import check_training, sources_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One process's part in a study; made by `begin_run`.

    Attributes:
        folder: the study's own.
        checkpoints: the folder of its trials' checkpoints.
        stop: set it to stop at the next training step; the running trials are released.
        check: raises FolderGoneError if the folder was removed; called before each checkpoint.
        on_report, on_change: called after each report and whenever a trial may have ended, so they
            must be cheap.
        trials_at_a_time: trained in turn; None: `search.running.worker.Slots` decides.
        train: trains one configuration; tests put made-up curves in its place.
    """

    study: StudyHandle
    spec: StudySpec
    task: Task
    folder: Path
    checkpoints: Path | Remote
    stop: threading.Event
    check: Callable[[], None] = lambda: None
    on_report: Callable[[], None] = lambda: None
    on_change: Callable[[], None] = lambda: None
    trials_at_a_time: int | None = None
    train: Callable[..., Any] = train

    @property
    def db(self) -> Database:
        return self.study.db


def begin_run(
    study: StudyHandle,
    spec: StudySpec,
    task: Task,
    stop: threading.Event,
    checkpoints: str | None,
    trials_per_device: int | None,
) -> Run:
    """Join a study: store what is known about its data, claim its folder and clean it up.

    Raises DataError if the study was made with other data or initial weights.
    """
    study.db.leaving = stop
    keep_data(study, task)
    keep_weights(study, sources_of(spec))
    runs = folders.runs_folder(study.db.url, study.db.runs_dir)
    folder = folders.study_folder(study, runs)
    extensions.keep_copies(spec.extensions, folder)
    kept: Path | Remote = folder / folders.CHECKPOINTS
    if checkpoints is not None:
        kept = folders.find_checkpoints(checkpoints) / str(study.identity)
    folders.sweep(study, folder, kept)
    return Run(
        study=study,
        spec=spec,
        task=task,
        folder=folder,
        checkpoints=kept,
        stop=stop,
        check=partial(folders.check_folder, study, folder),
        trials_at_a_time=trials_per_device,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done: everything that the user can get wrong is checked, nothing is written.

    Attributes:
        place: the user's name for the data set, which an existing study may know by another.
        substitute: why the data set is only a substitute, if it is one.
        notes: sentences about the data, the study's limits and its warm start.
        db, existing: the database and the study in it, if they exist already.
        queue: configurations that the user asks for.
        earlier: studies that it starts from.
    """

    request: Request
    name: str
    spec: StudySpec
    task: Task
    place: str
    substitute: str | None
    notes: tuple[str, ...]
    db: Database | None
    existing: StudyHandle | None
    queue: Sequence[Mapping[str, ParameterValue]]
    earlier: tuple[Earlier, ...]

    def begin(self, stop: threading.Event) -> Run:
        """Create or resume the study; from here on it is in the database.

        Raises SpecError or StudyFileError if another start has made it meanwhile, and differently.
        """
        request = self.request
        hold_out(self.task, request.data_dir)  # may fail, and there must be no study then
        db = self.db or open_database(request.storage, runs_dir=request.runs_dir)
        try:
            return self._begin(db, stop)
        except BaseException:
            db.close()
            raise

    def _begin(self, db: Database, stop: threading.Event) -> Run:
        request, task = self.request, self.task
        study = self.existing or studies.create_study(
            db,
            self.name,
            self.spec,
            task.info,
            validation_count=len(task.validation),
            content=task.content,
            earlier=self.earlier,
        )
        stored = studies.load_spec(study)
        try:
            studies.resumed_spec(study, self.spec, studies.FIXED)  # the task was loaded for these
            spec = request.spec(stored.dataset, study, self.place)
        except SpecError as error:
            raise request.with_file(error) from error
        run = begin_run(study, spec, task, stop, request.checkpoints, request.trials_per_device)
        set_flat(study, request.stop_when_flat, spec.trials)
        if spec != stored:
            others = {name: getattr(spec, name) for name in studies.BESIDE_TOTALS}
            studies.set_total(study, spec.trials, **others)

        def describe(_: Connection) -> None:
            study.study.set_user_attr(HARDWARE, describe_hardware(task.device))
            study.study.set_user_attr(VERSIONS, versions())

        study.write(describe)  # it may have been deleted while images were loaded
        return run


def make_plan(request: Request, device: torch.device) -> Plan:
    """The plan for a new study, or for resuming an existing one.

    Raises:
        SpecError, StudyFileError: the study is invalid, or differs from the existing one.
        DataError: its images are unavailable; data or initial weights are not those of the study.
        StorageError: the database or the folder cannot be used.
    """
    with ExitStack() as undo:
        db = None
        if database_exists(request.storage):
            db = open_database(request.storage, runs_dir=request.runs_dir)
            undo.callback(db.close)
        dataset, substitute = _choose_dataset(request, db)
        name = request.study_name(dataset)
        existing = None if db is None else studies.find_study(db, name, extensions.check_files)
        place = dataset
        try:
            if existing is not None:
                place = find_place(existing, request.named_place, request.data_dir)
                dataset = studies.load_spec(existing).dataset  # the study's name for it
            spec = request.spec(dataset, existing, place)
            if existing is None:
                check_complete(spec.extensions, spec.families, spec.dataset)
            task = load_study_task(spec, request.data_dir, device, place=place)
            if existing is None and not find_dataset(place).is_ours:
                task = noting_copies(task)
            limits = limits_of(spec, task.image_shape, task.classes)
            earlier = _earlier(request, spec, db, existing, limits)
            queue = read_queue(request.enqueue, spec)
            check_space(spec, task.image_shape, task.classes, queue)
            _check_rules(request, spec)
            check_training(spec, task.image_shape, task.classes, queue, new=existing is None)
            first = sum(len(one.configurations) for one in earlier)
            first += has_baseline(spec, task.image_shape, task.classes)
            new = check_requests(existing, spec, request.continue_trials, queue, first=first)
            of_limits = () if limits is None else (limits.check(new),)
            notes = (*task.info.notes, *of_limits, *map(warm_start_in_words, earlier))
            notes += (*without_effect(spec), *kept_total(spec, request))
            if existing is None and dataset.startswith(FOLDER):
                size, mirror = task.image_shape[1], task.info.mirror_changes_class
                spec = replace(spec, image_size=size, mirror_changes_class=mirror)
        except SpecError as error:
            raise request.with_file(error) from error
        if existing is not None:
            check_data(existing, task)
            check_weights(existing, sources_of(spec, queue))
        if request.checkpoints is not None:
            folders.find_checkpoints(request.checkpoints)
        runs = folders.runs_folder(request.storage, request.runs_dir)
        folders.usable(next(folders.study_folders(runs, name)))
        undo.pop_all()
        return Plan(
            request, name, spec, task, place, substitute, notes, db, existing, queue, earlier
        )


def _check_rules(request: Request, spec: StudySpec) -> None:
    """Check that sampler, pruner and stopping rule can be made, and combined."""
    if request.stop_when_flat is not None and (spec.is_comparison or spec.minimize_also):
        what = "compares arms" if spec.is_comparison else "searches for a Pareto front"
        problem = f"stop_when_flat is for a search for one best trial, but this study {what}"
        raise SpecError("stop_when_flat", problem)
    make_sampler(spec, spec.seed)
    make_pruner(spec)
    stops = find_pruner(spec.pruner)
    if spec.minimize_also and stops.choose is None and spec.pruner != "none":
        what = f"minimize_also and pruner {spec.pruner!r}, which stops small networks"
        other = 'write pruner = "promotion" or "none"'
        raise SpecError("minimize_also", f"{what}, cannot be combined; {other}")


def _earlier(
    request: Request,
    spec: StudySpec,
    db: Database | None,
    existing: StudyHandle | None,
    limits: Limits | None,
) -> tuple[Earlier, ...]:
    """What the study starts from; an existing one kept it, whatever became of the sources."""
    if existing is None:
        return read_earlier(request.warm_start, spec, request.storage, db, limits)
    kept = load_earlier(existing, existing.attributes)
    has = {one.source for one in kept}
    for named in request.warm_start:
        if not any(is_source(source, named, request.storage) for source in has):
            made = f"a warm start from {', '.join(sorted(has))}" if has else "no warm start"
            differs = f"was made with {made}, but got --warm-start {without_password(named)}"
            remedy = "give another --study NAME, or leave it out to resume"
            raise SpecError("warm_start", f"study {existing.name!r} {differs}; {remedy}")
    return kept


def _choose_dataset(request: Request, db: Database | None) -> tuple[str, str | None]:
    """(data set, why it is a substitute or None)."""
    dataset, reason = request.dataset, None
    if dataset is None and request.study is not None and db is not None:
        found = studies.find_study(db, request.study, extensions.check_files)
        dataset = None if found is None else studies.load_facts(found).name
    if dataset is None:
        dataset, reason = choose_dataset(request.data_dir)
    return canonical_name(dataset), reason
