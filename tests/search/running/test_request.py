"""Precedence: options, then the study file, then a study that exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.running.request import read_request
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.study_file import StudyFileError
from search.store.opening import open_database
from search.store.studies import StudyHandle, create_study, set_total
from tests.search.long_studies import INFO

MINE = """\
[study]
dataset = "mnist"
source = "A report"
validation_count = 5000
repeats = 2

[[arm]]
name = "a"
reported = { test_accuracy = 0.9 }

[[arm]]
name = "b"
dropout = 0.1
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(MINE)
    return str(file)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[StudySpec], StudyHandle]]:
    db = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
    yield lambda spec: create_study(db, "s", spec, INFO, validation_count=287)
    db.close()


def test_options_replace_what_the_file_says(mine: str) -> None:
    spec = read_request(mine, {"repeats": 5, "limit": 100, "epochs": 3}).spec("mnist")
    assert (spec.repeats, spec.trials, spec.limit, spec.epochs) == (5, 10, 100, 3)
    assert read_request(None, {"trials": 3, "limit": None}).spec("digits").trials == 3


@pytest.mark.parametrize(
    ("config", "options", "says"),
    [("mine", {"trials": 9}, "--repeats R, which makes 2 x R"), (None, {"repeats": 3}, "--trials")],
)
def test_totals_of_the_other_kind_are_refused(
    mine: str, config: str | None, options: dict[str, Any], says: str
) -> None:
    request = read_request(config and mine, options)
    with pytest.raises(SpecError) as caught:
        request.spec("digits")
    assert says in str(caught.value)
    assert request.with_file(caught.value) is caught.value  # an option is in no file


def test_reported_results_do_not_apply_to_other_data(mine: str) -> None:
    spec = read_request(mine, {"dataset": "digits"}).spec("digits")
    assert (spec.source, spec.validation_count) == ("", None)
    assert all(not arm.reported for arm in spec.arms)
    at_home = read_request(mine, {}).spec("mnist")
    assert (at_home.source, at_home.validation_count) == ("A report", 5000)
    assert at_home.arms[0].reported == {"test_accuracy": 0.9}


@pytest.mark.parametrize(
    ("config", "options", "dataset", "name"),
    [
        (True, {}, "mnist", "mine"),
        (True, {"dataset": "digits"}, "digits", "mine-digits"),
        (True, {"limit": 100}, "mnist", "mine-limit100"),
        (False, {}, "fashion_mnist", "fashion_mnist"),
        (False, {"limit": 100}, "folder:/home/me/photos", "photos-limit100"),
    ],
)
def test_a_study_is_named_for_its_file(
    mine: str, config: bool, options: dict[str, Any], dataset: str, name: str
) -> None:
    assert read_request(mine if config else None, options).study_name(dataset) == name


def test_a_study_resumes_without_its_file(
    mine: str, make: Callable[[StudySpec], StudyHandle]
) -> None:
    spec = read_request(mine, {}).spec("mnist")
    study = make(spec)
    assert read_request(None, {}).spec("mnist", study) == spec
    more = read_request(None, {"repeats": 3}).spec("mnist", study)
    assert (more.repeats, more.trials, more.arms) == (3, 6, spec.arms)
    set_total(study, more.trials)
    assert read_request(None, {}).spec("mnist", study) == more
    for options, says in (({"trials": 7}, "compares 2 arms"), ({"limit": 7}, "limit")):
        with pytest.raises(SpecError, match=says):
            read_request(None, options).spec("mnist", study)


def test_a_study_must_match_its_file(mine: str, make: Callable[[StudySpec], StudyHandle]) -> None:
    study = make(read_request(mine, {"repeats": 4}).spec("mnist"))
    for options, trials in (({"repeats": 5}, 10), ({"repeats": 1}, 2), ({}, 8)):
        assert read_request(mine, options).spec("mnist", study).trials == trials
    Path(mine).write_text(MINE.replace("dropout = 0.1", "dropout = 0.2"))
    for config, says in ((mine, "was made with arms"), ("default", "was made with")):
        with pytest.raises(SpecError, match=says):
            read_request(config, {}).spec("mnist", study)


def test_errors_name_the_file(mine: str) -> None:
    request = read_request(mine, {})
    error = request.with_file(SpecError("repeats", "few"))
    assert isinstance(error, StudyFileError)
    assert str(error) == f"{mine}: few"
    elsewhere = SpecError("seed", "odd")
    assert request.with_file(elsewhere) is elsewhere
