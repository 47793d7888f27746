"""The user's own files: networks and registry entries, and what happens when they change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from data.extensions import kept_registries, line_of
from models import FAMILIES, build
from search import finalize, leaderboard, report, study, worker
from search.analysis.wording import describe_network
from search.running.exports import export_study
from search.running.results import load_study
from search.running.study import run_study
from search.spec import extensions
from search.spec.config import StudySpec
from search.spec.domains import Choice, Range, SpecError
from search.spec.extensions import (
    check_complete,
    handed_over,
    load_extension,
    register_families,
    restore_family,
)
from search.spec.parameters import read_tables
from search.spec.schedules import SCHEDULES
from search.spec.space import (
    base_values,
    baseline_values,
    check_space,
    make_config,
    queued_baseline,
    suggest,
)
from search.spec.study_file import StudyFileError, write_study_file
from search.store import StorageError
from tests.search.running.made_up import TINY
from tests.search.spec.reading import read

NET = """\
from torch import nn

def build(image_shape, classes, *, blocks: int = 2, width: int, bias=True):
    \"\"\"One convolution and a mean.\"\"\"
    return nn.Sequential(
        nn.Conv2d(image_shape[0], width * blocks, 3, bias=bias),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * blocks, classes),
    )
"""
STUDY = """\
[study]
dataset = "digits"
[space]
family = "mynet.py:build"
width = { low = 4, high = 8 }
blocks = [1, 2]
learning_rate = 0.01
"""
SHORT = """\
from models import FAMILIES, family_from_function

def build(image_shape, classes, *, channels=16, hidden=8, depth=7):
    pass

FAMILIES["mynet"] = family_from_function("mynet", build)
"""
MINE = """\
from dataclasses import dataclass
from models import FAMILIES, Architecture, Family, Parameter
from search.spec.schedules import SCHEDULES, Schedule

@dataclass(frozen=True)
class TinyConfig(Architecture):
    units: int = 4

def build(config, image_shape, classes):
    from torch import nn
    hidden = nn.LazyLinear(config.units)
    return nn.Sequential(nn.Flatten(), hidden, nn.Linear(config.units, classes))

FAMILIES["tiny"] = Family(
    description="two linear layers", config=TinyConfig, build=build,
    parameters={"units": Parameter(kinds=(int,), default=4, description="hidden units")},
)
SCHEDULES["line"] = Schedule(description="down to 0", factor=lambda progress: 1 - progress)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory is not the study file's; registries are restored."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    families, schedules = dict(FAMILIES), dict(SCHEDULES)
    (tmp_path / "mynet.py").write_text(NET)
    yield tmp_path
    for registry, before in ((FAMILIES, families), (SCHEDULES, schedules)):
        registry.clear()  # type: ignore[attr-defined]
        registry.update(before)  # type: ignore[attr-defined]


def spec_of(folder: Path, text: str = STUDY) -> StudySpec:
    return read(folder / "mine.toml", text)


def stored(spec: StudySpec) -> Any:
    return json.loads(json.dumps(spec.to_dict()))


