"""What every command shares: arguments, errors on one line, exit codes."""

from __future__ import annotations

import argparse
import errno
import gc
import math
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from data.datasets import default_data_dir
from data.errors import did_you_mean, print_any_text, shown
from search.spec.config import MOST_SEED
from search.store import (
    CHECKPOINTS_VARIABLE,
    DEFAULT_STORAGE,
    RUNS_VARIABLE,
    STORAGE_VARIABLE,
    OutageError,
    default_checkpoints,
    default_storage,
)
from search.terminal.command_line import (
    as_called,
    hide_passwords,
    this_command,
    wipe_passwords,
    with_password,
)
from search.terminal.stopping import hear_sigterm
from search.training.epoch import DeviceLostError

if TYPE_CHECKING:
    from rich.console import Console

LOADING = "Loading PyTorch ..."  # first line of the commands that need it: it takes seconds
BAD_INPUT, INTERRUPTED, READER_GONE = 2, 130, 141  # the last as in a shell, 128 + SIGPIPE
START_AGAIN = 75  # of a worker whose time is up, or whose database or GPU is away: EX_TEMPFAIL
HELP_WIDTH, LONGEST = 80, 366 * 24 * 3600  # characters, seconds
CLOCK = "%H:%M:%S"  # the time of day at the start of a log line
OURS = ("data", "models", "search")
SMALLER = "give fewer or smaller images or fewer --workers, or use a machine with more memory"
# Files, not bugs. macOS refuses folders such as Desktop with EPERM.
UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def run(main: Callable[[list[str] | None], int | None]) -> NoReturn:
    """Run a command's `main` on the process's arguments and exit.

    The exit code is what `main` returns (None: 0), 2 after a user's error, without memory or if a
    file cannot be used (no room or permission), which is printed on one line, 75 after an
    OutageError or DeviceLostError, printed likewise, and 130 after Ctrl-C. Others are bugs: raised.
    """
    hear_sigterm()
    gc.set_threshold(50_000)  # by default it takes a quarter of the libraries' load time
    wipe_passwords()
    print_any_text()
    if not {"-h", "--help", "--list", "--status"} & set(sys.argv):
        import optuna  # takes a tenth of a second

        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the live view shows it all
    try:
        code = main(None)
        print(end="", flush=True)  # also works without a standard output
    except ValueError as error:
        if type(error).__module__.partition(".")[0] not in OURS:
            raise  # our own ones say on one line what is wrong and what to do
        print(f"error: {one_line(as_called(str(error)))}", file=sys.stderr)
        code = START_AGAIN if isinstance(error, OutageError | DeviceLostError) else BAD_INPUT
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        is_gone = sys.platform == "win32" and (error.errno, error.filename) == (errno.EINVAL, None)
        if is_gone or isinstance(error, BrokenPipeError):  # nobody reads on, as after `| head`
            leave(READER_GONE)
        if error.errno not in UNUSABLE:
            raise
        problem = f"cannot use {error.filename or 'the output'} ({error.strerror})"
        remedy = "make room or fix its permissions, then run the same command again"
        print(f"error: {one_line(f'{problem}; {remedy}')}", file=sys.stderr)
        code = BAD_INPUT
    except MemoryError as error:
        print(f"error: {one_line(f'out of memory ({error}); {SMALLER}')}", file=sys.stderr)
        code = BAD_INPUT
    leave(code)


def leave(code: int | None) -> NoReturn:
    """Exit at once: Python's own teardown of all that was loaded takes a second or two."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None in a service, say
        with suppress(OSError):  # its reader is gone
            stream.flush()
    os._exit(code or 0)


def one_line(text: str) -> str:
    """The text on one line, without this process's passwords; control characters as `\\x1b`."""
    return shown(" ".join(hide_passwords(text).split()))


def log(text: str) -> None:
    """Print a line to standard error, with the time of day unless it is a terminal: for logs."""
    clock = "" if sys.stderr.isatty() else f"{time.strftime(CLOCK)} "
    print(f"{clock}{shown(text)}", file=sys.stderr, flush=True)  # study names are anybody's


