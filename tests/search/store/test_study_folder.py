"""Whose folder is whose: two databases, names given again, folders of an earlier version."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from search.running.run import checkpoint_path
from search.store import study_folder as module
from search.store.identity import study_identity
from search.store.opening import open_database
from search.store.storage import Database, StorageError
from search.store.study_folder import OWNER, owner_of, study_folder
from search.training.files import save_checkpoint

Made = tuple[Database, optuna.Study]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Made]:
    """A study in a database of its own, or in one that is there."""

    def make(database: str = "studies.db", name: str = "digits") -> Made:
        db = open_database(f"sqlite:///{tmp_path / database}")
        request.addfinalizer(db.close)
        return db, optuna.create_study(study_name=name, storage=db.optuna, load_if_exists=True)

    return make


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def write_checkpoint(folder: Path, trial: optuna.trial.FrozenTrial) -> Path:
    path = checkpoint_path(folder, trial.number)
    identity = {"trial": trial._trial_id, "started": str(trial.datetime_start), "config": {}}
    save_checkpoint(path, {"identity": identity, "training": {"epoch": 1}})
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_bears_the_studys_name_and_identity(make: Callable[..., Made], runs: Path) -> None:
    db, study = make()
    folder = study_folder(db, study, runs)
    assert folder == runs / "digits"
    assert json.loads((folder / OWNER).read_text()) == {
        "study": "digits",
        "identity": study_identity(db, study),
        "database": db.url,
    }
    before = content(folder)
    assert study_folder(db, study, runs) == folder
    assert content(folder) == before


def test_of_either_kind_of_database(db: Database, study: optuna.Study, runs: Path) -> None:
    (runs / "study" / "final").mkdir(parents=True)  # of an earlier version, perhaps another's
    folder = study_folder(db, study, runs)
    assert folder == runs / "study-2" == study_folder(db, study, runs)


def test_two_databases_with_a_study_of_one_name(
    make: Callable[..., Made], runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first keeps all that it has, and each finds its own again, whoever comes first."""
    first, second, third = make("a.db"), make("b.db"), make("c.db")
    folder = study_folder(*first, runs)
    write_checkpoint(folder, first[1].ask().study.trials[0])
    before = content(folder)
    assert study_folder(*second, runs) == runs / "digits-2"
    assert f"{folder} holds the files of another study" in caplog.text
    assert study_folder(*third, runs) == runs / "digits-3"
    assert content(folder) == before
    assert study_folder(*second, runs) == runs / "digits-2"
    assert study_folder(*first, runs) == folder
    assert study_folder(*make("a.db", "digits-2"), runs) == runs / "digits-2-2"


def test_a_name_given_again_in_one_database(make: Callable[..., Made], runs: Path) -> None:
    db, study = make()
    folder = study_folder(db, study, runs)
    write_checkpoint(folder, study.ask().study.trials[0])
    before = content(folder)
    optuna.delete_study(study_name="digits", storage=db.optuna)
    assert study_folder(*make(), runs) == runs / "digits-2"
    assert content(folder) == before


def test_a_folder_that_a_person_moved_is_found(make: Callable[..., Made], runs: Path) -> None:
    db, study = make()
    study_folder(db, study, runs).rename(runs / "my digits")
    assert study_folder(db, study, runs) == runs / "my digits"


def test_a_removed_one_is_made_anew(make: Callable[..., Made], runs: Path) -> None:
    db, study = make()
    folder = study_folder(db, study, runs)
    (folder / OWNER).unlink()
    folder.rmdir()
    assert study_folder(db, study, runs) == folder
    assert owner_of(folder) == study_identity(db, study)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"identity": 7}', b"[" * 9_000, b"\xff", b'{"x": 1}'],
    ids=range(7),
)
def test_a_damaged_identity_is_somebodys(
    make: Callable[..., Made], runs: Path, damage: bytes
) -> None:
    (runs / "digits").mkdir(parents=True)
    (runs / "digits" / OWNER).write_bytes(damage)
    assert study_folder(*make(), runs) == runs / "digits-2"
    assert (runs / "digits" / OWNER).read_bytes() == damage


@pytest.mark.parametrize("target", ["/dev/zero", "gone", "."])
def test_an_identity_that_is_no_file_is_somebodys(
    make: Callable[..., Made], runs: Path, target: str
) -> None:
    (runs / "digits").mkdir(parents=True)
    (runs / "digits" / OWNER).symlink_to(target)
    assert study_folder(*make(), runs) == runs / "digits-2"


