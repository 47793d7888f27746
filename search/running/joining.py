"""A process that works on a running study: a command of its own, or a copy of the study command."""

from __future__ import annotations

import argparse
import sys
import threading
from functools import partial
from importlib import import_module

import optuna
import torch

from search.reporting.commands import BAD_INPUT, Parser, console, positive_int
from search.reporting.progress import Progress
from search.training.device import choose_device, describe_hardware, prepare_process
from search.trials.catalog import load_study_task, require_study
from search.trials.config import check_study_name
from search.trials.folders import artifact_folder, runs_folder
from search.trials.identity import told_if_gone
from search.trials.journal import journal_from_environment
from search.trials.leftovers import sweep
from search.trials.loop import work
from search.trials.opening import open_database
from search.trials.reading import view_study
from search.trials.space import check_space
from search.trials.stopping import StopOnSignal, stop_with_parent
from search.trials.storage import Database, StudyGoneError
from search.trials.study_data import find_place, keep_data
from search.trials.study_folder import check_folder, study_folder
from search.trials.team import TOLD_LATER
from search.trials.transfer import check_sources
from search.trials.view import load_spec
from search.trials.worker import Worker

# Of data sets, of their split, and of torch's optimisers.
LOADED_LATE = ("torchvision.datasets", "sklearn.model_selection", "torch._dynamo")
EXAMPLES = """
python -m search.worker --storage postgresql://me@host/studies --study fashion_mnist
SEARCH_STORAGE=postgresql://me@host/studies python -m search.worker --study fashion_mnist
"""


def parser() -> Parser:
    own = Parser(
        description="Join a study that `python -m search.study` has started, on this or another "
        "host, and train its trials until it has its total. Come and go at any time: a trial that "
        "is left behind is carried on by another worker.",
        examples=EXAMPLES,
    )
    own.add_storage()
    own.add_argument(
        "--study",
        metavar="NAME",
        help=f"which (default: worked on last); {TOLD_LATER}: its name comes on standard input",
    )
    own.add_moved_dataset()
    own.add_device()
    own.add_argument(
        "--threads", type=positive_int, metavar="T", help="of this process (default: all cores)"
    )
    own.add_trials_per_device()
    own.add_data_dir()
    own.add_runs_dir()
    own.add_argument("--quiet", action="store_true", help="show errors only")
    own.add_argument(
        "--parent",
        type=positive_int,
        metavar="PID",
        help="leave when this process, which has started this one, ends (Linux)",
    )
    return own


def load_libraries() -> None:
    """What is otherwise loaded when it is first used, between the start and the first trial."""
    for name in LOADED_LATE:
        import_module(name)


def main(argv: list[str] | None = None) -> int:
    """`python -m search.worker`; its arguments, by default those of the process."""
    args = parser().parse_args(argv)
    if args.parent is not None:
        stop_with_parent(args.parent)
    if args.study == TOLD_LATER:
        load_libraries()
        args.study = sys.stdin.read()
        if not args.study:
            return 0  # there is nothing to do after all
    if args.study is not None:
        check_study_name(args.study)
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
    from search.reporting.content_writer import ContentWriter

    ContentWriter(db, study, artifact_folder(runs)).write(stop)
    sweep(db, study, worker.folder)
