"""Start a study, or carry it on: the same command does both."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import threading
from functools import partial

import torch

from search.reporting.commands import Parser, console, duration, positive_int, run, seed
from search.reporting.content_writer import ContentWriter
from search.reporting.forecast import forecast
from search.reporting.progress import Progress
from search.reporting.ready_made import listing
from search.reporting.summary import fallback_notice, final_summary, status_text
from search.training.device import choose_device, prepare_process
from search.trials.catalog import require_study
from search.trials.config import check_study_name
from search.trials.folders import DEFAULT_STORAGE
from search.trials.history import count_reports
from search.trials.loop import Worker, work
from search.trials.opening import open_database
from search.trials.planning import Plan, begin, make_plan
from search.trials.status import status
from search.trials.stopping import StopOnSignal
from search.trials.team import WATCH_SECONDS, Team, default_workers, threads_for
from search.trials.view import view_study

FLAGS = ("dataset", "trials", "repeats", "epochs", "limit", "seed")  # fields of a StudySpec
EXAMPLES = """
python -m search.study                          # 50 trials on Fashion-MNIST, into studies.db
python -m search.study --trials 80              # go on with that study, up to 80 trials
python -m search.study --timeout 30m            # leave after half an hour; repeat to go on
python -m search.study --dataset folder:photos  # your own images: photos/train/<class>/*
python -m search.study --config mine.toml       # your own space: copy search/studies/default.toml
python -m search.study --status                 # how it stands, asked from another terminal
python -m search.study --list                   # ready-made studies: comparisons and searches
python -m search.study --config a4_dropout --dry-run     # what it would train, and how long
python -m search.study --config a4_dropout --repeats 5   # each of its arms with 5 seeds
"""


def parser() -> Parser:
    own = Parser(
        description="Search for a good image classifier. Starts a study, or carries it on where "
        "it stopped: Ctrl-C leaves within seconds and loses nothing.",
        examples=EXAMPLES,
    )
    own.add_argument(
        "--config", metavar="FILE|NAME", help="a study file (TOML), or a ready-made one: see --list"
    )
    own.add_argument(
        "--trials",
        type=positive_int,
        metavar="N",
        help="finished trials (complete or pruned) to end with, in all (default: 50)",
    )
    own.add_argument(
        "--repeats",
        type=positive_int,
        metavar="R",
        help="of a study that compares arms: how many times each is trained, in all",
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
        "--study",
        metavar="NAME",
        help="its name in the database (default: the file's or the data's)",
    )
    own.add_argument("--storage", metavar="URL", default=DEFAULT_STORAGE, help="the database")
    own.add_argument(
        "--epochs", type=positive_int, metavar="E", help="most epochs of a trial (default: 12)"
    )
    own.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="train on so many examples only, the same share of each class (default: all)",
    )
    own.add_argument(
        "--weights",
        metavar="FILE",
        help="start from these in place of those that the study file names: a file, or the folder "
        "of a finalised model",
    )
    own.add_argument(
        "--workers",
        type=positive_int,
        metavar="W",
        help="processes that train at a time (default: one a core, 8 at most; one on a GPU, or "
        "with --seed, since only one alone repeats a study exactly)",
    )
    own.add_device()
    own.add_trials_per_device()
    own.add_argument(
        "--seed",
        type=seed,
        metavar="S",
        help="decides split, draws and initial weights; implies --workers 1 (default: 0)",
    )
    own.add_data_dir()
    instead = own.add_mutually_exclusive_group()
    instead.add_argument(
        "--status", action="store_true", help="say how the study stands, and leave"
    )
    instead.add_argument(
        "--list", action="store_true", help="name the ready-made studies, and leave"
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be trained and how long it may take, and leave; takes some seconds",
    )
    return own


def plan_for(args: argparse.Namespace) -> Plan:
    return make_plan(
        config=args.config,
        flags={name: value for name in FLAGS if (value := getattr(args, name)) is not None},
        weights=args.weights,
        study=args.study,
        url=args.storage,
        data_dir=args.data_dir,
        device=choose_device(args.device),
    )


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.study is not None:
        check_study_name(args.study)
    if args.list:
        print(listing())
        return 0
    if args.status:
        db = open_database(args.storage, must_exist=True)
        study = require_study(db, args.study)
        print(status_text(view_study(db, study), status(db, study)))
        return 0
    prepare_process()
    if args.dry_run:
        print(rehearse(args, plan_for(args)))
        return 0
    with StopOnSignal() as stopping:
        plan = plan_for(args)
        reason = plan.substitute
        at_a_time = args.trials_per_device or (1 if args.seed is not None else None)
        worker = begin(plan, stopping.event, trials_at_a_time=at_a_time)
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


def rehearse(args: argparse.Namespace, plan: Plan) -> str:
    """What would be trained, and how long that may take."""
    workers = len(devices_for(args, plan.task.device))
    if plan.task.device.type == "cpu":
        torch.set_num_threads(threads_for(workers))
    begun = 0 if plan.existing is None else len(plan.existing.get_trials(deepcopy=False))
    text = forecast(plan.name, plan.spec, plan.task, begun=begun, workers=workers)
    notice = "" if plan.substitute is None else f"{fallback_notice(plan.substitute)}\n"
    return f"{notice}{text}\n\nNothing was written. Leave --dry-run out to begin."


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


def devices_for(args: argparse.Namespace, device: torch.device) -> list[str]:
    """The device of each process that is to train."""
    repeatable = args.seed is not None  # several workers would race for the sampler's draws
    every_gpu = args.device in ("auto", "cuda") and device.type == "cuda"
    gpus = torch.cuda.device_count() if every_gpu else 1
    count = args.workers or (1 if repeatable else default_workers(device.type, gpus=gpus))
    if every_gpu:
        return [f"cuda:{number % gpus}" for number in range(count)]
    return [str(device)] * count


def make_team(args: argparse.Namespace, worker: Worker) -> Team | None:
    """The local processes to start; None where this process does the work itself."""
    device = worker.task.device
    devices = devices_for(args, device)
    count = len(devices)
    if count == 1:
        return None
    threads = threads_for(count) if device.type == "cpu" else 1
    each = "a thread" if threads == 1 else f"{threads} threads"
    print(f"{count} workers with {each} each", file=sys.stderr)
    return Team(
        url=args.storage,
        study=worker.study.study_name,
        devices=devices,
        data_dir=args.data_dir,
        threads=threads,
        trials_per_device=worker.trials_at_a_time,
        count_reports=partial(count_reports, worker.db, worker.study._study_id),
    )


if __name__ == "__main__":
    run(main)
