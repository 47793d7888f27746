"""Every user error ends in one line that says what to do, with exit code 2 and without traces."""

import os
import re
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search import export, finalize, study, worker
from tests.search.conftest import Main, Refused
from tests.search.long_studies import empty_studies

Prepare = Callable[[Path], None]


def nothing(_: Path) -> None:
    pass


def file(name: str, content: str | bytes) -> Prepare:
    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def space(line: str) -> Prepare:
    return file("mine.toml", f"[study]\ntrials = 1\nepochs = 1\n\n[space]\n{line}\n")


def link(name: str, target: str) -> Prepare:
    return lambda folder: (folder / name).symlink_to(target)


def photos(**classes: int) -> Prepare:
    def prepare(folder: Path) -> None:
        for place, (name, count) in enumerate(classes.items()):
            (folder / "photos" / "train" / name).mkdir(parents=True)
            for number in range(count):
                grey = np.full((9, 9), 20 * number + place, dtype=np.uint8)
                Image.fromarray(grey).save(folder / "photos" / "train" / name / f"{number}.png")

    return prepare


def broken_photo(folder: Path) -> None:
    photos(cats=5, dogs=5)(folder)
    (folder / "photos" / "train" / "cats" / "0.png").write_text("no picture")


def other_sqlite(folder: Path) -> None:
    with sqlite3.connect(folder / "studies.db") as connection:
        connection.execute("CREATE TABLE recipes (id INTEGER)")
    connection.close()


def a_study(folder: Path) -> None:
    empty_studies(folder, "digits")


TINY = "--dataset digits --trials 1 --epochs 1"
MINE = "--config mine.toml --dataset digits"
CASES: dict[str, tuple[Prepare, str, str]] = {
    "unknown data set": (nothing, "--dataset digit", "'digit'; did you mean 'digits'?"),
    "unknown option": (nothing, "--epoch 3", "'--epoch'; did you mean '--epochs'?"),
    "unknown study": (
        a_study,
        "--status --study digit",
        "'digit' in sqlite:///studies.db; did you mean 'digits'?",
    ),
    "unknown study file": (
        nothing,
        "--config a4_dropuot",
        "'a4_dropuot'; did you mean 'a4_dropout'?",
    ),
    "one image": (photos(cats=5, dogs=1), "--dataset folder:photos", "dogs"),
    "a picture that is none": (broken_photo, "--dataset folder:photos", "0.png"),
    "absent GPU": (nothing, f"{TINY} --device cuda:99", "cuda"),
    "a name that is a path": (nothing, f"{TINY} --study ../../etc", "'../../etc'"),
    "malformed TOML": (file("mine.toml", "[study\n"), MINE, "mine.toml"),
    "an endless file": (link("mine.toml", "/dev/zero"), MINE, "mine.toml"),
    "endless weights": (space("channels = [30_000, 30_000]"), MINE, "more than 1000000000 param"),
    "an impossible network": (
        space("channels = [8, 8, 8]\npadding = 0\npool_after = 'every'"),
        MINE,
        "convolution",
    ),
    "a limit below the classes": (nothing, f"{TINY} --limit 3", "3 limited"),
    "a database that is none": (file("studies.db", "but some text " * 90), TINY, "studies.db"),
    "a database of something else": (other_sqlite, TINY, "recipes"),
    "a database in no folder": (nothing, f"{TINY} --storage sqlite:///no/folder/x.db", "no/folder"),
    "an unreachable server": (
        nothing,
        f"{TINY} --storage postgresql://me:secret@127.0.0.1:1/x",
        "127.0.0.1",
    ),
    "another data set": (a_study, "--study digits --dataset mnist", "dataset"),
    "runs is a file": (file("runs", "x"), TINY, "runs"),
}


def traces(folder: Path) -> dict[str, bytes]:
    """Everything in the folder except SQLite's own files, database contents and download locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        if path.is_file() and path.name != "studies.db"
        else b""
        for path in folder.rglob("*")
        if not path.name.endswith(("-wal", "-shm", ".lock")) and path.name != "data"
    }


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("prepare", "words", "says"), CASES.values(), ids=CASES.keys())
def test_the_study_command_refuses(
    prepare: Prepare, words: str, says: str, here: Path, refused: Refused
) -> None:
    prepare(here)
    before = traces(here)
    line = refused(study.main, words.split())
    assert says in line
    assert "secret" not in line
    assert len(line) < 500
    assert traces(here) == before


@pytest.mark.parametrize("main", [finalize.main, worker.main], ids=["finalize", "worker"])
def test_other_commands_refuse_without_a_study(main: Main, here: Path, refused: Refused) -> None:
    assert "search.study first" in refused(main, [])
    assert "absent.db" in refused(main, ["--storage", "sqlite:///absent.db"])
    assert "'tpu'" in refused(main, ["--device", "tpu"])
    assert list(here.iterdir()) == []


def test_an_empty_name_is_no_study(refused: Refused) -> None:
    for main in (worker.main, finalize.main, export.main):  # as with an unset variable
        assert "--study: must be a study's name, but got ''" in refused(main, ["--study", ""])


@pytest.mark.usefixtures("here", "unseen")
def test_an_unknown_study_and_a_folder_without_write_permission(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    words = [*TINY.split(), "--workers", "1"]  # nobody else may start root's Python
    assert study.main(words) == 0  # imports everything that only root may read
    line = refused(finalize.main, ["--study", "digit"])
    assert re.search("'digit'.*digits", line)  # and the existing ones are named
    locked = Path(tempfile.mkdtemp())
    locked.chmod(0o555)
    monkeypatch.chdir(locked)
    effective = os.geteuid()
    if effective == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        assert "permission" in refused(study.main, words)
    finally:
        os.seteuid(effective)
        assert list(locked.iterdir()) == []
        locked.rmdir()
