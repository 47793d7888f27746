"""A study resumes with the data that it was made with, wherever they are, and with no others."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from search import worker
from search.final import final, folder, runs
from search.final.final import finalise
from search.running.results import load_study
from search.running.study import run_study
from search.spec.domains import SpecError
from search.store.data import HELD_OUT, PLACES
from search.store.opening import open_database
from search.store.schema import FINGERPRINT
from search.store.studies import require_study
from tests.data.pets import draw, make_pets

SPACE = {"depth": 1, "width": 4, "hidden": [[]], "learning_rate": 0.01, "batch_size": 8}
Change = Callable[[Path], object]


def search(**options: Any) -> Any:
    given: dict[str, Any] = {"study": "pets", "workers": 1, "progress": False, **options}
    return run_study(**given)


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
    monkeypatch.setattr(folder, "save_pictures", lambda *_: [])  # takes longer than the training
    return live


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


def stored() -> list[Any]:
    """Everything that a study consists of, in the database and beside it."""
    with closing(sqlite3.connect("studies.db")) as connection:
        return [list(connection.iterdump()), sorted(Path("runs").rglob("*"))]


@pytest.mark.parametrize("name", CHANGES)
def test_other_data_are_refused_by_every_command_and_nothing_is_written(
    place: Path, name: str
) -> None:
    change, said = CHANGES[name]
    change(place / "pets")
    before = stored()
    for command in (
        lambda: search(trials=3, dataset="folder:pets"),
        lambda: worker.main(["--study", "pets", "--quiet"]),
        lambda: finalise("pets", seeds=1),
    ):
        with pytest.raises(DataError, match=said) as refused:
            command()
        assert "--study NAME" in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
        assert stored() == before


def test_other_test_pictures_are_refused(place: Path) -> None:
    """Even those that finalise would otherwise notice only with the test set open."""
    if not (place / "pets/test").exists():
        pytest.skip("the test pictures are drawn from its others")
    for file in (place / "pets/test/dog").iterdir():
        draw(file, 4000 + int(file.stem))
    with pytest.raises(DataError, match="different test pictures in 'dog'"):
        finalise("pets", seeds=1)
    assert load_study("pets").results == ()


def test_moved_data_are_found_where_the_user_says_and_remembered(
    place: Path, tmp_path: Path
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
    assert load_study("pets").finished == 5


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


def test_an_older_study_gets_its_fingerprint(place: Path) -> None:
    """Of an earlier version's study only the classes and the number of pictures are known."""
    with closing(open_database("sqlite:///studies.db")) as database:
        study = require_study(database, "pets")
        before = study.attributes[FINGERPRINT]
        with sqlite3.connect("studies.db") as connection:
            connection.execute("DELETE FROM study_user_attributes WHERE key = ?", (FINGERPRINT,))
            connection.execute("DELETE FROM study_system_attributes WHERE key = ?", (HELD_OUT,))
        rename_class(place / "pets")
        with pytest.raises(DataError, match="different classes, or another size or number"):
            search(trials=3)
        rename_class(place / "pets", "zebra", "cat")
        assert search(trials=2).finished == 2
        assert study.attributes[FINGERPRINT] == before


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
