"""A study resumes with the data that it was made with, wherever they are, and with no others."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from data.errors import DataError
from models import ConvNetConfig, build
from search import study, worker
from search.final import final, folder, runs
from search.final.final import finalise
from search.running.results import load_study
from search.running.study import run_study
from search.spec import extensions
from search.spec.domains import SpecError
from search.store.data import HELD_OUT, PLACES, WEIGHTS, find_place
from search.store.opening import open_database
from search.store.schema import FINGERPRINT
from search.store.studies import require_study
from search.training import repeat
from search.training.epoch import StoppedError
from tests.conftest import draw_nothing
from tests.data.pets import SIZES, draw, make_pets

SPACE = {"depth": 1, "width": 4, "hidden": [[]], "learning_rate": 0.01, "batch_size": 8}
Change = Callable[[Path], object]
pytestmark = pytest.mark.usefixtures("unseen")
# Where the test pictures come from makes no difference.
one_kind = pytest.mark.parametrize("made", ["drawn"], indirect=True)


def search(**options: Any) -> Any:
    given: dict[str, Any] = {"study": "pets", "workers": 1, "progress": False, **options}
    return run_study(**given)


def stored() -> list[Any]:
    """Everything that a study consists of, in the database and beside it."""
    with closing(sqlite3.connect("studies.db")) as connection:
        return [list(connection.iterdump()), sorted(Path("runs").rglob("*"))]


def refuse(says: str, *commands: Callable[[], object]) -> str:
    """Each ends in one line, which is returned, and writes nothing."""
    before = stored()
    for command in commands:
        with pytest.raises(DataError, match=says) as refused:
            command()
        assert len(str(refused.value).splitlines()) == 1
        assert "--study NAME" in str(refused.value)
        assert stored() == before
    return str(refused.value)


def forget(kind: str, key: str) -> None:
    """Make the study one of an earlier version, which did not store this attribute."""
    with closing(sqlite3.connect("studies.db")) as connection, connection:
        connection.execute(f"DELETE FROM study_{kind}_attributes WHERE key = ?", (key,))


@pytest.fixture(scope="module", params=["drawn", "own"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, with a drawn test set or its own, and a finished study of them."""
    folder = tmp_path_factory.mktemp("pets")
    live = folder / "live"
    make_pets(live / "pets")
    if request.param == "own":
        make_pets(live / "pets", "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(live)
        draw_nothing(patch)
        search(dataset="folder:pets", trials=2, epochs=1, seed=0, space=SPACE, data_dir="data")
    shutil.copytree(live, folder / "pristine")
    return folder


@pytest.fixture
def place(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as the current directory, as it was right after the study."""
    live = made / "live"
    for path in live.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(made / "pristine", live, dirs_exist_ok=True)
    monkeypatch.chdir(live)
    monkeypatch.setenv("SEARCH_DATA_DIR", "data")
    monkeypatch.setattr(runs, "default_workers", lambda _: 1)
    monkeypatch.setattr(folder, "write_pictures", lambda *_: [])  # takes longer than the training
    return live


def test_the_first_study_chooses_test_pictures_not_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCH_DATA_DIR", "data")
    make_pets(tmp_path / "pets")
    start = ["--dataset", "folder:pets", "--epochs", "1"]
    assert study.main([*start, "--dry-run"]) == 0
    assert "No study was created" in capsys.readouterr().out
    assert [it.name for it in tmp_path.iterdir()] == ["pets"]
    for seed in range(1000, 1100):
        draw(tmp_path / f"pets/train/cat/{seed}.png", seed)
    made = search(dataset="folder:pets", trials=1, epochs=1, space=SPACE)
    chosen = sum(SIZES.values()) // 5 + 20
    assert f"so {chosen} pictures are held out" in "\n".join(made.dataset.notes)
    draw(tmp_path / "pets/train/cat/late.png", 1100)
    with pytest.raises(DataError, match="91 pictures in 'cat', not 90"):
        search(dataset="folder:pets", trials=2)
    other = search(dataset="folder:pets", study="other", trials=1, epochs=1, space=SPACE)
    assert other.dataset.notes == made.dataset.notes


def rename_class(root: Path, old: str = "cat", new: str = "zebra") -> None:
    for split in root.iterdir():
        (split / old).rename(split / new)


def add_pictures(root: Path) -> None:
    draw(root / "train/cat/new.png", 2000)
    draw(root / "train/eel/new.png", 2001)


def replace_pictures(root: Path) -> None:
    for file in (root / "train/cat").iterdir():
        draw(file, 3000 + int(file.stem))


CHANGES: dict[str, tuple[Change, str]] = {
    "renamed": (rename_class, "class 'zebra' is new, class 'cat' is gone"),
    "replaced": (replace_pictures, "different pictures in 'cat'"),
    "more": (add_pictures, "pictures in 'cat', not"),
}


@one_kind
@pytest.mark.parametrize("name", CHANGES)
def test_other_data_are_refused_by_every_command_and_nothing_is_written(
    place: Path, name: str
) -> None:
    change, said = CHANGES[name]
    change(place / "pets")
    refuse(
        said,
        lambda: search(trials=3, dataset="folder:pets"),
        lambda: worker.main(["--study", "pets", "--quiet"]),
        lambda: finalise("pets", seeds=1),
    )


@pytest.mark.parametrize("made", ["own"], indirect=True)
def test_other_test_pictures_are_refused(place: Path) -> None:
    """Even those that finalise would otherwise notice only with the test set open."""
    for file in (place / "pets/test/dog").iterdir():
        draw(file, 4000 + int(file.stem))
    with pytest.raises(DataError, match="different test pictures in 'dog'"):
        finalise("pets", seeds=1)
    assert load_study("pets").results == ()


def test_moved_data_are_found_where_the_user_says_and_remembered(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(place / "pets", moved)
    for command in (lambda: search(trials=3), lambda: finalise("pets", seeds=1)):
        with pytest.raises(DataError, match="if they were moved, say where to: --dataset"):
            command()
    assert search(trials=3, dataset=f"folder:{moved}").finished == 3
    view = search(trials=4)  # from then on the place is known
    assert view.finished == 4
    assert view.dataset.name == f"folder:{place / 'pets'}"
    metrics = finalise("pets", seeds=1).metrics
    assert metrics["class_names"] == ["cat", "dog", "eel"]

    # Another host: another folder, another data directory, a worker that is given both.
    shutil.move(moved, tmp_path / "host/pets")
    with closing(open_database("sqlite:///studies.db")) as database:
        study = require_study(database, "pets")
        study.study.set_user_attr("spec", {**study.attributes["spec"], "trials": 5})
        words = ["--study", "pets", "--quiet", "--data-dir", str(tmp_path / "host/data")]
        with pytest.raises(DataError, match="if they were moved"):
            worker.main(words)
        assert worker.main([*words, "--dataset", f"folder:{tmp_path / 'host/pets'}"]) == 0
        places = database.optuna.get_study_system_attrs(study.study_id)[PLACES]
        assert places == [f"folder:{tmp_path / 'host/pets'}", f"folder:{moved}"]
        (tmp_path / "owned.py").write_text("raise RuntimeError('this file was run')")
        others = [f"{tmp_path / 'owned.py'}:load", f"folder:{tmp_path / 'not mine'}"]
        attributes = {PLACES: [*others, *places]}  # whoever writes to the database may say so
        monkeypatch.setattr(database.optuna, "get_study_system_attrs", lambda _: attributes)
        refused = partial(accessible, but=tmp_path / "not mine")
        monkeypatch.setattr("search.store.data.os.access", refused)
        assert find_place(study, None, tmp_path / "host/data") == places[0]
    assert load_study("pets").finished == 5


def accessible(path: Path, mode: int, *, but: Path, access: Any = os.access) -> bool:
    """As `os.access`, but for a folder that another user's rights close."""
    return path != but and access(path, mode)


def test_a_moved_archive_is_found_where_the_message_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels_N = np.arange(40) % 2
    images_NHW = np.full((40, 8, 8), labels_N[:, None, None] * 200, dtype=np.uint8)
    arrays = {
        f"{kind}_{part}": it
        for part in ("train", "test")
        for kind, it in (("x", images_NHW), ("y", labels_N))
    }
    np.savez("blobs.npz", **arrays)
    search(dataset="npz:blobs.npz", trials=1, epochs=1, space=SPACE)
    Path("blobs.npz").rename("moved.npz")
    with pytest.raises(
        DataError, match=r"say where to: --dataset npz:.*blobs.npz, with the new path"
    ):
        search(trials=2)
    assert search(trials=2, dataset="npz:moved.npz").finished == 2
    np.savez("moved.npz", **{**arrays, "x_train": images_NHW[:, ::2]})
    with pytest.raises(
        DataError, match=r"\(if it was moved: --dataset npz:.*moved.npz, with the new path\)"
    ):
        search(trials=3)


LOAD = """
import numpy as np

def load(train):
    labels_N = np.arange(40) % 2
    return np.full((40, 8, 8), labels_N[:, None, None] * 200, dtype=np.uint8), labels_N, "ab"
"""


@pytest.mark.parametrize("data", ["npz:blobs.npz", "folder:pets", "mydata.py:load"])
def test_a_study_file_finds_data_beside_it_and_after_they_have_moved(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = Path("old"), Path("new")
    make_pets(old / "pets")
    (old / "mydata.py").write_text(LOAD)
    arrays = dict.fromkeys(("x_train", "x_test"), np.arange(320, dtype="uint8").reshape(20, 4, 4))
    np.savez(old / "blobs.npz", **arrays, **dict.fromkeys(("y_train", "y_test"), np.arange(20) % 2))
    text = "trials = 1\nepochs = 1\n[space]\ndepth = 1\nwidth = 4\nhidden = [[]]"
    (old / "mine.toml").write_text(f'[study]\ndataset = "{data}"\n{text}\n')

    def finished(folder: Path, trials: int, **options: Any) -> tuple[str, int]:
        with pytest.MonkeyPatch.context() as patch:  # as in another process
            patch.setattr(extensions, "_loaded", {})
            config, more = str(folder / "mine.toml"), {"trials": trials, **options}
            found = run_study(config, workers=1, progress=False, data_dir="data", **more)
        return found.name, found.finished

    assert finished(old, 1) == ("mine", 1)
    if data == "mydata.py:load":
        old.rename(new)
        assert finished(new, 2) == ("mine", 2)
    else:
        kind, _, name = data.partition(":")
        (old / name).rename(f"moved-{name}")
        assert finished(old, 2, dataset=f"{kind}:moved-{name}") == ("mine", 2)
        assert finished(old, 3) == ("mine", 3)  # it is named only once


def test_other_initial_weights_are_refused_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "default_workers", lambda _: 1)
    monkeypatch.setattr(folder, "write_pictures", lambda *_: [])
    Path("src").mkdir()
    network = ConvNetConfig(channels=(4,), batch_norm=True)

    def write() -> bytes:
        save_file(build(network, (1, 8, 8), 10).state_dict(), "src/model.safetensors")
        return Path("src/model.safetensors").read_bytes()

    own = write()
    rates = {"low": 1e-3, "high": 1e-2}
    space = {"channels": [4], "hidden": [[]], "initial_weights": "src", "learning_rate": rates}
    start = {"study": "t", "dataset": "digits", "limit": 100, "epochs": 1, "space": space}
    search(**start, trials=1)
    trained, stop = [], threading.Event()
    save_checkpoint = repeat.save_checkpoint

    def save(path: Path, state: dict[str, Any]) -> None:
        save_checkpoint(path, state)
        trained.append(path)
        if state["score"] is not None:
            stop.set()  # after the first seed

    monkeypatch.setattr(repeat, "save_checkpoint", save)
    with pytest.raises(StoppedError):
        finalise("t", seeds=2, stop=stop)
    write()
    said = refuse(
        "with other initial weights than 'src' holds",
        lambda: search(**start, trials=2),
        lambda: study.main(["--study", "t", "--dry-run"]),
        lambda: worker.main(["--study", "t", "--quiet"]),
        lambda: finalise("t", seeds=2),
    )
    assert f"those that were in {tmp_path / 'src/model.safetensors'}, or" in said
    Path("src/model.safetensors").write_bytes(own)
    assert search(**start, trials=2).finished == 2
    assert finalise("t", seeds=2, trial=0).metrics["test"]["seeds"] == 2
    # A study of an earlier version has no record of its weights until it resumes.
    forget("system", WEIGHTS)
    write()
    assert search(**start, trials=3).finished == 3
    write()
    with pytest.raises(DataError, match="other initial weights"):
        search(**start, trials=4)


@pytest.mark.parametrize("where", ["baseline", "enqueue"])
def test_other_weights_of_a_single_trial_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def write() -> None:
        weights = build(ConvNetConfig(channels=(4,), batch_norm=True), (1, 8, 8), 10).state_dict()
        save_file(weights, "own.safetensors")

    write()
    file = "[study]\ndataset = 'digits'\nlimit = 100\nepochs = 1\n[space]\nchannels = [4]\n"
    file += "hidden = []\nlearning_rate = { low = 1e-3, high = 1e-2 }\n"
    named = {"initial_weights": "own.safetensors"}
    again: dict[str, Any] = {"config": "t.toml", "study": "t", "enqueue": [named]}
    if where == "baseline":
        file += "[baseline]\ninitial_weights = 'own.safetensors'\n"
        del again["enqueue"]
    Path("t.toml").write_text(file)
    assert search(**again, trials=1).finished == 1
    write()
    others = r"other initial weights than 'own\.safetensors' holds"
    refuse(others, lambda: search(**again, trials=2), lambda: finalise("t", seeds=1, trial=0))
    # An earlier version did not record them: the next start does, or the next training with them.
    forget("system", WEIGHTS)
    assert search(**again, trials=2).finished == 2
    write()
    if where == "baseline":
        with pytest.raises(DataError, match=others):
            search(**again, trials=3)
        Path("own.safetensors").unlink()
        assert search(**again, trials=3).finished == 3


@one_kind
@pytest.mark.usefixtures("place")
def test_a_moved_folder_with_other_data_is_refused(tmp_path: Path) -> None:
    other = f"folder:{make_pets(tmp_path / 'pets', first_seed=900)}"
    before = stored()
    with pytest.raises(DataError, match=r"different data than folder:.* holds: .* pictures in"):
        search(trials=3, dataset=other)
    with pytest.raises(DataError, match="pictures in 'cat'"):
        finalise("pets", dataset=other, seeds=1)
    with pytest.raises(SpecError, match="but got 'digits'"):
        finalise("pets", dataset="digits", seeds=1)
    assert stored() == before


@one_kind
def test_an_older_study_gets_its_fingerprint(place: Path) -> None:
    """Of an earlier version's study only the classes and the number of pictures are known."""
    with closing(open_database("sqlite:///studies.db")) as database:
        study = require_study(database, "pets")
        before = study.attributes[FINGERPRINT]
        forget("user", FINGERPRINT)
        forget("system", HELD_OUT)
        rename_class(place / "pets")
        with pytest.raises(DataError, match="different classes, or another size or number"):
            search(trials=3)
        rename_class(place / "pets", "zebra", "cat")
        assert search(trials=2).finished == 2
        assert study.attributes[FINGERPRINT] == before


@one_kind
def test_the_test_set_stays_closed_if_data_change_during_training(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = final.train_all

    def then_rename(*arguments: Any, **options: Any) -> Any:
        trained = train(*arguments, **options)
        rename_class(place / "pets")
        return trained

    monkeypatch.setattr(final, "train_all", then_rename)
    with pytest.raises(DataError, match="were changed meanwhile"):
        finalise("pets", seeds=1)
    assert load_study("pets").results == ()
