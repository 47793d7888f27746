"""Start a study, or resume it: the same command does both."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from data.augmentations import AUGMENTATIONS
from data.datasets import DATASETS, FORMS, canonical_name
from models import FAMILIES
from search.analysis.wording import in_columns, size_in_words
from search.figures import FIGURES
from search.running.request import read_request
from search.sampling.registry import PRUNERS, SAMPLERS
from search.spec.config import StudySpec
from search.spec.extensions import Extension, load_extension, needed
from search.spec.objectives import OBJECTIVES
from search.spec.schedules import SCHEDULES
from search.spec.study_file import describe_keys, find_study_file, read_study_file, ready_made
from search.spec.study_name import check_study_name
from search.terminal.command_line import same_command
from search.terminal.commands import (
    LOADING,
    Parser,
    duration,
    log,
    positive_int,
    positive_number,
    run,
    seed,
    trial_number,
)
from search.terminal.stopping import StopOnSignal
from search.training.metrics import METRICS

# Training code is imported where it is needed: loading torch takes longer than all of --status.
COUNTS = {  # options that count something
    "trials": "total number of finished trials, complete or pruned (default: the study file's; "
    "{trials} in the default one)",
    "repeats": "total number of times each arm is trained, in a study that compares arms",
    "epochs": "maximum epochs per trial (default: the study file's; {epochs} in the default one)",
    "limit": "train on only N examples, the same share of each class (default: all)",
    "image-size": "side in pixels that your own pictures are resized to (default: chosen from "
    "them)",
    "workers": "processes that train at a time (default: one per core, at most 8; one per GPU; "
    "with --ray as many as there is room for, at most 8; 1 with --seed, because with several their "
    "timing decides what the sampler proposes)",
}
IN_FILE: dict[str, Mapping[str, Any]] = {
    "augmentation": AUGMENTATIONS,
    "schedule": SCHEDULES,
    "sampler": SAMPLERS,
    "pruner": PRUNERS,
    "metrics": METRICS,
    "objective": OBJECTIVES,
}
MIRROR = {"safe": False, "unsafe": True}
EXAMPLES = """
python -m search.study                          # 50 trials on Fashion-MNIST, into studies.db
python -m search.study --trials 80              # continue that study, up to 80 trials
python -m search.study --timeout 30m            # stop after half an hour; repeat to resume
python -m search.study --dataset folder:photos  # your own images: photos/<class>/*
python -m search.study --config mine.toml       # your own space: copy search/studies/default.toml
python -m search.study --continue 17            # train trial 17, which was stopped, to its end
python -m search.study --trials 51 --enqueue "learning_rate=3e-3, depth=4"   # your own trial
python -m search.study --dataset mnist --warm-start fashion_mnist  # begin with its best
python -m search.study --status                 # its progress, from another terminal
python -m search.study --config small           # networks of at most 50 000 parameters
python -m search.study --list                   # ready-made studies: comparisons and searches
python -m search.study --config a4_dropout --dry-run     # what it would train, and how long
python -m search.study --config a4_dropout --repeats 5   # each of its arms with 5 seeds
"""


def parser() -> Parser:
    default = StudySpec(dataset="fashion_mnist", **read_study_file(find_study_file("default")))
    own = Parser(
        description="Search for a good image classifier. Starts a study, or resumes it where it "
        "stopped: Ctrl-C stops within seconds and loses nothing.",
        examples=EXAMPLES,
    )
    own.add_argument(
        "--config",
        metavar="FILE|NAME",
        help="a study file (TOML; its keys are listed below), or a ready-made one: see --list",
    )
    for name, words in COUNTS.items():
        words = words.format(trials=default.trials, epochs=default.epochs)
        own.add_argument(f"--{name}", type=positive_int, metavar="N", help=words)
    own.add_argument(
        "--timeout", type=duration, metavar="TIME", help="stop after 90s, 30m or 1h30m"
    )
    own.add_argument(
        "--dataset",
        metavar="NAME",
        help="see below (default: fashion_mnist, or digits if that is unavailable)",
    )
    own.add_argument(
        "--study",
        metavar="NAME",
        help="its name in the database (default: that of the file or the data set)",
    )
    own.add("storage")
    own.add_argument(
        "--continue",
        dest="continue_trials",
        action="extend",
        nargs="+",
        type=trial_number,
        metavar="N",
        help="first train these paused or pruned trials to their ends, under their numbers; then "
        "the study continues to its total. Each resumes from its checkpoint, or starts over if "
        "none is left. In a comparison also failed trials that did not diverge",
    )
    own.add_argument(
        "--enqueue",
        action="append",
        metavar="PARAMETERS|FILE",
        help="train a configuration of your own before the sampler's: 'learning_rate=3e-3, "
        "depth=4', or a .toml file of [[trial]] tables; may be repeated. Missing parameters are "
        "sampled, and values may lie outside the study's space. It counts towards --trials, may "
        "pause and be pruned like any trial, and the same one is not trained twice",
    )
    own.add_argument(
        "--stop-when-flat",
        type=positive_number,
        metavar="GAIN",
        help="end the study before --trials if further ones are expected to lower the best loss by "
        "less than GAIN (0.001, say): the latest third of the trials gained less, and no paused "
        "one promises more. Checked from 20 trials on. More --trials, or leaving this out, resumes",
    )
    own.add_argument(
        "--mirror",
        choices=MIRROR,
        help="whether a mirrored picture keeps its class; unsafe: none is flipped (default: "
        "guessed from the data set, and reported)",
    )
    own.add_argument(
        "--warm-start",
        action="append",
        metavar="STUDY",
        help="begin with the best configurations of an earlier study, even with other images or "
        "another space. A name, or URL#NAME for another database; may be repeated",
    )
    own.add("device", "trials-per-device", "ray", "cpus-per-worker", "gpus-per-worker")
    own.add_argument(
        "--seed",
        type=seed,
        metavar="S",
        help="decides split, sampling and initial weights; implies --workers 1 and "
        "--trials-per-device 1. On a CPU, the same seed with the same number of threads and the "
        "same versions on the same kind of CPU gives bit-identical values (default: the study "
        f"file's; {default.seed} in the default one)",
    )
    own.add_argument(
        "--extension",
        action="append",
        metavar="FILE.py",
        help="your own data sets, networks, augmentations and more: a Python file that adds to the "
        "lists below; may be repeated, and is kept with the study",
    )
    own.add("data-dir", "runs-dir", "checkpoints")
    instead = own.add_mutually_exclusive_group()
    instead.add_argument(
        "--status",
        action="store_true",
        help="print a study's progress, and exit: of the one that --study, --config, --dataset and "
        "--limit name, or else of the one worked on last",
    )
    instead.add_argument("--list", action="store_true", help="list ready-made studies, and exit")
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be trained and how long it may take, and exit; takes some seconds. "
        "Creates no study, but fetches a data set or ImageNet's weights if they are missing",
    )
    own.add_registry("--dataset, or dataset in a study file", {**DATASETS, **FORMS})
    own.add_registry("family in a study file, or FILE.py:FUNCTION", FAMILIES)
    for title, keys in describe_keys().items():
        own.add_registry(title, keys)
    own.add_registry("figures of the report and the dashboard", FIGURES)
    for name, registry in IN_FILE.items():
        own.add_registry(f"{name} in a study file", registry)
    return own


def load_extensions(argv: list[str] | None) -> tuple[Extension, ...]:
    """Load the files of --extension, so that the parser knows what they add to registries.

    For --help also those that the study file names.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # Without a value it is None here; the real parser reports that.
    early.add_argument("--extension", action="append", nargs="?", default=[])
    early.add_argument("--config", nargs="?")
    early.add_argument("-h", "--help", action="store_true")
    given = early.parse_known_args(argv)[0]
    if given.help and given.config is not None:
        with suppress(ValueError):  # of a file that cannot be used, --help shows nothing
            fields = read_study_file(find_study_file(given.config))
            needed((), (), fields.get("dataset", ""))
    return tuple(load_extension(name, Path(name)) for name in given.extension if name is not None)