def test_a_custom_network_is_searched_under_its_argument_names(folder: Path) -> None:
    spec = spec_of(folder)
    (extension,) = spec.extensions
    assert (extension.name, extension.path) == ("mynet.py", str(folder / "mynet.py"))
    assert len(extension.sha256) == 64
    assert list(spec.parameters)[:4] == ["family", "blocks", "width", "bias"]
    check_space(spec, (1, 8, 8), 10)
    config = make_config({"family": "mynet.py:build", "width": 5, "blocks": 2}, spec)
    expected = {"family": "mynet.py:build", "blocks": 2, "width": 5, "bias": True}
    assert config.to_dict()["architecture"] == expected
    assert build(config.architecture, (1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert StudySpec.from_dict(stored(spec)) == spec


@pytest.mark.parametrize(
    ("argument", "domain", "baseline", "width"),
    [
        ("width: int", "{ low = 4, high = 8 }", "width = 3", 3),
        # Without a default that a study can name it has the space's first value.
        ("width: int", "{ low = 4, high = 8 }", "", 4),
        ("width=None", "{ low = 4, high = 8 }", "", 4),
        ("width=((1, 2), (3, 4))", "[[1, 2], [3]]", "", [1, 2]),
    ],
)
def test_a_custom_network_can_be_the_baseline(
    folder: Path, argument: str, domain: str, baseline: str, width: object
) -> None:
    (folder / "mynet.py").write_text(NET.replace("width: int", argument))
    study = STUDY.replace("{ low = 4, high = 8 }", domain)
    spec = spec_of(folder, f"{study}[baseline]\nblocks = 1\n{baseline}")
    network = suggest(queued_baseline(spec), spec).to_dict()["architecture"]
    assert (network["width"], network["blocks"]) == (width, 1)


def test_a_network_with_a_short_name_has_its_own_parameters(folder: Path) -> None:
    """Although the convolutional family has others of these names."""
    (folder / "short.py").write_text(SHORT)
    head = '[study]\nextensions = ["short.py"]\n[space]\n'
    searched = "channels = { low = 4, high = 12 }\nhidden = [32, 64]\n"
    spec = spec_of(folder, f'{head}{searched}family = "mynet"\npool = "max"\n')
    assert spec.space["channels"] == Range(low=4, high=12)
    assert spec.space["hidden"] == Choice(values=(32, 64))
    assert base_values(spec)["depth"] == 7  # so `--enqueue depth=3` is another network
    assert StudySpec.from_dict(stored(spec)) == spec
    other = spec_of(folder, f'{head}depth = [2, 4]\n[baseline]\nfamily = "mynet"\n')
    assert baseline_values(other)["depth"] == 7


@pytest.mark.parametrize("table", ['[[arm]]\nname = "usual"\n[[arm]]\nname = "own"', "[baseline]"])
def test_only_an_arm_or_the_baseline_is_a_custom_network(folder: Path, table: str) -> None:
    own = 'family = "mynet.py:build"\nwidth = 4\n'
    spec = spec_of(folder, f"[space]\nhidden = [32]\n{table}\n{own}")
    assert spec.families == ("cnn", "mynet.py:build")
    assert spec.space["hidden"] == (32,)
    check_space(spec, (1, 8, 8), 10)
    assert StudySpec.from_dict(stored(spec)) == spec


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("depth = 3", "unknown parameter 'depth' (known: family, blocks, width, bias, batch_size"),
        ("bias = 3", "bias (argument bias) must be true or false, but got 3"),
        ("family = 'other.py:build'", "other.py"),
        ("family = 'mynet.py:make'", "mynet.py:make: the file has no such function"),
    ],
)
def test_what_the_network_does_not_accept_is_refused(folder: Path, line: str, says: str) -> None:
    text = STUDY.replace('family = "mynet.py:build"', line) if "family" in line else STUDY + line
    with pytest.raises(StudyFileError, match=r"mine\.toml") as caught:
        spec_of(folder, text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_that_cannot_be_built_are_refused_when_the_study_begins(folder: Path) -> None:
    for before, after, says in (
        ("width = { low = 4, high = 8 }\n", "", r"needs width; give it in \[space\]"),
        ("blocks = [1, 2]", "blocks = [1, -2]", "mynet.py:build: building it raised"),
    ):
        spec = spec_of(folder, STUDY.replace(before, after))
        with pytest.raises(SpecError, match=says):
            check_space(spec, (1, 8, 8), 10)


def test_a_changed_or_missing_file_is_refused(folder: Path) -> None:
    spec = spec_of(folder)
    (folder / "mynet.py").write_text(NET + "# another\n")
    with pytest.raises(SpecError, match=r"mynet.py has changed since the study was made \(SHA-256"):
        StudySpec.from_dict(stored(spec))
    (folder / "mynet.py").unlink()
    with pytest.raises(SpecError, match=r"needs mynet.py, which is not at .*; put it there or"):
        StudySpec.from_dict(stored(spec))
    Path("mynet.py").write_text(NET)  # the working directory's will do
    assert StudySpec.from_dict(stored(spec)) == spec


@pytest.mark.parametrize("where", ["dataset", "space", "baseline", "arm"])
def test_a_file_that_is_named_without_its_sha256_is_not_run(folder: Path, where: str) -> None:
    """A database from elsewhere may name any file on the machine."""
    values = stored(spec_of(folder)) | {"extensions": [], "space": {"family": "cnn"}}
    owned, mark = folder / "owned.py", folder / "ran"
    owned.write_text(f"from pathlib import Path; Path({str(mark)!r}).touch()")
    named = f"{owned}:f"
    values |= {
        "dataset": {"dataset": named},
        "space": {"space": {"family": named}},
        "baseline": {"baseline": {"family": named}},
        "arm": {"arms": [{"name": "a", "values": {"family": named}, "reported": {}}]},
    }[where]
    with pytest.raises(SpecError, match=r"names .*owned\.py without its SHA-256, so it is not run"):
        StudySpec.from_dict(values)
    assert not mark.exists()


@pytest.mark.usefixtures("unseen")
def test_a_study_whose_file_has_changed_is_read_but_not_trained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the file is put back, of which the study's folder has a copy."""
    file, url = Path("mynet.py"), "sqlite:///studies.db"
    file.write_text(NET)
    own = {"family": "mynet.py:build", "width": 4, "blocks": [1, 2]}
    trained = run_study(**{**TINY, "space": own}, study="own", trials=1, storage=url)
    (copy,) = Path("runs/own/extensions").iterdir()
    assert copy.name == f"mynet-{trained.spec.extensions[0].sha256[:12]}.py"
    file.write_text(f"{NET}# another\n")
    assert load_study("own", storage=url) == trained  # this process has the study's version
    assert FAMILIES["mynet.py:build"].source == NET
    assert not caplog.messages

    monkeypatch.setattr(extensions, "_loaded", {})  # as in a new process
    rows = load_study("own", storage=url).to_pandas("leaderboard")
    assert rows.equals(trained.to_pandas("leaderboard"))
    words = ["--study", "own", "--storage", url]
    assert study.main(["--status", *words]) == leaderboard.main(words) == 0
    assert report.main([*words, "--formats", "svg"]) == 0
    export_study("own", to="tables", storage=url)

    says = f"mynet.py has changed .* name another study; the study's copy of it is {copy}$"
    for main in (study.main, worker.main, finalize.main):
        monkeypatch.setattr(extensions, "_loaded", {})
        with pytest.raises(StorageError, match=says):
            main(words)
    for text in (NET.replace("width", "breadth"), "1 / 0", None):  # None: the file is gone
        file.unlink() if text is None else file.write_text(text)
        monkeypatch.setattr(extensions, "_loaded", {})
        assert load_study("own", storage=url).to_pandas("leaderboard").equals(rows)
    monkeypatch.setattr(extensions, "_loaded", {})
    with pytest.raises(StorageError, match=f"needs mynet.py, .*; the study's copy of it is {copy}"):
        worker.main(words)
    copy.rename(file)
    file.write_text(f"{NET}# another\n")
    with pytest.raises(StorageError, match=r"mynet\.py has changed .* put that version back"):
        load_study("own", storage=url)  # a study of an earlier version has no copy
    file.write_text(NET)
    assert worker.main(words) == 0  # it has its total
    assert copy.read_text() == NET


def test_an_extension_adds_entries_to_registries(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE)
    text = '[study]\nextensions = ["mine.py"]\n[space]\nfamily = "tiny"\nschedule = "line"\n'
    spec = spec_of(folder, text + "units = [4, 8]\n")
    assert [one.name for one in spec.extensions] == ["mine.py"]
    check_space(spec, (1, 8, 8), 10)
    config = make_config({"family": "tiny", "units": 8, "schedule": "line"}, spec)
    family = FAMILIES["tiny"]
    assert describe_network(config.architecture) == "tiny, units 8"
    assert family.source == MINE
    del FAMILIES["tiny"]
    restore_family("tiny", MINE)
    assert FAMILIES["tiny"].description == "two linear layers"
    assert spec_of(folder, write_study_file(spec)) == spec


def test_a_family_is_restored_from_its_code_alone(folder: Path) -> None:
    (folder / "mynet.py").unlink()
    code = f"{NET}# of a bundle\n"
    restore_family("mynet.py:build", code)
    assert FAMILIES["mynet.py:build"].source == code
    with pytest.raises(SpecError, match="no such function"):
        restore_family("mynet.py:other", NET)
    with pytest.raises(SpecError, match="ZeroDivisionError"):
        restore_family("mynet.py:third", "1 / 0")


def test_each_study_has_the_entries_of_its_own_version(folder: Path) -> None:
    """Whichever version, of a file or of a bundle's code, ran last."""
    file = folder / "mine.py"
    text = '[study]\nextensions = ["mine.py"]\n[space]\nfamily = "tiny"\nschedule = "line"\n'

    def use(code: str) -> tuple[StudySpec, str, float]:
        file.write_text(code)
        spec = spec_of(folder, text)
        assert FAMILIES["tiny"].source == code
        return spec, FAMILIES["tiny"].description, SCHEDULES["line"].factor(0.5)

    changed = MINE.replace("two linear", "2 linear").replace("1 - progress", "1 - progress**2")
    first, *of_first = use(MINE)
    network = make_config({"family": "tiny", "units": 8}, first).architecture
    assert of_first == ["two linear layers", 0.5]
    second, *of_second = use(changed)
    assert of_second == ["2 linear layers", 0.75]
    file.write_text(MINE)
    assert StudySpec.from_dict(stored(first)) == first
    assert (FAMILIES["tiny"].source, SCHEDULES["line"].factor(0.5)) == (MINE, 0.5)
    assert describe_network(network) == "tiny, units 8"
    assert use(changed) == (second, *of_second)

    for code in (MINE, MINE.replace("two linear", "three linear").replace("- progress", "- 1")):
        restore_family("tiny", code)
        assert (FAMILIES["tiny"].source, SCHEDULES["line"].factor(0.5)) == (code, 0.75)
    assert StudySpec.from_dict(stored(second)) == second
    assert FAMILIES["tiny"].source == changed


def test_only_files_of_data_alone_may_import_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "our_pictures.py").write_text(
        "def load(train, data_dir):\n    raise NotImplementedError\n"
    )
    monkeypatch.syspath_prepend(folder)
    text = "from data.datasets import DATASETS, from_arrays\nfrom our_pictures import load\n"
    text += 'DATASETS["mine"] = from_arrays(load, title="Mine", description="mine")\n'
    (folder / "mydata.py").write_text(text)
    (folder / "both.py").write_text(text + NET)
    with kept_registries():
        data, both = (load_extension(it, folder / it) for it in ("mydata.py", "both.py"))
        check_complete([data, both], ["cnn"], "mine")
        other = load_extension("../mydata.py", folder / "mydata.py")
        check_complete([data, other], [], "../mydata.py:load")
        for dataset in ("mine", "both.py:load"):
            with pytest.raises(SpecError, match=r"both\.py imports .*our_pictures\.py, which"):
                check_complete([data, both], ["both.py:build"], dataset)


def test_files_handed_over_keep_their_names_in_messages() -> None:
    fails = b"def build(image_shape, classes):\n    raise ValueError('width')\n"
    with handed_over({"a/mynet.py": fails, "b/mynet.py": fails + b"#"}):
        register_families(["b/mynet.py:build"])
        with pytest.raises(ValueError, match="width") as caught:
            FAMILIES["b/mynet.py:build"].build(FAMILIES["b/mynet.py:build"].config(), (1, 8, 8), 2)
    assert line_of(caught.value) == "mynet.py, line 2: "


def test_from_python_files_are_looked_up_in_the_working_directory() -> None:
    Path("mynet.py").write_text(NET)
    register_families(["mynet.py:build"])
    written = {"family": ["cnn", "mynet.py:build"], "width": 4}
    spec = StudySpec(dataset="digits", **read_tables({"space": written}))
    assert spec.space["family"] == Choice(values=("cnn", "mynet.py:build"))
    assert spec.space["width"] == 4
    assert [one.name for one in spec.extensions] == ["mynet.py"]
    check_space(spec, (1, 8, 8), 10)
