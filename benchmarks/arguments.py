"""Arguments that several benchmarks take."""

from __future__ import annotations

from collections.abc import Iterable

from search.terminal.commands import Parser, positive_int


def add_counts(parser: Parser, counts: Iterable[tuple[str, int, str]]) -> None:
    """`--NAME N` for each (name, default, help text): a whole number from 1 up."""
    for name, default, text in counts:
        parser.add_argument(
            f"--{name}",
            type=positive_int,
            metavar="N",
            default=default,
            help=f"{text} (default: {default})",
        )