def main(argv: list[str] | None = None) -> int:
    extensions = load_extensions(argv)
    args = parser().parse_args(argv)
    if args.list:
        print(listing())
        return 0
    if args.status:
        print(how_it_stands(args.storage, named_studies(args), args.runs_dir))
        return 0
    log(LOADING)
    given = {**vars(args), "mirror_changes_class": MIRROR.get(args.mirror)}
    request = read_request(args.config, given, extensions=extensions)
    from search.running.study import rehearse, search_study
    from search.terminal.summary import fallback_notice, status_text

    if args.dry_run:
        print(rehearse(request))
        return 0

    notices = []

    def tell(substitute: str) -> None:
        notices.append(fallback_notice(substitute))
        print(notices[0], file=sys.stderr)

    done = ""
    with StopOnSignal() as stopping:
        view = search_study(request, stop=stopping, timeout=args.timeout, on_substitute=tell)
        if stopping.signal is None:
            print(status_text(view), *notices, sep="\n")
            return 0
        done = f": {view.finished} of {view.spec.trials} trials finished"
    again = same_command(argv or sys.argv[1:])
    print(f"Interrupted, nothing is lost{done}. Resume with: {again}", file=sys.stderr)
    return stopping.exit_code


def listing() -> str:
    """`name  title: what runs` of each ready-made study, in columns."""
    rows = []
    for file in ready_made():
        spec = StudySpec(**{"dataset": "fashion_mnist", **read_study_file(file)})
        rows.append((file.stem, f"{spec.title}: {size_in_words(spec)}, {spec.dataset}"))
    return "\n".join(in_columns(rows))


def named_studies(args: argparse.Namespace) -> list[str | None]:
    """The studies that the same options may start or resume, likeliest first; None: the latest."""
    if args.study is not None:
        return [check_study_name(args.study)]
    if not (args.config or args.dataset or args.limit):
        return [None]
    given = {name: getattr(args, name) for name in ("dataset", "limit", "storage")}
    request = read_request(args.config, given)
    datasets = [request.dataset] if request.dataset else ["fashion_mnist", "digits"]
    return [request.study_name(canonical_name(it)) for it in datasets]


def how_it_stands(storage: str, names: Sequence[str | None], runs_dir: Path | None = None) -> str:
    """The state of the first of these studies that exists; None: of the one worked on last."""
    from search.terminal.status import quick_status

    for name in names:
        if (text := quick_status(storage, name)) is not None:
            return text
    from search.store.extensions import read_spec
    from search.store.opening import open_database
    from search.store.records import all_study_names
    from search.store.studies import require_study
    from search.store.views import view_study

    with closing(open_database(storage, must_exist=True, runs_dir=runs_dir)) as db:
        known = all_study_names(db)
        name = next((it for it in names if it in known), names[0])
        view = view_study(require_study(db, name, read_spec))
    from search.terminal.summary import status_text  # tests of arms take a while to load

    return status_text(view)


if __name__ == "__main__":
    run(main)
