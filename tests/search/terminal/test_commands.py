"""What every command shares."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from data.errors import DataError
from data.reading import write_atomically
from search.spec.domains import SpecError
from search.store import StorageError
from search.terminal.command_line import command, for_shell, this_command
from search.terminal.commands import (
    Parser,
    duration,
    positive_int,
    run,
    seed,
    trials_per_device,
)
from search.training.epoch import RepeatError


def exit_code(main: Callable[[list[str] | None], int | None]) -> object:
    with pytest.raises(SystemExit) as exit_:
        run(main)
    return exit_.value.code


def raising(error: BaseException) -> Callable[[list[str] | None], int | None]:
    def main(_argv: list[str] | None) -> int | None:
        raise error

    return main


def test_exit_code_is_what_main_returns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [exit_code(lambda _argv, c=code: c) for code in (0, None, 143)] == [0, None, 143]
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stdout", None)  # as in a service
    assert exit_code(lambda _argv: 0) == 0


def test_it_exits_at_once_and_loses_no_output() -> None:
    script = """
import atexit
from search.terminal.commands import run
atexit.register(print, "taken apart")
def main(_argv):
    print("said", end="")
    return 75
run(main)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (75, "said", "")


@pytest.mark.parametrize("kind", [DataError, StorageError, RepeatError, SpecError])
def test_users_errors_end_in_one_line(
    kind: type[ValueError], capsys: pytest.CaptureFixture[str]
) -> None:
    message = "no such thing:\n  'x'; give another\x1b[31m\u202e"
    error = SpecError("key", message) if kind is SpecError else kind(message)
    assert exit_code(raising(error)) == 2
    expected = r"error: no such thing: 'x'; give another\x1b[31m\u202e"
    assert capsys.readouterr() == ("", f"{expected}\n")
    with pytest.raises(ValueError, match="a bug"):
        run(raising(ValueError("a bug")))