def console() -> Console:
    """Standard error, for progress and warnings. Text is printed as it is, without markup."""
    from rich.console import Console

    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def _whole(least: int, most: int, what: str) -> Callable[[str], int]:
    """Reads a number from `least` to `most`, written in ASCII digits."""

    def read(text: str) -> int:
        # Of up to 18 digits: databases store 64 bits, and int() refuses thousands of digits.
        if not (re.fullmatch("[0-9]{1,18}", text) and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be {what}, but got {text!r}")
        return int(text)

    return read


positive_int = _whole(1, 10**18, "a whole number from 1 up")  # counts something
trial_number = _whole(0, 10**9, "a whole number from 0 up")
seed = _whole(0, MOST_SEED, f"a whole number from 0 to {MOST_SEED}")  # as stored
_some_trials = _whole(1, 9999, "auto or a whole number from 1 to 9999")


def positive_number(text: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"must be a number above 0, but got {text!r}")


def trials_per_device(text: str) -> int | None:
    """An argument that counts trials; None for `auto`."""
    return None if text == "auto" else _some_trials(text)


def duration(text: str) -> float:
    """An argument in seconds: `45`, `7.5`, `90s`, `30m`, `1h30m`."""
    number = r"(\d{1,9}(?:\.\d{1,9})?)"
    pattern = f"(?:{number}h)?(?:{number}m)?(?:{number}s)?"
    found = re.fullmatch(pattern, text if re.search("[hms]", text) else f"{text}s", re.ASCII)
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not 0 < total <= LONGEST:
        raise argparse.ArgumentTypeError(
            f"must be a time like 90s, 30m or 1h30m, at most a year, but got {text!r}"
        )
    return total


def study_name(text: str) -> str:
    """An argument that names a study; an empty one, as from an unset variable, names none."""
    if not text:
        raise argparse.ArgumentTypeError("must be a study's name, but got ''")
    return text


SHARED: dict[str, dict[str, Any]] = {  # options of several commands; defaults may be functions
    "study": {
        "type": study_name,
        "metavar": "NAME",
        "help": "the study (default: the one worked on last)",
    },
    "storage": {
        "default": default_storage,
        "type": with_password,
        "metavar": "URL",
        "help": f"the database (default: ${STORAGE_VARIABLE}, or {DEFAULT_STORAGE}); a password is "
        "best left to ~/.pgpass",
    },
    "device": {"default": "auto", "help": "auto, cpu, cuda or cuda:N"},
    "dataset": {
        "metavar": "NAME",
        "help": "where the study's images are on this machine, if not where they were before: "
        "folder:PATH, npz:FILE or FILE.py:FUNCTION",
    },
    "trials-per-device": {
        "type": trials_per_device,
        "metavar": "K",
        "help": "trials that a process trains concurrently, in turns (default: auto, which is 4 on "
        "a GPU, or 16 if arms are compared, and 1 on a CPU)",
    },
    "ray": {
        "metavar": "ADDRESS",
        "help": "train on Ray: local (a cluster on this machine), auto (the one that this machine "
        "is in), HOST:PORT or ray://HOST:10001. Several machines need PostgreSQL; images are sent "
        "to them automatically; each node needs cnn-search[ray]. See docs/clusters.md",
    },
    "cpus-per-worker": {
        "default": 1.0,
        "type": positive_number,
        "metavar": "C",
        "help": "number of CPUs per worker, with --ray; fractions are allowed",
    },
    "gpus-per-worker": {
        "default": 0.0,
        "type": positive_number,
        "metavar": "G",
        "help": "number of GPUs per worker or training, with --ray: 0.5 puts two on each "
        "(default: 0.0, train on CPUs)",
    },
    "data-dir": {
        "default": default_data_dir,
        "type": Path,
        "metavar": "DIR",
        "help": "where data sets are kept (default: %(default)s; $SEARCH_DATA_DIR changes it)",
    },
    "runs-dir": {
        "type": Path,
        "metavar": "DIR",
        "help": "where checkpoints, models, reports and pictures are kept (default: "
        f"${RUNS_VARIABLE}, or runs/ beside an SQLite file, or else ./runs)",
    },
    "checkpoints": {
        "default": default_checkpoints,
        "metavar": "URL",
        "help": "a folder or URL that every machine can reach, file:///shared/folder or "
        "s3://BUCKET/FOLDER, for the checkpoints of running trials; without it, trials start over "
        f"on another machine (default: ${CHECKPOINTS_VARIABLE}, or the study's folder)",
    },
}


class Parser(argparse.ArgumentParser):
    """Arguments of a command: help shows defaults, examples keep their lines, errors take one."""

    def __init__(self, *, description: str, examples: str) -> None:
        super().__init__(
            prog=this_command(),
            description=textwrap.fill(description, HELP_WIDTH),
            epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  "),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,  # a script's --data would break if another option began with it
        )

    def add(self, *names: str) -> None:
        """Add options that several commands share; see SHARED."""
        for name in names:
            default = SHARED[name].get("default")
            given = {**SHARED[name], "default": default() if callable(default) else default}
            self.add_argument(f"--{name}", **given)

    def add_network(self, others: str = "") -> None:
        which = self.add_mutually_exclusive_group()
        of_study: dict[str, Any] = {"type": study_name, "metavar": "NAME"}
        which.add_argument(
            "--study", **of_study, help=f"whose network (default: finished last){others}"
        )
        trust = "a network's folder, wherever it is; code of its own runs: use folders you trust"
        which.add_argument("--bundle", type=Path, metavar="FOLDER", help=trust)

    def add_registry(self, title: str, entries: Mapping[str, Any]) -> None:
        """List names and descriptions at the end of --help: from a registry, or given as text."""
        width = max(map(len, entries)) + 2
        lines = [
            textwrap.fill(
                f"{name:<{width}}{entry if isinstance(entry, str) else entry.description}",
                HELP_WIDTH - 2,
                subsequent_indent=" " * width,
            )
            for name, entry in entries.items()
        ]
        self.add_argument_group(title, "\n".join(lines))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, rest = self.parse_known_args(args, namespace)
        if rest:
            word = rest[0].partition("=")[0] if rest[0].startswith("-") else rest[0]
            known = re.findall("--[a-z-]+", self.format_usage())
            self.error(f"unknown argument {word!r}{did_you_mean(word, known)}")
        return known

    def format_help(self) -> str:
        return as_called(super().format_help())

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {one_line(message)} (--help shows all options)\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_it = action.help is None or "default" in action.help
        if says_it or action.default in (None, False, argparse.SUPPRESS):
            return action.help
        return f"{action.help} (default: %(default)s)"
