"""Classify your own pictures with a finished network; needs neither data set nor database."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.analysis.wording import counted, printable
from search.terminal.commands import LOADING, Parser, log, positive_int, run

if TYPE_CHECKING:
    from search.final.predict import Predictions

SHEET = "predictions.png"
MOST_SKIPPED = 10  # files in folders that are reported one by one
EXAMPLES = """
python -m search.predict drawing.png                     # the network that was finished last
python -m search.predict --study mnist photos/ a.jpg     # also folders, with their subfolders
python -m search.predict --json --top 10 photos/ > predictions.json
"""


def parser() -> Parser:
    own = Parser(
        description="Classify your own pictures with a network that python -m search.finalize "
        "wrote. Any size, grey or colour. After training on a folder, they are read as it was. If "
        "the training images are arrays of shapes on a plain background, as in MNIST, a picture is "
        "inverted, scaled and centred like them, and the output says so.",
        examples=EXAMPLES,
    )
    own.add_network()
    own.add("runs-dir")
    own.add_argument(
        "--top", type=positive_int, default=3, metavar="K", help="number of classes to list"
    )
    own.add_argument("--json", action="store_true", help="print JSON, for programs")
    own.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE.png",
        help=f"where the contact sheet goes (default: {SHEET} beside the network)",
    )
    own.add_argument("pictures", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER")
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    log(LOADING)
    # Not needed for --help, and with torch they take seconds to import.
    from search.figures.images import MOST
    from search.final.predict import as_text, bundle_folder, check_sheet, predict, write_sheet
    from search.store.folders import from_here
    from search.training.epoch import BundleError

    folder = bundle_folder(args.bundle, args.study, args.runs_dir)
    sheet, fault = args.sheet or folder / SHEET, None
    check_sheet(sheet)
    with redirect_stdout(sys.stderr):  # what the network's own code prints is no data
        found = predict(args.pictures, bundle=folder)
    try:
        write_sheet(found, sheet)
    except BundleError as error:  # a network of others may be in a folder of theirs
        sheet, fault = None, error
    for one in found.skipped[:MOST_SKIPPED]:
        print(f"Skipped: {printable(one.reason)}", file=sys.stderr)
    if (rest := len(found.skipped) - MOST_SKIPPED) > 0:
        print(f"Skipped {counted(rest, 'more file')}", file=sys.stderr)
    if args.json:
        print(json.dumps(as_json(found, args.top, sheet), indent=2))
    else:
        print(as_text(found.table(args.top)))
        if sheet is not None:
            more = f" (the first {MOST})" if len(found.pictures) > MOST else ""
            print(f"Contact sheet{more}: {from_here(sheet)}", file=sys.stderr)
    if fault is not None:
        if args.sheet is not None:
            raise fault
        print(printable(str(fault)), file=sys.stderr)
    return 0


def as_json(found: Predictions, top: int, sheet: Path | None) -> dict[str, Any]:
    """For programs; sheet: None if it could not be written."""
    told = {name: getattr(found.bundle, name) for name in ("study", "trial", "seed", "dataset")}
    skipped = [{"file": str(one.path), "reason": one.reason} for one in found.skipped]
    written = None if sheet is None else str(sheet)
    return told | {"pictures": found.table(top), "skipped": skipped, "sheet": written}


if __name__ == "__main__":
    run(main)
