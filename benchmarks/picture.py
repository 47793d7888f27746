"""The README's picture: the live view of a real study, stopped halfway.

    python -m benchmarks.picture --limit 10000

Takes about 10 minutes on 2 cores. Nothing of the run is kept; its seed is 0, but two workers race.
"""

from __future__ import annotations

import io
import re
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console

from benchmarks.record import BenchmarkParser
from search import load_study, run_study
from search.store import StorageError
from search.store.views import StudyView
from search.terminal.frame import frame

WIDTH, HEIGHT = 100, 24


def draw(view: StudyView, elapsed: float, out: Path) -> None:
    """Write the frame as a terminal of 100 columns shows it."""
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO())
    console.print(frame(view, height=HEIGHT, elapsed=elapsed))
    drawn = console.export_svg(title="cnn-search study")
    fetched = r" *@font-face \{.*?\n    \}\n"  # fonts; viewers have their own
    out.write_text(re.sub(fetched, "", drawn, flags=re.DOTALL), encoding="utf-8")


def main() -> None:
    parser = BenchmarkParser(__doc__)
    parser.add_counts(
        ("trials", 50, "of the study"),
        ("begun", 25, "started trials before the picture is made"),
        ("workers", 2, "that train"),
    )
    parser.add("dataset", "limit", "data-dir")
    parser.add_argument("--out", type=Path, default=Path("docs/live.svg"), help="the picture")
    options = parser.parse_args()
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/studies.db"

        def watch() -> None:
            began = time.monotonic()
            while not stop.wait(1):
                try:
                    view = load_study(storage=storage)
                except StorageError:
                    continue  # the study has not started
                running = view.in_state("running")
                if view.count() >= options.begun and all(one.curve for one in running):
                    draw(view, time.monotonic() - began, options.out)
                    stop.set()

        threading.Thread(target=watch, daemon=True).start()
        run_study(
            dataset=options.dataset,
            limit=options.limit,
            trials=options.trials,
            workers=options.workers,
            data_dir=options.data_dir,
            storage=storage,
            stop=stop,
        )


if __name__ == "__main__":
    main()
