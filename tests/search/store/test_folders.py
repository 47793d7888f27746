from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest

from search.store.folders import (
    artifact_folder,
    folder_name,
    runs_folder,
    study_folders,
    usable,
)
from search.store.storage import StorageError

SERVER = "postgresql://me@host/studies"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCH_RUNS_DIR", raising=False)


def test_beside_an_sqlite_file_from_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub = tmp_path / "sub"
    sub.mkdir()
    for url in ("sqlite:///studies.db", f"sqlite:///{tmp_path}/studies.db"):
        assert runs_folder(url) == Path("runs")  # short, as people and scripts see it
    assert runs_folder("sqlite:///sub/studies.db") == Path("sub/runs")
    monkeypatch.chdir(sub)
    for url in ("sqlite:///../studies.db", f"sqlite:///{tmp_path}/studies.db"):
        assert runs_folder(url) == tmp_path / "runs"


def test_a_link_to_a_database_is_that_database(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "studies.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "other" / "studies.db")
    assert runs_folder("sqlite:///link.db") == Path("other/runs")


def test_of_a_server_it_is_where_a_person_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_folder(SERVER) == Path("runs")
    monkeypatch.setenv("SEARCH_RUNS_DIR", "/data/runs")
    assert runs_folder(SERVER) == Path("/data/runs")
    assert runs_folder(SERVER, "given") == Path("given")
    assert runs_folder("sqlite:///studies.db", "given") == Path("given")
    assert artifact_folder(Path("given")) == Path("given/artifacts")


def test_usual_names_are_kept() -> None:
    for name in ("fashion_mnist", "a-2", "A.b_c", "x" * 100, "_x", "console", "nullable"):
        assert folder_name(name) == name
    found = list(islice(study_folders(Path("runs"), "digits"), 3))
    assert found == [Path("runs/digits"), Path("runs/digits-2"), Path("runs/digits-3")]


def test_any_name_is_that_of_one_folder_below(
    tmp_path: Path, hostile_names: tuple[str, ...]
) -> None:
    """Of a study that another tool has named, or that somebody has renamed in the database."""
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


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(StorageError, match="runs is not a folder"):
        usable(Path("runs/digits"))
