"""Precedence: options, then the study file, then a study that exists."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.datasets import DATASETS
from data.errors import DataError
from data.extensions import kept_registries
from models import FAMILIES
from search.running.request import Request, read_request
from search.running.study import run_study
from search.spec.config import StudySpec
from search.spec.domains import Range, SpecError
from search.spec.extensions import Extension
from search.spec.parameters import read_tables
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


def test_an_error_in_a_network_of_one_s_own_names_its_line(tmp_path: Path) -> None:
    net = "def build(image_shape, classes):\n    return undefined\n"
    (tmp_path / "mynet.py").write_text(net)
    config = tmp_path / "own.toml"
    config.write_text('[study]\ndataset = "digits"\n[space]\nfamily = "mynet.py:build"\n')
    says = r"own.toml: .*mynet.py, line 2: mynet.py:build: building it raised NameError: name 'und"
    with kept_registries(), pytest.raises(StudyFileError, match=says):
        run_study(config, progress=False, storage=f"sqlite:///{tmp_path / 'studies.db'}")


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
    Path(mine).write_text(MINE.replace("repeats = 2", "repeats = 5"))
    more = read_request(mine, {}).spec("mnist", study)
    assert (more.repeats, more.trials) == (5, 10)
    Path(mine).write_text(MINE.replace("dropout = 0.1", "dropout = 0.2"))
    changed = r"made with arms = \{[^}]*'dropout': 0.1.*, but got \{[^}]*'dropout': 0.2"
    for config, says in ((mine, changed), ("default", "was made with")):
        with pytest.raises(SpecError, match=says):
            read_request(config, {}).spec("mnist", study)
    anew = "; give another --study NAME, which trains everything anew, or"
    for text, says in (
        (f'{MINE}[[arm]]\nname = "third"\n', f"without the arm 'third'{anew} leave it out to"),
        (MINE.partition('[[arm]]\nname = "b"')[0], f"the arm 'b', which is missing{anew} put it"),
        (f'{MINE}[[journal]]\nobjective = "o"\nhypothesis = "h"\n', "without the journal {'obj"),
    ):
        Path(mine).write_text(text)
        with pytest.raises(SpecError, match=says):
            read_request(mine, {}).spec("mnist", study)


def test_a_study_made_with_halving_resumes_with_its_file(
    tmp_path: Path, make: Callable[[StudySpec], StudyHandle]
) -> None:
    """It was the default of files that name no pruner."""
    (tmp_path / "mine.toml").write_text('[study]\ndataset = "digits"\ntrials = 5\n')
    request = read_request(str(tmp_path / "mine.toml"), {})
    new = request.spec("digits")
    assert new.pruner == "promotion"
    study = make(replace(new, pruner="halving"))
    assert request.spec("digits", study).pruner == "halving"


def test_a_space_equals_that_of_a_file(
    tmp_path: Path, make: Callable[[StudySpec], StudyHandle]
) -> None:
    (tmp_path / "mine.toml").write_text(
        '[study]\ndataset = "digits"\ntrials = 1\nepochs = 1\npatience = 3\n'
        'pruner = "promotion"\nbudget = 0.13\n[space]\ndepth = 1\n'
        "width = [8, 16]\nhidden = [[32], [16, 16]]\n"
        "learning_rate = { low = 1e-3, high = 1e-2, log = true }\n"
    )
    rate = {"low": 1e-3, "high": 1e-2, "log": True}
    space = {"depth": 1, "width": (8, 16), "hidden": [(32,), (16, 16)], "learning_rate": rate}
    given = {"dataset": "digits", "trials": 1, "epochs": 1}
    spec = read_request(str(tmp_path / "mine.toml"), {}).spec("digits")
    assert read_request(None, given, space=space).spec("digits") == spec
    # It resumes with the same space or without one, but not with another.
    study = make(spec)
    for same in (space, None):
        assert read_request(None, given, space=same).spec("digits", study) == spec
    with pytest.raises(SpecError, match="was made with space"):
        read_request(None, given, space={**space, "depth": 2}).spec("digits", study)


def test_a_range_stays_as_the_study_was_made_with_it(
    tmp_path: Path, make: Callable[[StudySpec], StudyHandle]
) -> None:
    """An earlier version took whole ends for whole numbers."""
    written = {"augmentation_strength": {"low": 0, "high": 1}}
    space = read_tables({"space": written})["space"]
    study = make(StudySpec(dataset="digits", trials=5, space=space))
    (tmp_path / "mine.toml").write_text(
        "[study]\ntrials = 5\n[space]\naugmentation_strength = { low = 0, high = 1 }\n"
    )
    for config, given in ((str(tmp_path / "mine.toml"), None), (None, written)):
        request = read_request(config, {"dataset": "digits"}, space=given)
        for resumed, is_whole in ((study, True), (None, False)):
            domain = request.spec("digits", resumed).space["augmentation_strength"]
            assert isinstance(domain, Range)
            assert domain.integer == is_whole


@pytest.mark.parametrize(
    ("given", "space", "final"),
    [
        ({}, None, 20),
        ({"epochs": 3}, None, 6),
        ({}, {"depth": 2}, None),  # the evidence is of the default file's own space
    ],
)
def test_the_default_study_says_how_long_its_winner_is_trained(
    given: dict[str, Any], space: dict[str, Any] | None, final: int | None
) -> None:
    request = read_request(None, {"dataset": "digits", **given}, space=space)
    assert request.spec("digits").final_epochs == final


@pytest.fixture
def stripes(tmp_path: Path) -> Iterator[Extension]:
    """A file that has not run yet, and adds the data set `s`."""
    file = tmp_path / "stripes.py"
    file.write_text('from data.datasets import DATASETS\nDATASETS["s"] = DATASETS["digits"]\n')
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    yield Extension(name="stripes.py", sha256=sha256, path=str(file))
    DATASETS.pop("s", None)


def test_a_data_set_may_be_of_the_files_own_extension(tmp_path: Path, stripes: Extension) -> None:
    (tmp_path / "mine.toml").write_text(f'[study]\nextensions = ["{stripes.name}"]\n')
    assert read_request(str(tmp_path / "mine.toml"), {"dataset": "s"}).dataset == "s"


@pytest.mark.parametrize(
    ("config", "given"),
    [(None, {"dataset": "s"}), (None, {"dataset": "s", "study": "s"}), ("s", {})],
)
def test_a_data_set_may_be_of_an_existing_studys_extension(
    tmp_path: Path,
    make: Callable[[StudySpec], StudyHandle],
    stripes: Extension,
    config: str | None,
    given: dict[str, Any],
) -> None:
    make(StudySpec(dataset="s", extensions=(stripes,)))
    assert "s" not in DATASETS
    if config is not None:
        config = str(tmp_path / "s.toml")
        Path(config).write_text('[study]\ndataset = "s"\n')
    options = {"storage": f"sqlite:///{tmp_path / 'studies.db'}", **given}
    assert read_request(config, options).dataset == "s"
    assert "s" in DATASETS
    with pytest.raises(DataError, match="unknown data set 'digit'; did you mean 'digits'"):
        read_request(config, {**options, "dataset": "digit"})


def test_a_network_named_from_python_is_the_one_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_in(folder: Path, argument: str) -> StudySpec:
        monkeypatch.chdir(folder)
        space = {"family": "of_here.py:build", argument: 3}
        return read_request(None, {"dataset": "digits"}, space=space).spec("digits")

    code = "def build(image_shape, classes, *, {}=1):\n    pass\n"
    first, other, empty = (tmp_path / name for name in ("first", "other", "empty"))
    try:
        # In a folder of its own, and edited there; where there is none, the one loaded last.
        for folder, argument in ((first, "units"), (other, "slope"), (other, "bias")):
            folder.mkdir(exist_ok=True)
            (folder / "of_here.py").write_text(code.format(argument))
            (extension,) = read_in(folder, argument).extensions
            assert extension.path == str(folder / "of_here.py")
        empty.mkdir()
        assert read_in(empty, "bias").extensions == (extension,)
    finally:
        FAMILIES.pop("of_here.py:build", None)


@pytest.mark.parametrize("name", ["storage", "checkpoints", "data_dir"])
def test_an_empty_argument_means_the_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[Request] = []
    monkeypatch.setattr("search.running.study.search_study", lambda it, **_: asked.append(it))
    monkeypatch.setattr("search.running.results.Study.of", lambda found: found)
    run_study(dataset="digits", **{name: ""})  # type: ignore[arg-type]
    assert getattr(asked[0], name) == getattr(read_request(None, {}), name)


def test_errors_name_the_file(mine: str) -> None:
    request = read_request(mine, {})
    error = request.with_file(SpecError("repeats", "few"))
    assert isinstance(error, StudyFileError)
    assert str(error) == f"{mine}: few"
    elsewhere = SpecError("seed", "odd")
    assert request.with_file(elsewhere) is elsewhere
