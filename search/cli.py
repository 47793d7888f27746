"""`cnn-search COMMAND`: every command under one name, from any folder."""

from __future__ import annotations

import runpy
import sys

import search
from data.errors import did_you_mean

COMMANDS = {
    "study": ("search.study", "start or resume a search for a good image classifier"),
    "worker": ("search.worker", "add a process, here or on another host, to a running study"),
    "finalize": ("search.finalize", "retrain the best trial and evaluate it on the test set"),
    "leaderboard": ("search.leaderboard", "rank trials or arms, also as CSV and JSON"),
    "report": ("search.report", "one offline page about a study, and its figures as files"),
    "predict": ("search.predict", "classify your own pictures with a finished network"),
    "export": ("search.export", "ONNX, CSV, JSON, Parquet, TensorBoard, MLflow"),
    "dashboard": ("search.dashboard.__main__", "browse studies in a web browser"),
    "anatomy": ("models.anatomy", "print a network layer by layer: sizes, parameters"),
    "prepare": ("data.prepare", "download a data set and verify it"),
}
_LINES = "\n".join(f"  {name:<11} {what}" for name, (_, what) in COMMANDS.items())
HELP = f"""\
usage: cnn-search COMMAND [OPTIONS]

Hyperparameter search for image classifiers. Every command resumes where it
stopped: Ctrl-C loses nothing.

commands:
{_LINES}

a first study, and the next steps:
  cnn-search study --dataset digits --trials 20    # or folder:PATH
  cnn-search study --status                        # its progress
  cnn-search report                                # its results
  cnn-search finalize                              # network and test score
  cnn-search predict drawing.png

cnn-search COMMAND --help shows a command's options and examples.
"""


def main() -> None:
    """The console script."""
    name, *rest = sys.argv[1:] or [""]
    if name in COMMANDS:
        # Tells the command how it was called, see search.terminal.command_line.
        sys.argv = [f"cnn-search {name}", *rest]
        runpy.run_module(COMMANDS[name][0], run_name="__main__")
    elif name in ("-h", "--help", "help"):
        print(HELP, end="")
    elif name in ("-V", "--version"):
        print(f"cnn-search {search.__version__}")
    else:
        problem = f"unknown command {name!r}{did_you_mean(name, COMMANDS)}"
        if name.startswith("-"):
            option = name.partition("=")[0]  # its value may be a URL with a password
            problem = f"the command comes before its options: cnn-search study {option} ..."
        told = f"error: {problem} (--help shows all commands)\n"
        print(told if name else HELP, end="", file=sys.stderr)
        sys.exit(2)  # bad usage, as for every command


if __name__ == "__main__":
    main()
