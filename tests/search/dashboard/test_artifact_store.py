"""Of a real trial, on a database that the dashboard may only read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import optuna
import optuna_dashboard
import pytest
from optuna.artifacts import upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import insert

from data.datasets import default_data_dir, load_training
from search.dashboard.artifact_store import ArtifactStore
from search.dashboard.trial_artifacts import TrialArtifacts
from search.spec.config import StudySpec
from search.store.claims import claim
from search.store.database import Database
from search.store.leases import Lease, finish
from search.store.opening import forbid_writing, open_database
from search.store.pictures import announced, announcement
from search.store.reading import view_study
from search.store.schema import trial_system_attributes
from search.store.studies import StudyHandle, create_study
from tests.search.laborers import report


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
    yield opened
    opened.close()


@pytest.fixture
def study(db: Database) -> StudyHandle:
    """With one pruned trial, whose curves nobody has drawn."""
    info, _ = load_training("digits", default_data_dir())
    made = create_study(db, "digits", StudySpec(dataset="digits"), info, validation_count=9)
    lease = claim(made, total=1)
    assert isinstance(lease, Lease)
    report(db, lease, 1, 0.4)
    finish(
        made,
        lease,
        state=optuna.trial.TrialState.PRUNED,
        system_attributes=announcement(["curves"]),
    )
    return made


def curves(study: StudyHandle) -> str:
    return announced(study.study.trials[0].system_attrs)["curves"]


def read(store: ArtifactStore, artifact_id: str) -> bytes:
    with store.open_reader(artifact_id) as file:
        return file.read()


def test_an_announced_picture_is_drawn_when_it_is_looked_at(
    db: Database, study: StudyHandle, tmp_path: Path
) -> None:
    wanted = curves(study)
    forbid_writing(db)
    store = ArtifactStore(tmp_path / "artifacts", db)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read(store, wanted), range(8)))
    assert set(found) == {(tmp_path / "artifacts" / wanted).read_bytes()}
    assert found[0].startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    db: Database, study: StudyHandle, tmp_path: Path
) -> None:
    (tmp_path / "artifacts").symlink_to(tmp_path / "gone" / "artifacts")
    (tmp_path / "gone").write_text("a file in its place")
    store = ArtifactStore(tmp_path / "artifacts", db)
    assert read(store, curves(study)).startswith(b"\x89PNG")


def test_what_nobody_announces_is_not_there(db: Database, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, db)
    unknown = str(uuid.uuid4())
    with pytest.raises(ArtifactNotFound):
        store.remove(unknown)
    for artifact_id in (unknown, "0" * 32, "abc", "", ".", "../x", "/etc/passwd", f"x/{unknown}"):
        with pytest.raises(ArtifactNotFound):
            store.open_reader(artifact_id)
    foreign = optuna.create_study(storage=db.optuna, study_name="another program's")
    trial = foreign.ask()
    (tmp_path / "a.bin").write_bytes(b"x")
    theirs = upload_artifact(
        artifact_store=store, file_path=str(tmp_path / "a.bin"), study_or_trial=trial
    )
    assert read(store, theirs) == b"x"
    (tmp_path / theirs).unlink()
    with pytest.raises(ArtifactNotFound):
        store.open_reader(theirs)


@pytest.mark.parametrize("where", ["../victim", "{folder}/victim", "../.", ".", ""])
def test_an_id_that_is_a_path_reaches_no_file(
    db: Database, study: StudyHandle, tmp_path: Path, where: str
) -> None:
    """Whoever can write to the database can announce it: when drawn, shown, uploaded, deleted."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    evil = where.format(folder=tmp_path)
    announce = json.dumps({"artifact_id": evil, "filename": "learning curves.png"})
    row = {"trial_id": study.study.trials[0]._trial_id, "value_json": json.dumps(announce)}
    with db.engine.begin() as connection:
        for key in (f"artifacts:{evil}", f"artifacts:{uuid.uuid4()}"):
            connection.execute(insert(trial_system_attributes), {**row, "key": key})
    folder = tmp_path / "artifacts"
    shared = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
    found = optuna.load_study(study_name="digits", storage=shared.optuna)
    wanted = curves(study)
    TrialArtifacts(folder).write(view_study(StudyHandle.of(shared, found)), seconds=60)
    assert [path.name for path in folder.iterdir()] == [wanted]
    store = ArtifactStore(folder, shared)
    for touch in (store.open_reader, lambda id_: store.write(id_, BytesIO(b"x"))):
        with pytest.raises(ArtifactNotFound):
            touch(evil)
    store.remove(evil)
    shared.close()
    assert victim.read_bytes() == b"mine"


def test_a_study_whose_pictures_were_never_drawn_can_be_deleted(
    db: Database, study: StudyHandle, tmp_path: Path
) -> None:
    app = optuna_dashboard.wsgi(db.optuna, artifact_store=ArtifactStore(tmp_path, db))
    status: list[str] = []
    environ = {
        "REQUEST_METHOD": "DELETE",
        "PATH_INFO": f"/api/studies/{study.study_id}",
        "wsgi.input": None,
        "wsgi.errors": None,
    }
    list(app(environ, lambda code, *_: status.append(code)))
    assert status == ["204 No Content"]
    assert optuna.get_all_study_names(db.optuna) == []
