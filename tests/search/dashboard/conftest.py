"""A small database with all that optuna-dashboard can show or change, and a client for it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from bottle import Bottle
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna_dashboard.preferential import create_study as create_preferential_study
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.wrappers import Request

from search.dashboard.guard import Guard
from search.dashboard.server import LOOPBACK_NAMES
from search.store.database import Database
from search.store.opening import open_database

HOST = "localhost:8080"
OWN = {"Origin": f"http://{HOST}"}  # identifies a page of this server


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
) -> TestResponse:
    """What a WSGI application answers."""
    sent = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    place, _, query = path.partition("?")
    builder = EnvironBuilder(
        place, f"http://{HOST}", query, method=method, headers=headers, data=sent or None,
        content_type=kind if sent else None,
    )  # fmt: skip
    environ = builder.get_environ()
    environ["PATH_INFO"] = place.encode().decode("latin-1")
    environ["wsgi.input_terminated"] = True
    if host is None:
        del environ["HTTP_HOST"]
    else:
        environ["HTTP_HOST"] = host
    return TestResponse(*run_wsgi_app(app, environ, buffered=True), Request(environ))


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

    def artifact(self, number: int | None = None) -> str:
        """The id of the study's artifact, or of a trial's; "" if it is gone."""
        study = optuna.load_study(study_name="one", storage=self.db.optuna)
        owner = study if number is None else study.trials[number]
        found = get_all_artifact_meta(owner, storage=self.db.optuna)
        return found[0].artifact_id if found else ""

    def guard(self, **policy: Any) -> Guard:
        return Guard(self.app, **{"hosts": LOOPBACK_NAMES, "edit": True, **policy})


def open_place(folder: Path) -> Place:
    db = open_database(f"sqlite:///{folder / 'studies.db'}")
    store = FileSystemArtifactStore(folder / "artifacts")
    return Place(folder=folder, db=db, app=optuna_dashboard.wsgi(db.optuna, artifact_store=store))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Study 1 with a complete and a running trial, artifacts of both and of its own, and a note;
    study 2, preferential."""
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
    create_preferential_study(
        n_generate=3,
        storage=place.db.optuna,
        study_name="two",
        sampler=optuna.samplers.RandomSampler(),
    )
    place.db.close()
    with closing(sqlite3.connect(folder / "studies.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def opened_copy(template: Path, folder: Path) -> Iterator[Place]:
    found = open_place(Path(shutil.copytree(template, folder)))
    yield found
    found.db.close()


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Iterator[Place]:
    """A copy of the template, to be changed."""
    yield from opened_copy(template, tmp_path / "place")


@pytest.fixture(scope="module")
def untouched(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One copy for all tests that must leave it as it is."""
    yield from opened_copy(template, tmp_path_factory.mktemp("untouched") / "place")
