"""A process that works on a running study: a command of its own, or a copy of the study command."""

from __future__ import annotations

import sys
from importlib import import_module

from search.running.stopping import stop_with_parent
from search.running.team import TOLD_LATER
from search.spec.config import check_study_name
from search.terminal.commands import Parser, positive_int

# All that trains; and what that loads when first used: for data sets, their split, optimisers.
LOADED_LATE = (
    "search.running.member",
    "torchvision.datasets",
    "sklearn.model_selection",
    "torch._dynamo",
)
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
    from search.running.member import take_part

    return take_part(args)
