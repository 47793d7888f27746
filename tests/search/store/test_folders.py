"""Where files are kept, which folder belongs to which study, and what is swept from it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from data.reading import TEMPORARY
from search.store import StorageError, StudyGoneError
from search.store.database import Database, write
from search.store.folders import (
    OWNER,
    check_folder,
    folder_name,
    owner_of,
    presence_check,
    runs_folder,
    study_folder,
    sweep,
)
from search.store.opening import open_database
from search.store.records import add_result, complete_result
from search.store.schema import results
from search.store.studies import StudyHandle
from search.training.files import save_checkpoint

SERVER = "postgresql://me@host/studies"
Make = Callable[..., StudyHandle]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCH_RUNS_DIR", raising=False)


def test_runs_are_beside_an_sqlite_file_or_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub, absolute = tmp_path / "sub", f"sqlite:///{tmp_path}/studies.db"
    sub.mkdir()
    (sub / "studies.db").touch()
    (tmp_path / "link.db").symlink_to(sub / "studies.db")  # a link to a database is that database
    for url in ("sqlite:///studies.db", absolute, SERVER):
        assert runs_folder(url) == Path("runs")  # short, as people and scripts see it
    for url in ("sqlite:///sub/studies.db", "sqlite:///link.db"):
        assert runs_folder(url) == Path("sub/runs")
    monkeypatch.chdir(sub)
    for url in ("sqlite:///../studies.db", absolute):
        assert runs_folder(url) == tmp_path / "runs"
    monkeypatch.setenv("SEARCH_RUNS_DIR", "/data/runs")
    assert runs_folder(SERVER) == Path("/data/runs")
    assert runs_folder(SERVER, "given") == runs_folder(absolute, "given") == Path("given")


def test_usual_names_are_kept() -> None:
    for name in ("fashion_mnist", "a-2", "A.b_c", "x" * 100, "_x", "console", "nullable"):
        assert folder_name(name) == name


def test_any_name_gives_one_folder_below(tmp_path: Path, hostile_names: tuple[str, ...]) -> None:
    """Even if another tool named the study, or somebody renamed it in the database."""
    reserved = ("con", "NUL", "com1.txt", "artifacts", "ARTIFACTS", "x.", "...", "-", "é", "a\0b")
    for name in (*hostile_names, *reserved, "../../x", "x" * 300 + "/.."):
        folder = tmp_path / folder_name(name)
        assert folder.parent == tmp_path
        assert os.path.normpath(folder) == str(folder) != str(tmp_path)
        assert 0 < len(folder.name) <= 110
        assert folder.name.isascii()
        assert folder.name.isprintable()
        assert folder.name.lower() not in ("artifacts", "con", "nul", "com1.txt")
        assert not folder.name.startswith((".", "-"))
        assert not folder.name.endswith(".")
        folder.mkdir(exist_ok=True)


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Makes a study in a database of its own, or in an existing one."""

    def make(database: str = "studies.db", name: str = "digits") -> StudyHandle:
        db = open_database(f"sqlite:///{tmp_path / database}")
        request.addfinalizer(db.close)
        study = optuna.create_study(study_name=name, storage=db.optuna, load_if_exists=True)
        return StudyHandle.of(db, study)

    return make


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def write_checkpoint(folder: Path, study: StudyHandle, number: int = 0) -> Path:
    """Save a checkpoint of a trial twice; the trial is begun first if it was not."""
    while len(study.study.trials) <= number:
        study.study.ask()
    path = folder / "checkpoints" / f"trial-{number}.pt"
    for epoch in (1, 2):
        save_checkpoint(path, {"identity": {}, "training": {"epoch": epoch}})
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_studys_folder_bears_its_name_and_identity(make: Make, runs: Path) -> None:
    study = make()
    folder = study_folder(study, runs)
    assert folder == runs / "digits"
    expected = {"study": "digits", "identity": study.identity, "database": study.db.url}
    assert json.loads((folder / OWNER).read_text()) == expected
    before = content(folder)
    assert study_folder(study, runs) == folder
    assert content(folder) == before
    check_folder(study, folder)
    folder.rename(runs / "my digits")
    assert study_folder(study, runs) == runs / "my digits"  # moved by the user, it is found
    with pytest.raises(StudyGoneError, match="was removed or renamed"):
        check_folder(study, folder)


