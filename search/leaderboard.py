"""Print a study's trials, or the arms of a comparison, best first."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

from search.terminal.commands import Parser, positive_int, run

PIPED = 1000  # columns, if no terminal limits them
EXAMPLES = """
python -m search.leaderboard                           # the study that was worked on last
python -m search.leaderboard --study a4_dropout        # a comparison: its arms
python -m search.leaderboard --top 3 --json            # for a script
python -m search.leaderboard --csv > trials.csv        # for a spreadsheet
"""


def parser() -> Parser:
    own = Parser(
        description="Print a study's trials by rank: value, error, epochs, parameters, "
        "configuration; for a comparison its arms, with means over seeds and the verdict of a "
        "test. Only reads the database, also while the study runs.",
        examples=EXAMPLES,
    )
    own.add("study", "storage")
    own.add_argument(
        "--top", type=positive_int, metavar="N", help="only the first N rows (default: all)"
    )
    how = own.add_mutually_exclusive_group()
    for name in ("csv", "json"):
        what = f"all columns, including every searched parameter, as {name.upper()}"
        how.add_argument(f"--{name}", dest="format", action="store_const", const=name, help=what)
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    # Not needed for --help, and they take a second to load.
    from rich.console import Console

    from search.running.results import load_study

    with redirect_stdout(sys.stderr):  # what the user's own files print is no data
        study = load_study(args.study, storage=args.storage)
    if args.format is not None:
        from search.running.exports import encoded

        rows = study.to_pandas("leaderboard")
        rows = rows if args.top is None else rows.head(args.top)
        sys.stdout.flush()
        sys.stdout.buffer.write(encoded(rows, args.format))  # no text: print would change it
        return 0
    table = study.standings(args.top)
    table.expand = table.expand and sys.stdout.isatty()
    Console(width=None if sys.stdout.isatty() else PIPED).print(table)
    return 0


if __name__ == "__main__":
    run(main)