def test_too_little_memory_is_told_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(MemoryError("Unable to allocate 879. GiB\nfor an array"))) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory (Unable to allocate 879. GiB for an array); give")
    assert said.count("\n") == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_file_that_cannot_be_written_ends_in_one_line(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    file = tmp_path / "report.html"
    monkeypatch.setattr(os, "fsync", fail)
    assert exit_code(lambda _argv: write_atomically(file, b"new")) == 2
    problem = f"cannot use {file} ({os.strerror(number)})"
    remedy = "make room or fix its permissions, then run the same command again"
    assert capsys.readouterr() == ("", f"error: {problem}; {remedy}\n")
    with pytest.raises(FileNotFoundError):
        run(raising(FileNotFoundError(errno.ENOENT, "a bug")))


@pytest.mark.parametrize("length", [1, 100_000])
def test_a_closed_pipe_ends_it_quietly(length: int) -> None:
    """As in `... | head -1`; with little output only the final flush fails."""
    reading, writing = os.pipe()
    os.close(reading)
    script = f"from search.terminal.commands import run\nrun(lambda _: print('x' * {length}))"
    with os.fdopen(writing, "w") as pipe:
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_commands_are_named_as_users_start_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/where/tool.py"])
    for module, name in (
        ("search.study", "search.study"),
        ("tool.__main__", "tool"),
        ("", "tool.py"),
    ):
        spec = ModuleSpec(module, None) if module else None
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
        assert this_command() == f"python -m {name}"


def test_unencodable_characters_become_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert exit_code(lambda _argv: print("± 0.26 \udcff")) is None
    ascii_only.seek(0)
    assert ascii_only.read() == "? 0.26 ?\n"


def test_redirected_output_is_utf_8_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encodings of its pipes and files have no − (U+2212), the sign of a difference."""
    redirected = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", redirected)
    monkeypatch.setattr(sys, "platform", "win32")
    assert exit_code(lambda _argv: print("lower by −0.01 → ł")) is None
    redirected.seek(0)
    assert redirected.buffer.read() == "lower by −0.01 → ł\n".encode()


def test_a_closed_pipe_is_an_invalid_argument_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = OSError(errno.EINVAL, "Invalid argument")
    with pytest.raises(OSError, match="Invalid"):
        run(raising(closed))
    monkeypatch.setattr(sys, "platform", "win32")
    assert exit_code(raising(closed)) == 141
    with pytest.raises(OSError, match="a bug"):
        run(raising(OSError(errno.EINVAL, "a bug", "a?b")))


def test_lines_to_paste_have_double_quotes_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """In cmd.exe a single quote is a letter."""
    words = ["--n", "3", r"runs\a-1", r"C:\my photos", "a&b", 'hidden = "32"', ""]
    assert shlex.split(for_shell(words)) == words
    monkeypatch.setattr(sys, "platform", "win32")
    shown = r'''--n 3 runs\a-1 "C:\my photos" "a&b" "hidden = \"32\"" ""'''
    assert for_shell(words) == shown
    assert command("finalize", "a b", "sqlite:///my studies.db").endswith(
        '--study "a b" --storage "sqlite:///my studies.db"'
    )


def test_counts_seeds_and_durations() -> None:
    assert [positive_int(text) for text in ("1", "50", "007", "9" * 18)] == [1, 50, 7, 10**18 - 1]
    assert [seed("0"), seed(str(2**32 - 1))] == [0, 2**32 - 1]
    assert [trials_per_device("auto"), trials_per_device("4")] == [None, 4]
    assert list(map(duration, ("45", "7.5", "90s", "1h30m5s", "1.5h"))) == [45, 7.5, 90, 5405, 5400]


@pytest.mark.parametrize("text", ["-1", "1.5", "1e3", "1_0", " 5", "", "x", "٣", "9" * 5000])
def test_malformed_numbers_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="but got"):
        seed(str(2**32))
    for read in (positive_int, seed, trials_per_device):
        with pytest.raises(argparse.ArgumentTypeError, match=r"whole number from . .*, but got"):
            read(text)


def test_malformed_durations_are_refused() -> None:
    texts = ["", "0s", "-5m", "m", "1h30", "5 m", "30min", "1m1h", "nan", "٣s"]
    for text in (*texts, "9" * 8, "9" * 400):
        with pytest.raises(argparse.ArgumentTypeError, match="like 90s, 30m or 1h30m, at most a y"):
            duration(text)


def test_help_shows_defaults_and_keeps_the_examples() -> None:
    examples = "python -m search.tool --count 5   # five\npython -m search.tool             # one"
    parser = Parser(description="Does this. " * 20, examples=examples)
    parser.add_argument("--count", type=int, default=7, help="how many")
    parser.add_argument("--name", help="what")
    parser.add_argument("--depth", default=3, help="how deep (default: it depends)")
    parser.add_argument("--quiet", action="store_true", help="say less")
    text = parser.format_help()
    assert re.findall(r"\(default.*\)", text) == ["(default: 7)", "(default: it depends)"]
    assert "  python -m search.tool --count 5   # five\n  python -m search.tool " in text
    assert max(map(len, text.splitlines())) <= 80


def test_commands_can_be_pasted_into_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "sqlite:////home/me/it's here/$(touch x)/studies.db"
    monkeypatch.setattr(sys, "argv", ["x", "--data-dir", "my data", "--runs-dir=my runs"])
    words = shlex.split(command("finalize", "fashion", url, "--seeds", "3"))
    assert " ".join(words[:5]) == "python -m search.finalize --study fashion"
    folders = ["--runs-dir", "my runs", "--data-dir", "my data"]
    assert words[5:] == ["--storage", url, "--seeds", "3", *folders]
    assert "--runs-dir" not in command("leaderboard", "fashion", url, "--csv")
    assert command("dashboard", None, "sqlite:///studies.db").endswith(
        "dashboard --runs-dir 'my runs'"
    )


@pytest.mark.parametrize(
    "arguments", [["--count", "x\x1b[2J\ny"], ["--unknown"], ["--cou", "3"], ["--count"]]
)
def test_wrong_arguments_end_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = Parser(description="", examples="")
    parser.add_argument("--count", type=positive_int)
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(arguments)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n\x1b]*\n", err)
