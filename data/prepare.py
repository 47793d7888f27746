"""Fetches a data set and verifies it: python -m data.prepare DATASET [--data-dir DIR].

Nothing of the test images is shown but their number.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import DataError
from data.listing import shown
from data.names import DATASET_NAMES, default_data_dir

if TYPE_CHECKING:
    from data.examples import DatasetInfo


def main(arguments: Sequence[str] | None = None) -> int:
    by_script = sys.argv[0].startswith("cnn-search ")
    parser = argparse.ArgumentParser(
        prog=sys.argv[0] if by_script else "python -m data.prepare",
        description="Fetch a data set, verify its files and say what is in it.",
        epilog="A search fetches what it lacks itself; this is to fetch ahead, and to check.",
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        help=f"{', '.join(DATASET_NAMES)}, or folder:PATH for your own images in "
        "PATH/train/<class>/ and, if you have a test set, PATH/test/<class>/",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_data_dir(),
        metavar="DIR",
        help="where the files are or go (default: %(default)s; $SEARCH_DATA_DIR changes it)",
    )
    options = parser.parse_args(arguments)
    try:
        from data.datasets import verify  # with torch, seconds to import

        info, test_count = verify(options.dataset, options.data_dir)
    except DataError as error:
        print(f"data.prepare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("data.prepare: interrupted; the same command goes on", file=sys.stderr)
        return 130
    print(_described(info, test_count))
    return 0


def _described(info: "DatasetInfo", test_count: int) -> str:
    channels, height, width = info.image_shape
    kind = "grey" if channels == 1 else "RGB"
    own = " of their own" if info.has_own_validation else ""
    usual = "" if info.has_own_validation else " unless told otherwise"
    return "\n".join(
        [
            f"{info.title} ({info.name})",
            f"images      {width}x{height} {kind}",
            f"training    {info.training_count:>7,}, of which {info.validation_count:,}{own} serve "
            f"for validation{usual}",
            f"test        {test_count:>7,}",
            f"classes     {len(info.class_names):>7,}: {', '.join(map(shown, info.class_names))}",
            *map(shown, info.notes),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
