"""Start a study, or carry it on: the same command does both."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from data.datasets import canonical_name, choose_dataset
from search.reporting.commands import Parser, console, duration, positive_int, run, seed
from search.reporting.content_writer import ContentWriter
from search.reporting.progress import Progress
from search.reporting.summary import fallback_notice, final_summary, status_text
from search.training.device import choose_device, describe_hardware, prepare_process
from search.trials.catalog import (
    carry_on_spec,
    create_study,
    find_study,
    load_study_task,
    note_environment,
    require_study,
    set_total,
)
from search.trials.config import StudySpec, check_study_name, study_name_for
from search.trials.domains import SpecError
from search.trials.folders import DEFAULT_STORAGE, run_folder
from search.trials.history import count_reports
from search.trials.journal import journal_from_environment
from search.trials.loop import Worker, work
from search.trials.opening import database_exists, open_database
from search.trials.space import check_space
from search.trials.status import status
from search.trials.stopping import StopOnSignal
from search.trials.storage import Database
from search.trials.study_file import StudyFileError, find_study_file, located, read_study_file
from search.trials.team import WATCH_SECONDS, Team, default_workers, threads_for
from search.trials.view import load_facts, view_study

FLAGS = ("dataset", "trials", "epochs", "seed")  # that are fields of a study's specification
EXAMPLES = """
python -m search.study                          # 50 trials on Fashion-MNIST, into studies.db
python -m search.study --trials 80              # go on with that study, up to 80 trials
python -m search.study --timeout 30m            # leave after half an hour; repeat to go on
python -m search.study --dataset folder:photos  # your own images: photos/train/<class>/*
python -m search.study --config mine.toml       # your own space: copy search/studies/default.toml
python -m search.study --status                 # how it stands, asked from another terminal
"""


def parser() -> Parser:
    own = Parser(
        description="Search for a good image classifier. Starts a study, or carries it on where "
        "it stopped: Ctrl-C leaves within seconds and loses nothing.",
        examples=EXAMPLES,
    )
    own.add_argument("--config", metavar="FILE", help="study file (TOML), or a ready-made one")
    own.add_argument(
        "--trials",
        type=positive_int,
        metavar="N",
        help="finished trials (complete or pruned) to end with, in all (default: 50)",
    )
    own.add_argument(
        "--timeout", type=duration, metavar="TIME", help="leave after 90s, 30m or 1h30m"
    )
    own.add_argument(
        "--dataset",
        metavar="NAME",
        help="fashion_mnist, mnist, cifar10, cifar100, cifar100_coarse, digits or folder:PATH "
        "(default: fashion_mnist, or digits where that cannot be had)",
    )
    own.add_argument(
        "--study", metavar="NAME", help="its name in the database (default: the data set's)"
    )
    own.add_argument("--storage", metavar="URL", default=DEFAULT_STORAGE, help="the database")
    own.add_argument(
        "--epochs", type=positive_int, metavar="E", help="most epochs of a trial (default: 12)"
    )
    own.add_argument(
        "--workers",
        type=positive_int,
        metavar="W",
        help="processes that train at a time (default: one a core, 8 at most; one on a GPU, or "
        "with --seed, since only one alone repeats a study exactly)",
    )
    own.add_device()
    own.add_argument(
        "--seed",
        type=seed,
        metavar="S",
        help="decides split, draws and initial weights; implies --workers 1 (default: 0)",
    )
    own.add_data_dir()
    own.add_argument("--status", action="store_true", help="say how the study stands, and leave")
    return own


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a person asked for.

    Attributes:
        fields: of `StudySpec`: the study file's, and the flags over them.
        flags: the fields that came by flag.
        named: the fields that a study which exists must agree with.
        file: the study file, for messages.
    """

    fields: dict[str, Any]
    flags: frozenset[str]
    named: frozenset[str]
    file: Path

    def spec(self, dataset: str) -> StudySpec:
        return StudySpec(**{**self.fields, "dataset": dataset})


def read_wish(args: argparse.Namespace) -> Wish:
    file = find_study_file(args.config or "default")
    fields = read_study_file(file)
    flags = {name: value for name in FLAGS if (value := getattr(args, name)) is not None}
    named = {*flags, *(fields if args.config else ())}
    return Wish(
        fields={**fields, **flags}, flags=frozenset(flags), named=frozenset(named), file=file
    )


def choose(
    args: argparse.Namespace, wish: Wish, data_dir: Path, db: Database | None
) -> tuple[str, str, str | None]:
    """(study's name, data set, why the data set is a substitute or None)."""
    dataset, reason = wish.fields.get("dataset"), None
    if dataset is None and args.study is not None and db is not None:
        study = find_study(db, args.study)
        dataset = None if study is None else load_facts(study).name
    if dataset is None:
        dataset, reason = choose_dataset(data_dir)
    name = args.study or study_name_for(dataset)
    if args.config and not args.study:
        name = f"{study_name_for(wish.file.stem)}-{name}"
    return check_study_name(name), canonical_name(dataset), reason


