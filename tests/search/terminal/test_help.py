"""What --help says of defaults is what happens without the flag."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from importlib import import_module

import pytest

from search.running.pool import MAX_DEFAULT_WORKERS
from search.spec.config import StudySpec
from search.spec.study_file import find_study_file, read_study_file

COMMANDS = ("dashboard", "finalize", "predict", "report", "study", "worker")
MODULES = {"dashboard": "search.dashboard.__main__"}
DEFAULT = StudySpec(dataset="fashion_mnist", **read_study_file(find_study_file("default")))


def options(command: str) -> Iterator[tuple[argparse.Action, str]]:
    """Each with its help as it is shown."""
    # Not `from search import predict`, which is the function of that name.
    parser = import_module(MODULES.get(command, f"search.{command}")).parser()
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.option_strings and action.help and action.dest != "help":
            yield action, formatter._expand_help(action)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_default_is_named_as_it_is(command: str) -> None:
    for action, text in options(command):
        if action.default in (None, False, [], argparse.SUPPRESS):
            continue
        shown = action.default if isinstance(action.default, list) else [action.default]
        for value in map(str, shown):
            assert value in text or os.environ.get("SEARCH_STORAGE") == value, (text, value)


@pytest.mark.parametrize("name", ["trials", "epochs", "seed"])
def test_study_names_what_its_default_file_says(name: str) -> None:
    """The flag itself has none: left out, it leaves the file its say."""
    action, text = next((a, t) for a, t in options("study") if a.dest == name)
    assert action.default is None
    said = re.search(r"\(default: the study file's; (\d+) in the default one\)", text)
    assert said is not None
    assert int(said[1]) == getattr(DEFAULT, name)


def test_no_other_default_is_a_number_that_nobody_checks() -> None:
    said = {
        (command, action.dest, number)
        for command in COMMANDS
        for action, text in options(command)
        if action.default is None and "default" in text
        for number in re.findall(r"\b\d+\b", text[text.index("(default") :])
    }
    assert said == {
        *(("study", name, str(getattr(DEFAULT, name))) for name in ("trials", "epochs", "seed")),
        ("study", "workers", str(MAX_DEFAULT_WORKERS)),
        ("finalize", "image", "0"),
    }
