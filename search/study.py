"""Start a study, or carry it on: the same command does both."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from data.datasets import dataset_choices
from search.analysis.wording import printable
from search.running import joining
from search.running.stopping import StopOnSignal
from search.running.team import threads_for
from search.spec.config import check_study_name
from search.spec.study_file import listing
from search.store.catalog import require_study
from search.store.opening import open_database
from search.store.reading import view_study
from search.store.status import status
from search.store.storage import Database
from search.terminal.command_line import same_command
from search.terminal.commands import Parser, duration, positive_int, run_process, seed
from search.terminal.summary import fallback_notice, final_summary, status_text

# What trains is imported where it is needed: to load torch takes longer than all of --status.
if TYPE_CHECKING:
    import torch

    from search.running.crew import Crew
    from search.running.planning import Plan

STATUS_TRIALS = 200  # that `--status` reads one by one; its counts are of all
FLAGS = (
    "dataset",
    "trials",
    "repeats",
    "epochs",
    "limit",
    "seed",
    "image_size",
    "mirror_changes_class",
)  # fields of a StudySpec
MIRROR = {"safe": False, "unsafe": True}
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
        help="total number of finished trials, complete or pruned (default: the study file's; 50 "
        "in the default one)",
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
        help=f"{dataset_choices()} (default: fashion_mnist, or digits where that cannot be had)",
    )
    own.add_argument(
        "--study",
        metavar="NAME",
        help="its name in the database (default: the file's or the data's)",
    )
    own.add_storage()
    own.add_argument(
        "--epochs",
        type=positive_int,
        metavar="E",
        help="maximum epochs per trial (default: the study file's; 10 in the default one)",
    )
    own.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="train on so many examples only, the same share of each class (default: all)",
    )
    own.add_argument(
        "--image-size",
        type=positive_int,
        metavar="PIXELS",
        help="side of the images that your own pictures are made (default: chosen from them)",
    )
    own.add_argument(
        "--mirror",
        dest="mirror_changes_class",
        type=changes_class,
        metavar="safe|unsafe",
        help="whether a mirrored picture stays in its class; unsafe: none is flipped (default: "
        "guessed from the data set, and said)",
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
        "with --seed, since several race for the sampler's draws)",
    )
    own.add_device()
    own.add_trials_per_device()
    own.add_argument(
        "--seed",
        type=seed,
        metavar="S",
        help="decides split, draws and initial weights; implies --workers 1 and "
        "--trials-per-device 1. On a CPU with as many threads and the same versions, the same seed "
        "gives the same values to the bit (default: the study file's; 0 in the default one)",
    )
    own.add_data_dir()
    own.add_runs_dir()
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


def changes_class(text: str) -> bool:
    """What --mirror says."""
    if text not in MIRROR:
        raise argparse.ArgumentTypeError(f"safe or unsafe is wanted, but got {text!r}")
    return MIRROR[text]


def plan_for(args: argparse.Namespace, device: torch.device) -> Plan:
    from search.running.planning import make_plan

    return make_plan(
        config=args.config,
        flags={name: value for name in FLAGS if (value := getattr(args, name)) is not None},
        weights=args.weights,
        study=args.study,
        url=args.storage,
        data_dir=args.data_dir,
        runs_dir=args.runs_dir,
        device=device,
    )


def crew_for(args: argparse.Namespace) -> Crew:
    from search.running.crew import Crew

    return Crew(
        device=args.device,
        data_dir=args.data_dir,
        runs_dir=args.runs_dir,
        workers=args.workers,
        trials_per_device=args.trials_per_device,
        repeatable=args.seed is not None,
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
        print(status_text(view_study(db, study, most=STATUS_TRIALS), status(db, study)))
        return 0
    from search.running.crew import carry_out
    from search.training.device import choose_device, prepare_process

    prepare_process()
    device = choose_device(args.device)
    if args.dry_run:
        print(rehearse(args, plan_for(args, device)))
        return 0
    crew = crew_for(args)
    with StopOnSignal() as stopping:

        def hurry_on_signal(db: Database) -> None:
            stopping.on_signal = db.hurry

        team = crew.team(device, args.storage, fork=work_as_copy)
        if team.fork is not None:
            joining.load_libraries()
        with team:
            plan = plan_for(args, device)
            reason = plan.substitute
            if reason is not None:
                print(fallback_notice(reason), file=sys.stderr)
            view = carry_out(
                plan,
                crew,
                team,
                stop=stopping.event,
                timeout=args.timeout,
                progress=True,
                on_database=hurry_on_signal,
            )
    if stopping.signal is None:
        print(final_summary(view))
        if reason is not None:
            print(fallback_notice(reason))
    else:
        again = same_command(argv or sys.argv[1:])
        print(
            f"Interrupted, nothing is lost: {view.finished} of {view.spec.trials} trials finished. "
            f"Go on with: {again}",
            file=sys.stderr,
        )
    return stopping.exit_code


def work_as_copy(arguments: list[str]) -> NoReturn:
    """What a copy of this process does as one of its team."""
    run_process(lambda _: joining.main(arguments))


def rehearse(args: argparse.Namespace, plan: Plan) -> str:
    """What would be trained, and how long that may take."""
    import torch

    from search.terminal.forecast import forecast

    workers = len(crew_for(args).devices(plan.task.device))
    if plan.task.device.type == "cpu":
        torch.set_num_threads(threads_for(workers))
    begun = 0 if plan.existing is None else len(plan.existing.get_trials(deepcopy=False))
    text = forecast(plan.name, plan.spec, plan.task, begun=begun, workers=workers)
    notice = "" if plan.substitute is None else f"{fallback_notice(plan.substitute)}\n"
    notes = "".join(f"{printable(note)}\n" for note in plan.task.info.notes)
    return f"{notice}{text}\n\n{notes}Nothing was written. Leave --dry-run out to begin."


if __name__ == "__main__":
    run_process(main)
