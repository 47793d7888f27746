"""What every command shares."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.reporting.commands import (
    USER_ERRORS,
    Parser,
    console,
    duration,
    one_line,
    positive_int,
    program,
    run,
    seed,
)
from search.trials.domains import SpecError

ROOT = Path(__file__).parents[3]


def exit_code(main: Callable[[list[str] | None], int | None]) -> object:
    with pytest.raises(SystemExit) as exit_:
        run(main)
    return exit_.value.code


def raising(error: BaseException) -> Callable[[list[str] | None], int | None]:
    def main(_argv: list[str] | None) -> int | None:
        raise error

    return main


@pytest.mark.parametrize(("result", "code"), [(0, 0), (None, None), (143, 143)])
def test_exit_code_is_what_main_returns(result: int | None, code: int | None) -> None:
    assert exit_code(lambda _argv: result) == code


@pytest.mark.parametrize("kind", USER_ERRORS, ids=lambda kind: kind.__name__)
def test_users_errors_end_in_one_line(
    kind: type[ValueError], capsys: pytest.CaptureFixture[str]
) -> None:
    message = "no such thing:\n  'x'; give another\x1b[31m\u202e"
    error = SpecError("key", message) if kind is SpecError else kind(message)
    assert exit_code(raising(error)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    expected = r"error: no such thing: 'x'; give another\x1b[31m\u202e"
    assert err == f"{program()}: {expected}\n"


@pytest.mark.parametrize("error", [ValueError("a bug"), TypeError("a bug"), OSError("a bug")])
def test_bugs_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="a bug"):
        run(raising(error))


def test_ctrl_c_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""


def test_a_broken_pipe_elsewhere_is_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is well: the pipe was another, such as to a process of ours."""
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with pytest.raises(BrokenPipeError):
            run(raising(BrokenPipeError()))


TOOL = """
from search.reporting.commands import Parser, positive_int, run
def main(argv):
    parser = Parser(description="A tool.", examples="")
    parser.add_argument("--count", type=positive_int, default=1)
    for _ in range(parser.parse_args(argv).count):
        print("x" * 100)
run(main)
"""


def test_real_processes(tmp_path: Path) -> None:
    """A wrong argument; a reader that goes away; an output that knows only ASCII."""
    (tmp_path / "tool.py").write_text(TOOL)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tool", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )

    wrong, cut_off = start("--count", "none"), start("--count", "100000")
    assert wrong.communicate(timeout=60) == (
        "",
        "tool: error: argument --count: must be a whole number from 1 up, but got 'none' "
        "(--help shows all options)\n",
    )
    assert wrong.returncode == 2
    assert cut_off.stdout is not None
    assert cut_off.stderr is not None
    assert cut_off.stdout.readline() == "x" * 100 + "\n"
    cut_off.stdout.close()
    with cut_off.stderr as errors:
        assert errors.read() == ""
    assert cut_off.wait(timeout=60) == 141


def test_a_terminal_without_our_signs_shows_question_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert exit_code(lambda _argv: print("± 0.26 \udcff")) is None
    ascii_only.seek(0)
    assert ascii_only.read() == "? 0.26 ?\n"


def test_one_line_keeps_what_can_be_printed() -> None:
    assert one_line("  größer\t\n als ±  ") == "größer als ±"
    assert one_line("a\x00b\x9bc\udcff") == r"a\x00b\x9bc\udcff"


@pytest.mark.parametrize("text", ["1", "50", "007", "999999999999999999"])
def test_counts(text: str) -> None:
    assert positive_int(text) == int(text)


@pytest.mark.parametrize(
    "text", ["0", "00", "-1", "1.5", "1e3", "1_000", " 5", "", "٣", "9" * 5000]
)
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number from 1 up, but got"):
        positive_int(text)


def test_seeds() -> None:
    assert seed("0") == 0
    assert seed(str(2**63 - 1)) == 2**63 - 1
    for text in ("-1", str(2**63), "x", "", "1.0", "9" * 5000):
        with pytest.raises(argparse.ArgumentTypeError, match=r"below 2\*\*63, but got"):
            seed(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45", 45),
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1h30m5s", 5405),
        ("1.5h", 5400),
        ("0.5s", 0.5),
        ("0h5m", 300),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "-5m", "m", "1h30", "5 m", "30min", "1m1h", "nan", "inf", "٣s", "9" * 400],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="like 90s, 30m or 1h30m"):
        duration(text)


def test_help_shows_defaults_and_keeps_the_examples() -> None:
    parser = Parser(
        description="Does this. " * 20,
        examples="""
            python -m search.tool --count 5   # five
            python -m search.tool             # one
        """,
    )
    parser.add_argument("--count", type=int, default=7, help="how many")
    parser.add_argument("--name", help="what")
    parser.add_argument("--depth", default=3, help="how deep (default: it depends)")
    parser.add_argument("--quiet", action="store_true", help="say less")
    text = parser.format_help()
    assert "how many (default: 7)" in text
    assert "None" not in text
    assert "False" not in text
    assert text.count("default: it depends") == 1
    assert "(default: 3)" not in text
    assert "  python -m search.tool --count 5   # five\n  python -m search.tool " in text
    assert max(map(len, text.splitlines())) <= 80


def test_wrong_arguments_end_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(description="", examples="")
    parser.add_argument("--count", type=positive_int)
    for arguments in (["--count", "x\x1b[2J\ny"], ["--unknown"], ["--cou", "3"], ["--count"]):
        with pytest.raises(SystemExit) as exit_:
            parser.parse_args(arguments)
        assert exit_.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"{program()}: error: ")
        assert err.count("\n") == 1
        assert "\x1b" not in err


def test_console_prints_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[bold]a[/bold] :smile: 1.5")
    assert capsys.readouterr() == ("", "[bold]a[/bold] :smile: 1.5\n")
