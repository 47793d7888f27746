"""What a process that has joined a study does: train its trials until the study has its total."""

from __future__ import annotations

import argparse
import sys
import threading
from functools import partial

import optuna
import torch

from search.running.journal import journal_from_environment
from search.running.loop import work
from search.running.stopping import StopOnSignal
from search.running.worker import Worker
from search.spec.space import check_space
from search.store.catalog import require_study
from search.store.folders import artifact_folder, runs_folder
from search.store.identity import told_if_gone
from search.store.leftovers import sweep
from search.store.opening import open_database
from search.store.reading import view_study
from search.store.storage import Database, StudyGoneError
from search.store.study_data import find_place, keep_data, load_study_task
from search.store.study_folder import check_folder, study_folder
from search.store.view import load_spec
from search.terminal.commands import BAD_INPUT, console
from search.terminal.progress import Progress
from search.training.device import choose_device, describe_hardware, prepare_process
from search.training.weights import check_sources


def take_part(args: argparse.Namespace) -> int:
    """Work on the study that the arguments of `search.running.joining` name; the exit code."""
    device = choose_device(args.device)
    prepare_process(args.threads)
    with StopOnSignal() as stopping:
        db = open_database(args.storage, must_exist=True)
        stopping.on_signal = db.hurry
        study = require_study(db, args.study)
        try:
            with told_if_gone(db, study):
                _join(args, db, study, device, stopping.event)
        except StudyGoneError:
            if args.parent is None:
                raise
            return BAD_INPUT  # the process that has started this one says it for all
    return stopping.exit_code


def _join(
    args: argparse.Namespace,
    db: Database,
    study: optuna.Study,
    device: torch.device,
    stop: threading.Event,
) -> None:
    runs = runs_folder(args.storage, args.runs_dir)
    spec = load_spec(study)
    place = find_place(db, study, args.dataset, args.data_dir)
    task = load_study_task(spec, args.data_dir, device, place=place)
    keep_data(db, study, task)
    # Whoever made the study has checked it; whoever can write to the database may have not.
    check_space(spec, task.image_shape, task.classes)
    if args.parent is None:
        check_sources(spec, task.image_shape, task.classes)
    folder = study_folder(db, study, runs)
    worker = Worker(
        db=db,
        study=study,
        spec=spec,
        task=task,
        folder=folder,
        stop=stop,
        check=partial(check_folder, db, study, folder),
        journal=journal_from_environment(),
        trials_at_a_time=args.trials_per_device,
    )
    if args.quiet:
        work(worker)
        return
    read = told_if_gone(db, study)(partial(view_study, db, study))
    sweep(db, study, worker.folder)
    print(f"{describe_hardware(device)} joins study {study.study_name}", file=sys.stderr)
    with Progress(read, console=console()):
        work(worker)
    # One of a team, which starts often, is spared the libraries for pictures.
    from search.dashboard.content_writer import ContentWriter

    ContentWriter(db, study, artifact_folder(runs)).write(stop)
    sweep(db, study, worker.folder)
