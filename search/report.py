"""Turn a study into tables, figures and statements: an offline page, Markdown, PNG and SVG."""

from __future__ import annotations

from datetime import UTC, datetime

from search.figures import FIGURES, KINDS, Kind
from search.terminal.command_line import command
from search.terminal.commands import Parser, run

EXAMPLES = """
python -m search.report                       # the study that was worked on last
python -m search.report --study a4_dropout    # another one
python -m search.report --formats svg         # figures for a paper in this format only
"""


def parser() -> Parser:
    own = Parser(
        description="Write what a study found to runs/<study>/: report.html, a page that needs no "
        "network, report.md, and every figure as a file in figures/. Reads no images, and works "
        "while the study runs.",
        examples=EXAMPLES,
    )
    own.add("study", "storage", "runs-dir")
    own.add_argument(
        "--formats",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        help=f"of the figures' files (default: {' '.join(KINDS)})",
    )
    own.add_registry("figures, where a study has what they show", FIGURES)
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    # Not needed for --help, and with all that draws they take seconds to load.
    from search.analysis.comparison import evaluate_journal
    from search.analysis.wording import printable
    from search.pages.report import make_report, write_report
    from search.store.folders import runs_folder, study_folder
    from search.store.opening import open_database
    from search.store.studies import require_study
    from search.store.views import view_study

    study = require_study(open_database(args.storage, must_exist=True), args.study)
    view = view_study(study)
    folder = study_folder(study, runs_folder(args.storage, args.runs_dir))
    kind: Kind = "png" if "png" in args.formats else "svg"  # that report.md shows
    files = write_report(make_report(view, datetime.now(UTC), kind), folder, args.formats)
    for evaluation in evaluate_journal(view):
        print(f"{evaluation.outcome}: {printable(evaluation.entry.hypothesis)}")
    print(f"Written to {folder}: report.html, report.md and {len(files) - 2} files in figures/")
    if view.best is not None and not view.results:
        print(f"Next: {command('finalize', study.name, args.storage)}")
    return 0


if __name__ == "__main__":
    run(main)