def prepare(args: argparse.Namespace, stop: threading.Event) -> tuple[Worker, str | None]:
    """Find everything that a person can get wrong before the first thing is written."""
    device = choose_device(args.device)
    data_dir = args.data_dir
    wish = read_wish(args)
    db = open_database(args.storage) if database_exists(args.storage) else None
    name, dataset, reason = choose(args, wish, data_dir, db)
    existing = find_study(db, name) if db is not None else None
    try:
        spec = wish.spec(dataset)
        if existing is not None:
            spec = carry_on_spec(existing, spec, wish.named)
        task = load_study_task(spec, data_dir, device)
        check_space(spec, task.image_shape, task.classes)
    except SpecError as error:
        raise _with_line(wish, error) from error
    folder = run_folder(name)

    db = db or open_database(args.storage)
    study = existing or create_study(
        db, name, spec, task.info, validation_count=len(task.validation)
    )
    set_total(study, spec.trials)
    note_environment(study, describe_hardware(device))
    worker = Worker(
        db=db,
        study=study,
        spec=spec,
        task=task,
        folder=folder,
        stop=stop,
        journal=journal_from_environment(),
    )
    return worker, reason


def _with_line(wish: Wish, error: SpecError) -> ValueError:
    """The error with the line of the study file that it stems from, if it stems from one."""
    in_file = error.key in wish.fields or error.key in wish.fields["space"]
    if not in_file or error.key in wish.flags:
        return error
    return StudyFileError(f"{located(wish.file, error.key)}: {error}")


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.study is not None:
        check_study_name(args.study)
    if args.status:
        db = open_database(args.storage, must_exist=True)
        study = require_study(db, args.study)
        print(status_text(view_study(db, study), status(db, study)))
        return 0
    prepare_process()
    with StopOnSignal() as stopping:
        worker, reason = prepare(args, stopping.event)
        stopping.on_signal = worker.db.hurry
        if reason is not None:
            print(fallback_notice(reason), file=sys.stderr)
        search(worker, make_team(args, worker), args.timeout)
        view = view_study(worker.db, worker.study)
    if stopping.signal is None:
        print(final_summary(view))
        if reason is not None:
            print(fallback_notice(reason))
    else:
        again = shlex.join(["python", "-m", "search.study", *(argv or sys.argv[1:])])
        print(
            f"Stopped, nothing is lost: {view.finished} of {view.spec.trials} trials finished. "
            f"Go on with: {again}",
            file=sys.stderr,
        )
    return stopping.exit_code


def search(worker: Worker, team: Team | None, timeout: float | None) -> None:
    """Train trials until the total, the time limit or a signal; show how it goes."""
    timer = threading.Timer(timeout or 0, worker.stop.set)
    timer.daemon = True
    if timeout is not None:
        timer.start()
    content = ContentWriter(worker.db, worker.study)
    workers = 1 if team is None else len(team.devices)
    read = partial(view_study, worker.db, worker.study)
    try:
        with Progress(read, console=console(), workers=workers):
            if team is None:
                work(dataclasses.replace(worker, on_change=content.write_if_due))
            else:
                oversee(team, worker.stop, content)
    finally:
        timer.cancel()
        content.write()


def oversee(team: Team, stop: threading.Event, content: ContentWriter) -> None:
    """Keep the workers at work until the study has its total, or until `stop` is set."""
    team.start()
    try:
        while not stop.is_set() and team.watch():
            stop.wait(WATCH_SECONDS)
            content.write_if_due()
    finally:
        team.send_home()


def make_team(args: argparse.Namespace, worker: Worker) -> Team | None:
    """The local processes to start; None where this process does the work itself."""
    device = worker.task.device
    repeatable = args.seed is not None  # several workers would race for the sampler's draws
    count = args.workers or (1 if repeatable else default_workers(device.type))
    if count == 1:
        return None
    devices = [str(device)] * count
    if args.device in ("auto", "cuda") and device.type == "cuda":
        devices = [f"cuda:{number % torch.cuda.device_count()}" for number in range(count)]
    threads = threads_for(count) if device.type == "cpu" else 1
    each = "a thread" if threads == 1 else f"{threads} threads"
    print(f"{count} workers with {each} each", file=sys.stderr)
    return Team(
        url=args.storage,
        study=worker.study.study_name,
        devices=devices,
        data_dir=args.data_dir,
        threads=threads,
        count_reports=partial(count_reports, worker.db, worker.study._study_id),
    )


if __name__ == "__main__":
    run(main)
