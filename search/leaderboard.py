"""Print a study's trials, or the arms of a comparison, best first."""

from __future__ import annotations

import sys

from search.terminal.commands import Parser, positive_int, run

PIPED = 1000  # columns, where nobody's terminal cuts them
EXAMPLES = """
python -m search.leaderboard                           # the study that was worked on last
python -m search.leaderboard --study a4_dropout        # a comparison: its arms
python -m search.leaderboard --top 3 --json            # for a script
python -m search.leaderboard --csv > trials.csv        # for a spreadsheet
"""


def parser() -> Parser:
    own = Parser(
        description="Print a study's trials by rank: value, error, epochs, parameters, "
        "configuration; of a comparison its arms, with means over the seeds and what a test says. "
        "Reads the database only, also while the study runs.",
        examples=EXAMPLES,
    )
    own.add("study", "storage")
    own.add_argument(
        "--top", type=positive_int, metavar="N", help="only the first N rows (default: all)"
    )
    how = own.add_mutually_exclusive_group()
    how.add_argument(
        "--csv", action="store_true", help="every column, each searched parameter's too"
    )
    how.add_argument("--json", action="store_true", help="the same as a list of objects")
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    # Not needed for --help, and they take a second to load.
    from rich.console import Console

    from search.running.results import leaderboard_table, load_study
    from search.terminal.rows import csv_text, json_text
    from search.terminal.tables import leaderboard

    study = load_study(args.study, storage=args.storage)
    if args.csv or args.json:
        rows = leaderboard_table(study)[: args.top]
        print((csv_text if args.csv else json_text)(rows), end="")
        return 0
    is_terminal = sys.stdout.isatty()
    table = leaderboard(study, args.top)
    table.title, table.expand = study.name, table.expand and is_terminal
    Console(width=None if is_terminal else PIPED).print(table)
    return 0


if __name__ == "__main__":
    run(main)
