"""Add this process, on this or another host, to a running study."""

from __future__ import annotations

from search.terminal.commands import LOADING, Parser, duration, log, positive_int, run

EXAMPLES = """
python -m search.worker --storage postgresql://me@host/studies --study fashion_mnist
SEARCH_STORAGE=postgresql://me@host/studies python -m search.worker --study fashion_mnist
"""


def parser() -> Parser:
    own = Parser(
        description="Join a study that `python -m search.study` has started, on this or another "
        "host, and train its trials until it has its total. Workers may come and go at any time: "
        "a trial that one leaves behind is resumed by another.",
        examples=EXAMPLES,
    )
    own.add("storage", "study", "dataset", "device")
    own.add_argument(
        "--threads", type=positive_int, metavar="T", help="number of threads (default: all cores)"
    )
    own.add("trials-per-device", "data-dir", "runs-dir", "checkpoints")
    own.add_argument(
        "--max-seconds",
        type=duration,
        metavar="S",
        help="stop after S seconds, and release the trials; for batch systems, see "
        "docs/clusters.md. Exit code: 0 if the study is finished, 75 if this worker should be "
        "started again, also because the database is unavailable, 2 after a user error",
    )
    own.add_argument("--quiet", action="store_true", help="show errors only")
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if not args.quiet:
        log(LOADING)
    from search.running.worker import join_study

    return join_study(**vars(args))


if __name__ == "__main__":
    run(main)
