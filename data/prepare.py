"""Fetches a data set and verifies it: python -m data.prepare DATASET [--data-dir DIR].

Of the test images, only their number is shown.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.datasets import DATASETS, FORMS, count_test, default_data_dir, load_training
from data.errors import DataError, grouped, print_any_text, shown


def main(arguments: Sequence[str] | None = None) -> int:
    named = {name: entry.description for name, entry in DATASETS.items()} | FORMS
    width = max(map(len, named))
    parser = argparse.ArgumentParser(
        prog=sys.argv[0] if sys.argv[0].startswith("cnn-search ") else "python -m data.prepare",
        description="Fetch a data set, verify its files and print a summary.",
        epilog="data sets:\n"
        + "\n".join(f"  {name:<{width}}  {description}" for name, description in named.items())
        + "\n\nA search fetches missing files itself; use this to fetch ahead or to check them."
        "\nIf its archive is missing, CIFAR is read from DIR/cifar10/train/<class>/*.png"
        "\nand DIR/cifar10/test/<class>/*.png; DIR/cifar100/ likewise, by its 100 classes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", help="one of the names below")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_data_dir(),
        metavar="DIR",
        help="folder of the data files (default: %(default)s; $SEARCH_DATA_DIR changes it)",
    )
    print_any_text()
    options = parser.parse_args(arguments)
    try:
        info, _ = load_training(options.dataset, options.data_dir)
        test_count = count_test(options.dataset, options.data_dir)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; run the same command to resume", file=sys.stderr)
        return 130
    channels, height, width = info.image_shape
    own = " (its own validation set)" if info.has_own_validation else ""
    print(f"{shown(info.title)} ({shown(info.name)})")
    print(f"images      {width}x{height} {'grey' if channels == 1 else 'RGB'}")
    held_out = f"{grouped(info.validation_count)} for validation{own}"
    print(f"training    {grouped(info.training_count):>7}, {held_out}")
    print(f"test        {grouped(test_count):>7}")
    print(f"classes     {len(info.class_names):>7}: {', '.join(map(shown, info.class_names))}")
    for note in info.notes:
        print(shown(note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
