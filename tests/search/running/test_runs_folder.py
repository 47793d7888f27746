"""Where a study's files go, whatever folder it runs in and whoever else runs one of that name."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from search import export, finalize, report, study, worker
from search.final import folder
from search.final.final import finalise
from search.final.predict import bundle_folder
from search.running.results import load_study
from search.running.study import run_study
from search.spec import extensions
from search.store import StorageError
from tests.search.running.made_up import TINY


@pytest.fixture(autouse=True)
def _three_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEARCH_RUNS_DIR", raising=False)
    monkeypatch.setattr("search.dashboard.content.write_content", lambda *_: None)  # saves time
    for name in ("here", "there", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_beside_the_database_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A study, begun in one folder and finalised in another, writes into neither. One of the same
    name in another database there takes nothing from it: final pages, model and pictures stay."""
    monkeypatch.setattr(folder, "write_pictures", lambda *_: [])  # takes longer than the training
    data = tmp_path / "data"
    url = f"sqlite:///{data / 'studies.db'}"
    run_study(study="s", storage=url, trials=1, **TINY)
    monkeypatch.chdir(tmp_path / "there")
    final = finalise("s", storage=url, seeds=1)
    assert report.main(["--study", "s", "--storage", url, "--formats", "svg"]) == 0
    assert final.folder.is_relative_to(data / "runs" / "s")
    assert {path.name for path in data.iterdir() if "studies.db" not in path.name} == {"runs"}
    assert (data / "runs" / "s" / "report.html").exists()
    assert len(list((data / "runs" / "artifacts").iterdir())) == 2
    assert not any((tmp_path / "here").iterdir())
    assert not any((tmp_path / "there").iterdir())
    monkeypatch.chdir(data)
    assert bundle_folder(study="s") == Path("runs/s/final")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCH_STORAGE", url)
    assert bundle_folder(study="s") == Path("data/runs/s/final") == bundle_folder()
    shutil.copytree("data/runs", "x", symlinks=True)
    assert bundle_folder(study="s", runs_dir="x") == Path("x/s/final")

    monkeypatch.chdir(data)
    before = files(Path("runs"))
    run_study(study="s", storage="sqlite:///other.db", trials=1, **TINY)
    assert "runs/s holds the files of another study" in caplog.text
    final = finalise("s", storage="sqlite:///other.db", seeds=1)
    assert final.folder.is_relative_to("runs/s-2")
    assert files(Path("runs")).items() >= before.items()
    for name, own in (("studies", "s"), ("other", "s-2")):
        monkeypatch.setenv("SEARCH_STORAGE", f"sqlite:///{name}.db")
        assert bundle_folder(study="s") == Path("runs") / own / "final"


def test_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, url = tmp_path / "data" / "runs", "sqlite:///studies.db"
    run_study(study="s", storage=url, runs_dir=runs, trials=2, **TINY)
    assert not Path("runs").exists()
    assert {path.name for path in runs.iterdir()} == {"s", "artifacts", ".lock"}
    monkeypatch.setenv("SEARCH_RUNS_DIR", str(runs))
    assert worker.main(["--study", "s", "--storage", url, "--device", "cpu"]) == 0
    assert not Path("runs").exists()


def test_a_changed_file_of_the_users_is_read_from_its_copy_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By those who only read; others say where the copy is."""
    monkeypatch.setattr(extensions, "_loaded", {})
    file, where = Path("mine.py"), {"storage": "sqlite:///studies.db", "runs_dir": "elsewhere"}
    file.write_text("")
    (stop := threading.Event()).set()
    run_study(study="s", trials=1, extensions=file, stop=stop, **where, **TINY)
    file.write_text("# another\n")
    monkeypatch.setattr(extensions, "_loaded", {})  # as in a new process
    words = ["--study", "s", "--storage", where["storage"], "--runs-dir", where["runs_dir"]]
    assert study.main(["--status", *words]) == report.main([*words, "--formats", "svg"]) == 0
    assert export.main([*words, "--format", "csv", "--to", "tables"]) == 0
    assert load_study("s", **where).finished == 0
    for main in (study.main, worker.main, finalize.main):
        monkeypatch.setattr(extensions, "_loaded", {})
        with pytest.raises(StorageError, match="study's copy of it is elsewhere/s/extensions/mine"):
            main(words)


def test_an_unusable_folder_is_reported_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "here" / "file").touch()
    with pytest.raises(StorageError, match="file is not a folder"):
        run_study(study="s", runs_dir="file", trials=1, **TINY)
    assert [path.name for path in Path().iterdir()] == ["file"]
