"""Arguments that several benchmarks take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from search.terminal.commands import Parser, positive_int

REPLAYS = user_cache_path("cnn-search") / "replay"  # where replays and surrogates are kept
SHARED: dict[str, dict[str, Any]] = {
    "dataset": {"metavar": "NAME", "default": "fashion_mnist", "help": "data set"},
    "limit": {"type": positive_int, "metavar": "N", "help": "training images (default: all)"},
    "json": {"type": Path, "metavar": "FILE", "help": "write the result here as well"},
    "learn-from": {
        "nargs": "+",
        "type": Path,
        "default": [],
        "metavar": "FILE",
        "help": "further records for the prior, on which nothing is replayed",
    },
    "sampler": {"default": "gp", "help": "of ours: gp (default), or tpe, which is fast"},
    "cache": {
        "type": Path,
        "metavar": "DIR",
        "default": REPLAYS,
        "help": "where replays and surrogates are kept",
    },
}


class BenchmarkParser(Parser):
    """The arguments of a benchmark."""

    def add(self, *names: str) -> None:
        """Options that several benchmarks have, or several commands."""
        for name in names:
            if name in SHARED:
                self.add_argument(f"--{name}", **SHARED[name])
            else:
                super().add(name)

    def add_counts(self, counts: Iterable[tuple[str, int, str]]) -> None:
        """`--NAME N` for each (name, default, help text): a whole number from 1 up."""
        for name, default, text in counts:
            self.add_argument(
                f"--{name}",
                type=positive_int,
                metavar="N",
                default=default,
                help=f"{text} (default: {default})",
            )
