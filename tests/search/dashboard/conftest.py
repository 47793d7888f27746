"""A small database with all that optuna-dashboard can show or change, and a client for it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import optuna
import optuna_dashboard
import pytest
from bottle import Bottle
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna_dashboard.preferential import create_study as create_preferential_study

from search.dashboard.guard import Guard, Policy
from search.dashboard.origins import LOOPBACK_NAMES
from search.store.database import Database
from search.store.opening import open_database

HOST = "localhost:8080"
KNOWN_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")  # to wsgiref
OWN = {"Origin": f"http://{HOST}"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]  # by lower-case name
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    app: Any,
    method: str,
    path: str,
    body: Any = None,
    *,
    host: str | None = HOST,
    headers: dict[str, str] | None = None,
    raw: bytes | None = None,
    kind: str = "application/json",
) -> Answer:
    """What a WSGI application answers; that it keeps to WSGI is checked on the way."""
    sent = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    place, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": place.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "waitress.invalid",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(sent)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(sent),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if sent:
        environ["CONTENT_TYPE"] = kind
    if host is not None:
        environ["HTTP_HOST"] = host
    for name, value in (headers or {}).items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, given: list[tuple[str, str]], _exc_info: Any = None) -> Any:
        started.append((status, given))
        return lambda _data: None

    checked = validator(app) if method in KNOWN_METHODS else app
    found = checked(environ, start_response)
    try:
        content = b"".join(found)
    finally:
        if hasattr(found, "close"):
            found.close()
    status, given = started[-1]
    names = [name.lower() for name, _ in given]
    assert len(names) == len(set(names)), f"a header twice: {names}"
    by_name = {name.lower(): value for name, value in given}
    return Answer(status=int(status[:3]), headers=by_name, body=content)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with a database and artifacts, and the dashboard's application on them."""

    folder: Path
    db: Database
    app: Bottle

    @property
    def content(self) -> str:
        """Everything in the database, and every artifact."""
        with closing(sqlite3.connect(self.folder / "studies.db")) as connection:
            lines = list(connection.iterdump())
        for path in sorted((self.folder / "artifacts").iterdir()):
            lines.append(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}")
        return "\n".join(lines)

    @property
    def histories(self) -> tuple[str, str]:
        return histories(self.db)

    def guard(self, **policy: Any) -> Guard:
        return Guard(self.app, Policy(**{"hosts": LOOPBACK_NAMES, "edit": True, **policy}))


def open_place(folder: Path) -> Place:
    db = open_database(f"sqlite:///{folder / 'studies.db'}")
    store = FileSystemArtifactStore(folder / "artifacts")
    return Place(folder=folder, db=db, app=optuna_dashboard.wsgi(db.optuna, artifact_store=store))


def histories(db: Database) -> tuple[str, str]:
    """The preferential study's choices: one that stands, one that was taken back."""
    attributes = db.optuna.get_study_system_attrs(PREFERENTIAL)
    prefix = "preference:values"
    found = {k: v for k, v in attributes.items() if k.startswith(prefix)}
    kept, gone = sorted(found, key=lambda key: not found[key])
    return kept.removeprefix(prefix), gone.removeprefix(prefix)


# What the template holds, by number.
STUDY, PREFERENTIAL, COMPLETE, RUNNING = 1, 2, 1, 2


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Study 1 with a complete and a running trial and artifacts of both and of its own, a note;
    study 2, preferential, with a choice that stands and one that was taken back."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "artifacts").mkdir()
    place = open_place(folder)
    study = optuna.create_study(storage=place.db.optuna, study_name="one", direction="minimize")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n")
    store = FileSystemArtifactStore(folder / "artifacts")
    arguments = {"artifact_store": store, "file_path": str(folder / "picture.png")}
    for number in range(2):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        trial.report(0.5, 1)
        trial.set_user_attr("note", "a")
        upload_artifact(study_or_trial=trial, **arguments)
        if number == 0:
            study.tell(trial, 0.5)
    upload_artifact(study_or_trial=study, **arguments)
    optuna_dashboard.save_note(study, "a note")
    preferential = create_preferential_study(
        n_generate=3,
        storage=place.db.optuna,
        study_name="two",
        sampler=optuna.samplers.RandomSampler(),
    )
    for _ in range(3):
        preferential.ask()
    for clicked in range(2):
        choice = {"mode": "ChooseWorst", "candidates": [0, 1, 2], "clicked": clicked}
        ask(place.app, "POST", f"/api/studies/{PREFERENTIAL}/preference", choice)
    _, gone = histories(place.db)
    ask(place.app, "DELETE", f"/api/studies/{PREFERENTIAL}/preference/{gone}")
    place.db.close()
    with closing(sqlite3.connect(folder / "studies.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Iterator[Place]:
    """A copy of the template, to be changed."""
    shutil.copytree(template, tmp_path / "place")
    found = open_place(tmp_path / "place")
    yield found
    found.db.close()


@pytest.fixture(scope="session")
def place_at() -> Callable[[Path], AbstractContextManager[Place]]:
    """Opens one."""

    @contextmanager
    def opened(folder: Path) -> Iterator[Place]:
        found = open_place(folder)
        yield found
        found.db.close()

    return opened


@pytest.fixture(name="ask", scope="session")
def _ask() -> Callable[..., Answer]:
    return ask


@pytest.fixture(scope="session")
def own() -> dict[str, str]:
    """The header by which a page of this server is known."""
    return OWN
