import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.spec.config import StudySpec
from search.spec.domains import Choice, Domain, Range, SpecError
from search.spec.objectives import OBJECTIVES
from search.spec.parameters import known_parameters
from search.spec.study_file import (
    StudyFileError,
    find_study_file,
    read_configurations,
    read_study_file,
    write_study_file,
)
from search.spec.study_name import check_study_name, study_name_for
from tests.search.spec.reading import read


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8-sig")  # with a byte order mark, as some editors do
    return file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[study\n", "malformed TOML"),
        ("[stduy]\ntrials = 3\n", "'stduy'; did you mean 'study'?"),
        (
            "[study]\ntrails = 3\n",
            "unknown key 'trails' in [study]; did you mean 'trials'? (known: ",
        ),
        ("[study]\ntrials = 0\n", "trials must be a whole number from 1"),
        ('[study]\ntitle = "a\\nb"\n', "one line"),
        (
            '[study]\nobjective = "accuracy"\n',
            "objective must be one of calibrated_validation_loss, ",
        ),
        ("[baseline]\ndepth = [1, 2]\n", "one value"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(StudyFileError, match=r"^[^\n]*mine\.toml: [^\n]*$") as caught:
        read_study_file(written(tmp_path, text))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("optimizer=sgd, batch_norm = true", {"optimizer": "sgd", "batch_norm": True}),
        ("initial_weights='a=b', depth=3", {"initial_weights": "a=b", "depth": 3}),
        ('initial_weights="a=b, c=d"', {"initial_weights": "a=b, c=d"}),
    ],
)
def test_a_configuration_as_text(text: str, table: dict[str, object]) -> None:
    """Words need no quotes; what is in quotes stays as it is."""
    assert read_configurations([text]) == [table]


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    for name in ("absent", str(tmp_path), "../default"):
        with pytest.raises(StudyFileError, match="default"):
            find_study_file(name)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyFileError, match="UTF-8"):
        read_study_file(binary)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a b", "-x", "a\nb", "a\0b", "é", "<b>", "x" * 101, "artifacts"],
)
def test_study_names_that_are_refused(name: str) -> None:
    with pytest.raises(SpecError):
        check_study_name(name)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("fashion_mnist", "fashion_mnist"),
        ("folder:/home/me/my photos/", "my-photos"),
        ("folder:/<img>", "img"),
        (r"folder:C:\Users\me\my photos", "my-photos"),
        (r"npz:C:\data\x.npz", "x.npz"),
        (r"C:\code\mine.py:load", "mine.py-load"),
        ("folder:/", "images"),
        ("folder:/Artifacts", "images"),
    ],
)
def test_a_study_is_named_after_its_data(dataset: str, name: str) -> None:
    assert check_study_name(study_name_for(dataset)) == name


def _domains(name: str) -> st.SearchStrategy[Domain]:
    """A parameter's domains: fixed at its default, a choice of its options, or a range."""
    parameter = known_parameters()[name]
    found: list[st.SearchStrategy[Domain]] = [st.just(parameter.default)]
    if parameter.options:
        options = st.lists(st.sampled_from(sorted(parameter.options)), min_size=1, unique=True)
        found.append(options.map(lambda values: Choice(values=tuple(values))))
    if parameter.kinds == (int,):
        found.append(st.builds(lambda low, more: Range(low=low, high=low + more),
                               st.integers(1, 9), st.integers(0, 90)))  # fmt: skip
    if parameter.kinds == (float,):
        found.append(st.builds(lambda low, log: Range(low=low, high=0.9, log=log),
                               st.floats(1e-6, 0.9), st.booleans()))  # fmt: skip
    return st.one_of(found)


SPECS = st.builds(
    StudySpec,
    dataset=st.just("digits"),
    title=st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=9),
    trials=st.integers(1, 10**6),
    seed=st.just(0),
    patience=st.none() | st.integers(1, 9),
    space=st.fixed_dictionaries({}, optional={name: _domains(name) for name in known_parameters()}),
    baseline=st.none() | st.just({"hidden": (7, 3), "learning_rate": 3e-4, "padding": 0}),
)


@given(SPECS)
def test_a_specification_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, spec: StudySpec
) -> None:
    assert StudySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    file = tmp_path_factory.getbasetemp() / "written.toml"
    assert read(file, write_study_file(spec)) == spec


def test_whole_ends_of_a_range_do_not_make_a_real_parameter_whole(tmp_path: Path) -> None:
    spec = read(
        tmp_path / "mine.toml",
        "[space]\naugmentation_strength = { low = 0, high = 1 }\ndepth = { low = 1, high = 3 }\n"
        "gradient_clip = { low = 1, high = 5, step = 2 }\n",
    )
    again = StudySpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    for one in (spec, again):
        assert whole(one) == {"depth", "gradient_clip"}
    # A study made by an earlier version keeps the distributions of its trials.
    older = {**spec.to_dict(), "space": {"augmentation_strength": {"low": 0, "high": 1}}}
    assert whole(StudySpec.from_dict(older)) == {"augmentation_strength"}


def whole(spec: StudySpec) -> set[str]:
    return {name for name, it in spec.space.items() if isinstance(it, Range) and it.integer}


@pytest.mark.parametrize(
    ("key", "new", "older"),
    [
        ("objective", "calibrated_validation_loss", "validation_loss"),
        ("pruner", "promotion", "halving"),
        ("budget", 0.3, 1.0),
    ],
)
def test_older_studies_keep_what_was_usual(key: str, new: object, older: object) -> None:
    stored = StudySpec(dataset="digits", minimize_also="parameters").to_dict()
    assert stored.pop(key) == new
    assert getattr(StudySpec.from_dict(stored), key) == older


def test_an_objective_is_chosen(tmp_path: Path) -> None:
    spec = read(tmp_path / "mine.toml", '[study]\nobjective = "validation_error"\n')
    assert spec.value.label == "validation error"
    assert all(it.description and it.label for it in OBJECTIVES.values())
