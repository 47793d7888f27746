"""A study that starts from an earlier one, in another database that is deleted afterwards."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from data.extensions import kept_registries
from search.analysis.wording import warm_start_in_words
from search.running.request import read_request
from search.running.study import run_study
from search.sampling.earlier import adapted, is_source, read_earlier
from search.spec.config import Earlier, StudySpec
from search.spec.domains import SpecError
from search.spec.extensions import Extension
from search.spec.parameters import read_parameter
from search.spec.space import ENQUEUED, OVERRIDES, distributions
from search.store import StorageError
from search.store.extensions import keep_copies
from search.store.folders import runs_folder, study_folder
from search.store.schema import SPEC as SPEC_KEY
from search.store.studies import StudyHandle
from search.study import main
from search.terminal.status import quick_status
from tests.search.long_studies import SPEC, fill
from tests.search.running.made_up import TINY

Spec = Callable[..., StudySpec]
pytestmark = pytest.mark.usefixtures("unseen")
SPACE = {
    "depth": {"low": 1, "high": 2},
    "width": {"low": 4, "high": 12},
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "hidden": [[], [16]],
}


def test_a_warm_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (f"sqlite:///{tmp_path / name}.db" for name in ("old", "new"))
    usual = {**TINY, "epochs": 2, "runs_dir": tmp_path / "runs", "device": "cpu"}
    first = run_study(**{**usual, "space": SPACE}, storage=old, study="old", trials=4)
    narrow = {**SPACE, "width": {"low": 8, "high": 12}, "hidden": [16]}
    warm = {**usual, "study": "new", "storage": new, "warm_start": f"{old}#old", "space": narrow}
    view = run_study(**{**warm, "trials": 3, "progress": True})
    (kept,) = view.earlier
    told = warm_start_in_words(kept)
    assert told in capsys.readouterr().err
    assert "study sqlite:///" in told
    assert "not searched here: hidden" in told
    assert "its 1 best configuration;" in told  # a tenth of three trials, rounded up
    assert first.best is not None
    assert first.best.best is not None
    assert kept.best == pytest.approx(first.best.best.value)
    assert len(view.trials) == 3
    # The first trial trains what the earlier study found best, as far as the new space allows.
    (moved,) = kept.configurations
    assert moved["width"] >= 8
    assert kept.clipped + kept.left_out <= len(first.trials)
    alike = [it.number for it in first.trials if it.params["depth"] == moved["depth"]]
    assert alike
    assert view.trials[0].params == moved
    assert view.trials[1].params != moved

    (tmp_path / "old.db").unlink()
    again = run_study(**warm, trials=4)  # the same call resumes
    assert again.earlier == view.earlier
    assert again.finished == 4
    assert "Warm start from study" in (quick_status(new, "new") or "")
    third, dropout = {"study": "third"}, {"family": "mlp", "dropout": {"low": 0.0, "high": 0.5}}
    for changed, kind, said in (
        ({"warm_start": "other"}, SpecError, "was made with a warm start from sqlite"),
        (third, StorageError, "no such file"),
        ({**third, "warm_start": ["nosuch"]}, StorageError, "no study 'nosuch' in"),
        (
            {**third, "warm_start": "new", "space": dropout},
            SpecError,
            "has no trial that this study could start with: 4",
        ),
    ):
        with pytest.raises(kind, match=said):
            run_study(**{**warm, **changed})
    # The study's own database, however it is named: the same call resumes.
    for name, named, source in (("fourth", f"{new}#new", "new"), ("fifth", new, "fourth")):
        for start in (named, named, source):
            made = run_study(**{**warm, "study": name, "trials": 1, "warm_start": start})
            assert [one.source for one in made.earlier] == [source]
    assert is_source("", new, new)  # as earlier versions stored it
    arguments = ["--config", "a4_dropout", "--dataset", "digits", "--warm-start", "new"]
    with pytest.raises(SpecError, match="this study compares arms"):
        main([*arguments, "--study", "sixth", "--storage", new])


def test_earlier_studies_and_the_baseline_give_no_configuration_twice(tmp_path: Path) -> None:
    for name in ("old", "alike"):
        fill(tmp_path / f"{name}.db", 40)[0].close()
    url, alike = (f"sqlite:///{tmp_path / name}.db" for name in ("old", "alike"))
    spec = replace(SPEC, trials=30)
    found = read_earlier(["s", f"{alike}#s"], spec, url, None, None)
    first, *others = (params for one in found for params in one.configurations)
    assert len({str(params) for params in (first, *others)}) == 6
    (again,) = read_earlier(["s"], replace(spec, baseline=first), url, None, None)
    assert list(again.configurations) == others[:3]
    assert [one.repeated for one in (*found, again)] == [0, 3, 1]
    assert "its 3 best configurations" in warm_start_in_words(found[0])
    said = "its 3 best configurations; 3 better ones already among the first trials"
    assert said in warm_start_in_words(found[1])
    with pytest.raises(SpecError, match=f"s and --warm-start {url} are the same study; leave one"):
        read_earlier(["s", f"{alike}#s", url], spec, url, None, None)


OWN = {"family": "edited.py:build", "units": [1, 2], "kernel": [1, 3]}


def network(arguments: str, name: str = "build") -> str:
    return f"def {name}(image_shape, classes, *, {arguments}):\n    pass\n"


@pytest.fixture
def spec_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spec]:
    """Writes a network file and makes the specification of a study of it."""

    def written(code: str, space: Mapping[str, Any], file: str = "edited.py") -> StudySpec:
        (tmp_path / file).write_text(code)
        return read_request(None, {"dataset": "digits"}, space=space).spec("digits")

    monkeypatch.chdir(tmp_path)
    with kept_registries():
        yield written


def fill_own(file: Path, spec_with: Spec) -> StudyHandle:
    """A study of an own network; its best trial is a baseline from outside the space."""
    db, study = fill(file, 9, spec_with(network("units=1, kernel=3"), OWN))
    left = {OVERRIDES: {"family": "edited.py:build", "units": 2, "kernel": 9}}
    given: dict[str, Any] = {"value": 1e-3, "intermediate_values": {12: 1e-3}, "user_attrs": left}
    own = {"units": CategoricalDistribution([1, 2])}
    study.study.add_trial(create_trial(**given, params={"units": 2}, distributions=own))
    db.close()
    return study


@pytest.mark.parametrize(
    ("arguments", "space", "first", "not_searched"),
    [
        ("units=1, kernel=3", {}, {"units": 2, "kernel": 3}, ()),
        ("units=1", {"kernel": None}, {"units": 2}, ("kernel",)),
        ("units=1, size=3", {"kernel": None, "size": [3, 5]}, {"units": 2, "size": 3}, ("kernel",)),
        ("units=1, kernel='a'", {"kernel": ["a", "b"]}, {"units": 2, "kernel": "a"}, ()),
        ("units=1, kernel=3, drop=0", {"drop": [0, 1]}, {"units": 2, "kernel": 3, "drop": 0}, ()),
        # A required argument that no earlier trial had is sampled.
        ("units=1, kernel=3, stride", {"stride": [1, 2]}, {"units": 2, "kernel": 3}, ()),
    ],
)
def test_a_study_of_an_earlier_version_of_a_network_file(
    arguments: str,
    space: dict[str, Any],
    first: dict[str, Any],
    not_searched: tuple[str, ...],
    tmp_path: Path,
    spec_with: Spec,
) -> None:
    fill_own(tmp_path / "old.db", spec_with)
    wanted = {**OWN, "kernel": [1, 3, 9], **space}
    wanted = {name: it for name, it in wanted.items() if it is not None}
    new = spec_with(network(arguments), wanted)
    (found,) = read_earlier(["s"], new, f"sqlite:///{tmp_path / 'old.db'}", None, None)
    best = found.configurations[0]
    assert best == {**first, **({"kernel": 9} if first.get("kernel") == 3 else {})}
    assert found.not_searched == not_searched


def test_an_earlier_study_of_networks_that_are_gone(tmp_path: Path, spec_with: Spec) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    study = fill_own(tmp_path / "old.db", spec_with)
    old = network("units=1, kernel=3")
    other = spec_with(old, {**OWN, "family": "other.py:build"}, "other.py")
    with pytest.raises(
        SpecError, match=r"10 do not fit .* \(their networks are edited\.py:build\)"
    ):
        read_earlier(["s"], other, url, None, None)
    renamed = spec_with(network("units=1", "made"), {"family": "edited.py:made", "units": [1, 2]})
    with pytest.raises(SpecError, match=r"'s' cannot be a warm start: edited\.py:build: the file "):
        read_earlier(["s"], renamed, url, None, None)
    # A study without the file needs the file's version, or the copy of it.
    with pytest.raises(StorageError, match=r"edited\.py has changed .* name another study"):
        read_earlier(["s"], other, url, None, None)
    extensions = [Extension(**it) for it in study.attributes[SPEC_KEY]["extensions"]]
    (tmp_path / "edited.py").write_text(old)
    keep_copies(extensions, study_folder(study, runs_folder(url)))
    (tmp_path / "edited.py").write_text(network("units=1"))
    with pytest.raises(SpecError, match="do not fit"):
        read_earlier(["s"], other, url, None, None)


def test_the_best_trial_is_taken_over_though_it_lies_outside_its_space(tmp_path: Path) -> None:
    db, study = fill(tmp_path / "old.db", 40)
    own = {ENQUEUED: {"depth": 4}, OVERRIDES: {"depth": 4}}
    rest = {"learning_rate": 3e-3, "dropout": 0.1}
    given: dict[str, Any] = {"value": 1e-3, "intermediate_values": {SPEC.epochs: 1e-3}}
    given |= {"params": rest, "distributions": {n: distributions(SPEC)[n] for n in rest}}
    study.study.add_trial(create_trial(**given, user_attrs=own))
    url, wide = f"sqlite:///{tmp_path / 'old.db'}", read_parameter("depth", [1, 2, 3, 4])
    spec = replace(SPEC, space={**SPEC.space, "depth": wide})
    (found,) = read_earlier(["s"], spec, url, db, None)
    db.close()
    assert found.configurations[0] == {**rest, "depth": 4}


def test_values_of_another_space() -> None:
    space = {
        "depth": {"low": 2, "high": 4},
        "width": {"low": 16, "high": 32, "step": 8},
        "weight_decay_kind": ["none", "coupled"],
    }
    read = {name: read_parameter(name, one) for name, one in space.items()}
    spec = StudySpec(dataset="digits", space=read)
    values = {"family": "cnn", "depth": 3, "width": 24, "weight_decay_kind": "none", "dropout": 0.3}
    assert adapted(values, spec) == ({"depth": 3, "width": 24, "weight_decay_kind": "none"}, False)
    moved = adapted({**values, "depth": 9, "width": 17}, spec)
    assert moved == ({"depth": 4, "width": 16, "weight_decay_kind": "none"}, True)
    assert adapted({**values, "weight_decay_kind": "decoupled"}, spec) is None
    assert adapted({**values, "family": "mlp"}, spec) is None


def test_a_warm_start_stored_by_an_earlier_version_can_be_read() -> None:
    stored = {
        "source": "mnist",
        "data": "MNIST",
        "objective": "validation_loss",
        "best": 0.02,
        "configurations": [[{"depth": 2}, -1.5], [{"depth": 3}, 0.2]],
        "left_out": 1,
        "clipped": 0,
        "not_searched": ["hidden"],
    }
    told = warm_start_in_words(Earlier.from_dict(stored))
    assert told.startswith("Warm start from study mnist (MNIST, best loss 0.0200): its 2 best")
    assert "configurations; 1 better one left out, outside this study's space or" in told