def test_presence_is_checked_rarely_and_an_outage_is_no_absence(
    make: Make, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, asked = make(), list[StudyHandle]()
    check = presence_check(study, study_folder(study, runs))

    def away(study: StudyHandle) -> None:
        asked.append(study)
        raise OperationalError("SELECT", {}, Exception("no answer"))

    monkeypatch.setattr(StudyHandle, "check", away)
    check()
    check()
    assert asked == [study]


def test_with_either_kind_of_database(study: StudyHandle, runs: Path) -> None:
    (runs / "study" / "final").mkdir(parents=True)  # of an earlier version, perhaps another study's
    assert study_folder(study, runs) == runs / "study-2" == study_folder(study, runs)


def test_two_databases_with_studies_of_the_same_name(
    make: Make, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first keeps all its files, and each finds its own again, whichever comes first."""
    first, second = make("a.db"), make("b.db")
    folder = study_folder(first, runs)
    write_checkpoint(folder, first)
    before = content(folder)
    assert study_folder(second, runs) == runs / "digits-2"
    assert f"{folder} holds the files of another study" in caplog.text
    assert study_folder(make("c.db"), runs) == runs / "digits-3"
    assert content(folder) == before
    assert study_folder(second, runs) == runs / "digits-2"
    assert study_folder(first, runs) == folder
    assert study_folder(make("a.db", "digits-2"), runs) == runs / "digits-2-2"
    optuna.delete_study(study_name="digits", storage=first.db.optuna)
    assert study_folder(make("a.db"), runs) == runs / "digits-4"  # the name was reused


@pytest.mark.parametrize(
    "damage",
    [b"{", b'{"identity": 7}', b"[" * 9_000, b"\xff", "/dev/zero", "gone", "pipe"],
    ids=range(7),
)
def test_a_folder_with_an_unreadable_identity_is_not_taken(
    make: Make, runs: Path, damage: bytes | str
) -> None:
    (runs / "digits").mkdir(parents=True)
    os.mkfifo(runs / "digits" / "pipe")
    owner = runs / "digits" / OWNER
    owner.write_bytes(damage) if isinstance(damage, bytes) else owner.symlink_to(damage)
    study = make()
    study.study.ask()  # one that has begun would take a folder without an identity
    assert study_folder(study, runs) == runs / "digits-2"
    assert not isinstance(damage, bytes) or owner.read_bytes() == damage


def test_an_empty_folder_or_a_link_to_another_disk_is_taken(
    make: Make, runs: Path, tmp_path: Path
) -> None:
    runs.touch()
    with pytest.raises(StorageError, match="runs is not a folder"):
        study_folder(make(), runs)
    runs.unlink()
    runs.symlink_to("gone")
    with pytest.raises(StorageError, match=r"cannot use .*--runs-dir"):
        study_folder(make(), runs)
    runs.unlink()
    (tmp_path / "disk").mkdir()
    runs.mkdir()
    (runs / "digits").symlink_to(tmp_path / "disk")
    study = make()
    assert study_folder(study, runs) == runs / "digits"
    assert owner_of(tmp_path / "disk") == study.identity


def test_a_folder_of_an_earlier_version_is_taken_by_a_study_that_has_begun(
    make: Make, runs: Path
) -> None:
    new, old = make("new.db"), make("old.db")
    before = write_checkpoint(runs / "digits", old).read_bytes()
    assert study_folder(new, runs) == runs / "digits-2"
    assert study_folder(old, runs) == runs / "digits"
    assert (runs / "digits" / "checkpoints" / "trial-0.pt").read_bytes() == before


def claim_at_once(url: str, runs: Path, barrier: object, found: object) -> None:
    db = open_database(url)
    study = StudyHandle.of(db, optuna.load_study(study_name="digits", storage=db.optuna))
    barrier.wait()  # type: ignore[attr-defined]
    found.put((url, study_folder(study, runs)))  # type: ignore[attr-defined]
    db.close()


def test_processes_that_start_at_once_agree(make: Make, runs: Path) -> None:
    """Three for each of two studies of the same name: one folder per study, whoever is first."""
    urls = [make(name).db.url for name in ("a.db", "b.db")]
    context = multiprocessing.get_context("fork")
    shared = (runs, context.Barrier(6), found := context.Queue())
    processes = [context.Process(target=claim_at_once, args=(url, *shared)) for url in urls * 3]
    for process in processes:
        process.start()
    answers = {found.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(answers) == 2
    assert {folder.name for _, folder in answers} == {"digits", "digits-2"}
    owners = sorted(str(path.relative_to(runs)) for path in runs.glob("*/*"))
    assert owners == [f"digits-2/{OWNER}", f"digits/{OWNER}"]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_checkpoints_are_swept_when_their_trials_have_ended(
    study: StudyHandle, tmp_path: Path
) -> None:
    """Whatever state a trial ended in, even damaged ones and those of deleted trials."""
    for number in range(4):
        write_checkpoint(tmp_path, study, number)
    for number, state in enumerate((TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)):
        study.study.tell(number, 0.5 if state == TrialState.COMPLETE else None, state)
    (tmp_path / "checkpoints" / "trial-0.pt").write_bytes(b"cut short")
    (tmp_path / "checkpoints" / "trial-1.pt").rename(tmp_path / "checkpoints" / "trial-7.pt")
    persons = ["notes.pt", "trial--1.pt", "trial-1.pt.bak", "trial-x.pt"]
    for name in persons:
        (tmp_path / "checkpoints" / name).touch()
    kept = sorted(["trial-3.previous.pt", "trial-3.pt", *persons])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "checkpoints", elsewhere / "checkpoints")
    half_written = elsewhere / "checkpoints" / f"trial-3.pt.x{TEMPORARY}"
    half_written.touch()
    os.utime(half_written, (time.time() - 4000,) * 2)
    sweep(study, tmp_path)
    assert files(tmp_path) == kept
    sweep(study, tmp_path, elsewhere / "checkpoints")
    assert files(elsewhere) == files(tmp_path) == kept


def test_final_trainings_a_month_older_than_the_last_test_are_swept(
    db: Database, study: StudyHandle, tmp_path: Path
) -> None:
    names = ["candidate-17-0a1b2c3d-0.pt", "final-0.pt", "final-0a1b2c3d-0.pt"]
    for name, days in zip(names, (40, 40, 1), strict=True):
        save_checkpoint(tmp_path / "checkpoints" / name, {"identity": {}})
        os.utime(tmp_path / "checkpoints" / name, (time.time() - 86_400 * days,) * 2)
    add_result(study, trial_number=0, seeds=[0], result_id="result")
    sweep(study, tmp_path)
    assert files(tmp_path) == names  # their evaluation has not ended
    complete_result(db, "result", {"accuracy": 0.5})
    sweep(study, tmp_path)
    assert files(tmp_path) == names[2:]  # another finalize may resume it
    write(db, lambda connection: connection.execute(update(results).values(opened_at=4e9)))
    sweep(study, tmp_path)
    assert files(tmp_path) == names[2:]  # whatever the clock said then


def test_a_failed_sweep_is_only_logged(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = make()
    write_checkpoint(tmp_path, study)
    (tmp_path / "studies.db").rename(tmp_path / "away.db")
    sweep(study, tmp_path)
    assert "the file was removed" in caplog.text
    assert files(tmp_path) == ["trial-0.previous.pt", "trial-0.pt"]
