"""Turn a study into tables, figures and conclusions: an offline page, Markdown, PNG and SVG."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime

from data.extensions import kept_registries
from search.analysis.wording import printable
from search.figures import FIGURES, KINDS, Kind
from search.spec.domains import SpecError
from search.terminal.command_line import command
from search.terminal.commands import Parser, log, run

EXAMPLES = """
python -m search.report                       # the study that was worked on last
python -m search.report --study a4_dropout    # another one
python -m search.report --formats svg         # figures only in this format, for a paper
python -m search.report --all                 # of every study, with an index page
"""


def parser() -> Parser:
    own = Parser(
        description="Write what a study found to runs/<study>/: report.html, a page that works "
        "offline, report.md, and every figure as a file in figures/. Reads no images, and works "
        "while the study runs.",
        examples=EXAMPLES,
    )
    own.add("study", "storage", "runs-dir")
    own.add_argument(
        "--formats",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        help=f"formats of the figures' files (default: {' '.join(KINDS)})",
    )
    own.add_argument(
        "--all",
        action="store_true",
        help="report every study in the database that can be read, with a table of them and links: "
        "runs/index.html",
    )
    own.add_registry("figures, if a study has what they show", FIGURES)
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.all and args.study is not None:
        raise SpecError("all", f"give --study {args.study} or --all, not both")
    # Not needed for --help, and with the plotting libraries they take seconds to load.
    from search.analysis.comparison import evaluate_journal
    from search.pages.report import make_report, write_index, write_report
    from search.store import StorageError
    from search.store.database import is_transient
    from search.store.extensions import read_spec
    from search.store.folders import runs_folder, study_folder
    from search.store.opening import open_database
    from search.store.records import all_study_names
    from search.store.studies import require_study
    from search.store.views import view_study

    with closing(open_database(args.storage, must_exist=True, runs_dir=args.runs_dir)) as db:
        runs = runs_folder(args.storage, args.runs_dir)
        kind: Kind = "png" if "png" in args.formats else "svg"  # that report.md shows
        written = []

        def report(name: str | None) -> None:
            study = require_study(db, name, read_spec)
            view, folder = view_study(study), study_folder(study, runs)
            log(f"Drawing the figures of {printable(study.name)} ...")
            files = write_report(make_report(view, datetime.now(UTC), kind), folder, args.formats)
            for evaluation in evaluate_journal(view):
                print(f"{evaluation.outcome}: {printable(evaluation.entry.hypothesis)}")
            pages = f"report.html, report.md and {len(files) - 2} files in figures/"
            print(f"Written to {folder}: {pages}")
            if view.best is not None and not view.results:
                print(f"Next: {command('finalize', study.name, args.storage)}")
            written.append((view, folder))

        for name in all_study_names(db) if args.all else [args.study]:
            try:
                with kept_registries():  # each with its own versions of the user's files
                    report(name)
            except StorageError as error:
                if not args.all or is_transient(error.__cause__):
                    raise
                print(f"Skipped: {printable(str(error))}", file=sys.stderr)
        if not written:
            raise StorageError(
                f"no studies to report in {db.url}; run python -m search.study first"
            )
        if args.all:
            print(f"All of them: {write_index(written, datetime.now(UTC), runs)}")
    return 0


if __name__ == "__main__":
    run(main)
