"""What pages tell to repeat a study."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from search.spec.config import StudySpec
from search.spec.study_file import read_study_file, ready_made, write_study_file
from search.store.views import StudyView
from search.terminal.command_line import command


@pytest.mark.parametrize("file", ready_made(), ids=lambda file: file.stem)
def test_every_ready_made_study_can_be_repeated(file: Path, tmp_path: Path) -> None:
    spec = StudySpec(**{"dataset": "fashion_mnist", **read_study_file(file)})
    for each in (spec, StudySpec.from_dict(spec.to_dict())):
        again = tmp_path / "again.toml"
        again.write_text(write_study_file(each), encoding="utf-8")
        assert StudySpec(**read_study_file(again)) == spec


def test_commands_can_be_pasted_into_a_shell(make_view: Callable[..., StudyView]) -> None:
    url = "sqlite:////home/me/it's here/$(touch x)/studies.db"
    pasted = shlex.split(command("finalize", make_view(storage=url), "--seeds", "3"))
    assert pasted == [
        *("python", "-m", "search.finalize", "--study", "fashion"),
        *("--storage", url, "--seeds", "3"),
    ]