def test_an_empty_folder_or_a_link_to_another_disk_is_taken(
    make: Callable[..., Made], runs: Path, tmp_path: Path
) -> None:
    runs.mkdir()
    (tmp_path / "disk").mkdir()
    (runs / "digits").symlink_to(tmp_path / "disk")
    assert study_folder(*make(), runs) == runs / "digits"
    assert (tmp_path / "disk" / OWNER).exists()


class TestOfAnEarlierVersion:
    """Folders without an identity."""

    def test_with_the_studys_checkpoints_it_is_taken(
        self, make: Callable[..., Made], runs: Path
    ) -> None:
        _, other = other_made = make("b.db")
        other.ask()
        db, study = make("a.db")
        checkpoint = write_checkpoint(runs / "digits", study.ask().study.trials[0])
        before = checkpoint.read_bytes()
        assert study_folder(*other_made, runs) == runs / "digits-2"  # though it has begun
        assert study_folder(db, study, runs) == runs / "digits"
        assert checkpoint.read_bytes() == before

    def test_with_results_it_is_taken_by_a_study_that_has_begun(
        self, make: Callable[..., Made], runs: Path
    ) -> None:
        (runs / "digits" / "final").mkdir(parents=True)
        (runs / "digits" / "final" / "metrics.json").write_text("{}")
        new, old = make("new.db"), make("old.db")
        old[1].tell(old[1].ask(), 0.5)
        assert study_folder(*new, runs) == runs / "digits-2"
        assert study_folder(*old, runs) == runs / "digits"

    def test_of_one_that_two_have_used_each_gets_its_own_checkpoints(
        self, make: Callable[..., Made], runs: Path
    ) -> None:
        (db_a, a), (db_b, b) = make("a.db"), make("b.db")
        a.ask()
        mine = write_checkpoint(runs / "digits", a.trials[0]).read_bytes()
        b.ask(), b.ask()
        theirs = write_checkpoint(runs / "digits", b.trials[1]).read_bytes()
        folder = study_folder(db_a, a, runs)
        assert folder == runs / "digits-2"
        assert checkpoint_path(folder, 0).read_bytes() == mine
        assert study_folder(db_b, b, runs) == runs / "digits"
        assert checkpoint_path(runs / "digits", 1).read_bytes() == theirs

    def test_checkpoints_in_the_present_folder_come_to_the_database(
        self, make: Callable[..., Made], tmp_path: Path
    ) -> None:
        """Where they lay, wherever the database was."""
        (tmp_path / "there").mkdir()
        db, study = make("there/studies.db")
        study.ask()
        earlier = write_checkpoint(tmp_path / "runs" / "digits", study.trials[0])
        before = earlier.read_bytes()
        folder = study_folder(db, study, tmp_path / "there" / "runs")
        assert checkpoint_path(folder, 0).read_bytes() == before
        assert not earlier.exists()


def test_without_hard_links(
    make: Callable[..., Made], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", no_links)
    assert study_folder(*make("a.db"), runs) == runs / "digits"
    assert study_folder(*make("b.db"), runs) == runs / "digits-2"
    assert not list(runs.rglob("*.tmp"))


def test_a_folder_that_cannot_be_had_is_one_line(make: Callable[..., Made], runs: Path) -> None:
    runs.touch()
    with pytest.raises(StorageError, match="runs is not a folder"):
        study_folder(*make(), runs)
    runs.unlink()
    runs.symlink_to("gone")
    with pytest.raises(StorageError, match=r"cannot use .*--runs-dir"):
        study_folder(*make(), runs)


def claim_at_once(url: str, runs: Path, barrier: object, found: object) -> None:
    db = open_database(url)
    study = optuna.load_study(study_name="digits", storage=db.optuna)
    barrier.wait()  # type: ignore[attr-defined]
    found.put((url, study_folder(db, study, runs)))  # type: ignore[attr-defined]
    db.close()


def test_processes_that_start_at_once_agree(make: Callable[..., Made], tmp_path: Path) -> None:
    """Three of each of two studies of one name: one folder for each study, whoever is first."""
    urls = [make(name)[0].url for name in ("a.db", "b.db")]
    context = multiprocessing.get_context("fork")
    for attempt in range(2):
        barrier, found = context.Barrier(6), context.Queue()
        runs = tmp_path / f"runs{attempt}"
        processes = [
            context.Process(target=claim_at_once, args=(url, runs, barrier, found))
            for url in urls * 3
        ]
        for process in processes:
            process.start()
        answers = {found.get(timeout=60) for _ in processes}
        for process in processes:
            process.join()
        assert len(answers) == 2
        assert {folder.name for _, folder in answers} == {"digits", "digits-2"}
        assert sorted(path.name for path in runs.rglob("*")) == [
            *("digits", "digits-2", OWNER, OWNER)
        ]
