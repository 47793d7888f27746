"""What --help says of each option of each command: its default is what happens without it."""

from __future__ import annotations

import os
import re
from importlib import import_module

import pytest

from search.cli import COMMANDS
from search.spec.study_file import find_study_file, read_study_file
from search.terminal.commands import Parser

OURS = [name for name, (module, _) in COMMANDS.items() if module.startswith("search.")]
DEFAULT = read_study_file(find_study_file("default"))


def parser(command: str) -> Parser:
    # Not `from search import predict`, which is the function of that name.
    made = import_module(COMMANDS[command][0]).parser()
    assert isinstance(made, Parser)
    return made


def options(command: str) -> dict[str, str]:
    """The help of each option, on one line, by its name."""
    text = parser(command).format_help().split("examples:")[0]
    found = {}
    for block in re.split(r"\n  (?=-)", text)[1:]:
        head, *rest = re.split(r"  +|\n", block.strip(), maxsplit=1)
        name = re.findall(r"--([a-z-]+)", head)[-1]
        found[name.replace("-", "_")] = " ".join(" ".join(rest).split())
    del found["help"]
    return found


@pytest.mark.parametrize("command", OURS)
def test_every_option_is_described_with_its_default(command: str) -> None:
    for name, text in options(command).items():
        assert len(text.split()) >= 2, name
        default = parser(command).get_default(name)
        for value in map(str, default if isinstance(default, list) else [default or ""]):
            assert value in text or os.environ.get("SEARCH_STORAGE") == value, (name, text, value)


@pytest.mark.parametrize("name", ["trials", "epochs", "seed"])
def test_study_names_what_its_default_file_says(name: str) -> None:
    """The flag itself has none: left out, it leaves the file its say."""
    assert parser("study").get_default(name) is None
    expected = DEFAULT.get(name, 0)
    said = f"(default: the study file's; {expected} in the default one)"
    assert said in options("study")[name]
