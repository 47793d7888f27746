from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.domains import Choice, Fixed, Range
from search.spec.journal import Expectation, JournalEntry
from search.spec.study_file import find_study_file, read_study_file, ready_made, write_study_file
from search.store.views import StudyView
from search.terminal.reproduce import command


def read_again(spec: StudySpec, folder: Path) -> StudySpec:
    file = folder / "again.toml"
    file.write_text(write_study_file(spec), encoding="utf-8")
    return StudySpec(**read_study_file(file))


def test_the_default_study_survives_the_way_through_its_file(tmp_path: Path) -> None:
    arguments = read_study_file(find_study_file("default"))
    spec = StudySpec(dataset="fashion_mnist", **arguments)
    assert read_again(spec, tmp_path) == spec
    stored = StudySpec.from_dict(spec.to_dict())
    assert read_again(stored, tmp_path).space == spec.space


def test_every_form_of_value_survives(tmp_path: Path) -> None:
    spec = StudySpec(
        dataset='folder:/home/me/my "own" images \\ \x7f é',
        title="quotes \" and ' and # and = [x]",
        limit=500,
        patience=3,
        seed=2**32 - 1,
        trials=7,
        sampler="random",
        space={
            "learning_rate": Range(low=1e-5, high=1e-1, log=True),
            "depth": Range(low=2, high=4),
            "hidden": Choice(values=((), (128,), (120, 84))),
            "channels": Fixed(value=(32, 64)),
            "batch_norm": Choice(values=(True, False)),
            "weight_decay": Fixed(value=1e-05),
            "padding": Choice(values=("same", 0)),
            "kernel_sizes": Choice(values=((3,),)),
        },
        baseline={"hidden": (), "channels": (8,), "learning_rate": 3e-4, "batch_norm": False},
    )
    assert read_again(spec, tmp_path) == spec


@pytest.mark.parametrize("file", ready_made(), ids=lambda file: file.stem)
def test_every_ready_made_study_survives(file: Path, tmp_path: Path) -> None:
    spec = StudySpec(**{"dataset": "fashion_mnist", **read_study_file(file)})
    assert read_again(spec, tmp_path) == spec
    assert read_again(StudySpec.from_dict(spec.to_dict()), tmp_path) == spec


def test_what_people_wrote_of_arms_survives(tmp_path: Path) -> None:
    names = ('dropout = "0.2" # not', "[[arm]]", "é \\ {}")
    arms = (
        Arm(name=names[0], reported={"validation_loss": 1e-05, "parameters": 3}),
        Arm(name=names[1], values={"padding": (2, 0), "hidden": (), "batch_norm": False}),
        Arm(name=names[2], values={"pool_after": (1,), "learning_rate": 1e-05}),
    )
    expectation = Expectation(
        arm=names[0], than=names[2], metric="train_loss", outcome="no different", margin=0.5
    )
    spec = StudySpec(
        dataset="digits",
        source='a "report"',
        trials=6,
        sampler="grid",
        pruner="none",
        arms=arms,
        base=names[0],
        repeats=2,
        journal=(
            JournalEntry(objective='"""', hypothesis="[x] = {y}", expect=(expectation,)),
            JournalEntry(objective="o", hypothesis="h", methodology="m"),
        ),
    )
    assert read_again(spec, tmp_path) == spec


def test_a_study_without_baseline_stays_without(tmp_path: Path) -> None:
    spec = StudySpec(dataset="digits", space={"depth": Fixed(value=2)})
    assert read_again(spec, tmp_path) == spec
    assert dataclasses.replace(spec, baseline={"depth": 2}) != spec


def test_commands_can_be_pasted_into_a_shell(make_view: Callable[..., StudyView]) -> None:
    url = "sqlite:////home/me/it's here/$(touch x)/studies.db"
    pasted = shlex.split(command("finalize", make_view(storage=url), "--seeds", "3"))
    assert pasted == [
        *("python", "-m", "search.finalize", "--study", "fashion"),
        *("--storage", url, "--seeds", "3"),
    ]
