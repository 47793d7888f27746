"""Notes, figures and pictures, on a real SQLite database, read back as optuna-dashboard does."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import optuna
import optuna_dashboard
import plotly.graph_objects as go
import pytest
from bottle import HTTPError
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard import get_note

from search.dashboard.content import ArtifactStore, TrialPictures, write_content
from search.figures import FIGURES, Figure, dashboard_figures
from search.pages.note import placed, study_note
from search.store import StudyGoneError
from search.store.claims import claim
from search.store.leases import Lease, LostLeaseError, finish, release
from search.store.opening import open_database
from search.store.studies import StudyHandle, create_study
from search.store.views import StudyView
from tests.search.dashboard.conftest import ask
from tests.search.long_studies import INFO, SPEC
from tests.search.made_up_views import big_study, study_view
from tests.search.worker_processes import report
from tests.search.workplaces import SmallDisk


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of trials are drawn in no time."""
    sketches = {"learning curves.png": b"curves", "confusion matrix.png": b"matrix"}
    monkeypatch.setattr("search.figures.final.trial_pictures", lambda *_: sketches)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[StudyHandle]:
    db = open_database(f"sqlite:///{tmp_path}/studies.db")
    yield create_study(db, "fashion", SPEC, INFO, validation_count=287)
    db.close()


def shown(study: StudyHandle) -> tuple[str, dict[str, str]]:
    """The study's note and its figures, as the dashboard's page gets them."""
    found = ask(optuna_dashboard.wsgi(study.db.optuna), "GET", "/api/studies/1",
                headers={"Accept-Encoding": ""}).json  # fmt: skip
    plots = {one["id"]: one["graph_object"] for one in found["plotly_graph_objects"]}
    return found["note"]["body"], plots


def expected(view: StudyView) -> tuple[str, dict[str, str]]:
    figures = {name: figure.to_json() for name, figure in dashboard_figures(view).items()}
    return placed(study_note(view), ""), figures


def test_content_is_replaced_and_never_piles_up(
    study: StudyHandle, small_study: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Figure("Mine", "Mine", lambda _: go.Figure(go.Scatter(y=[1, 2])))
    monkeypatch.setitem(FIGURES, "loss/epoch, in %", mine)  # a name that no id can have
    for view in (small_study, big_study(300, 12), small_study):
        write_content(study, view)
        assert shown(study) == expected(view)
        rows = study.db.optuna.get_study_system_attrs(study.study_id)
        assert len(rows) < 100
        assert max(len(str(value)) for value in rows.values()) < 5_000


def test_two_writers_never_leave_a_mixture(
    tmp_path: Path, study: StudyHandle, small_study: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = (small_study, big_study(200, 12))
    drawn = {id(view): dashboard_figures(view) for view in views}
    monkeypatch.setattr("search.dashboard.content.dashboard_figures", lambda view: drawn[id(view)])

    def write_often(view: StudyView) -> None:
        db = open_database(f"sqlite:///{tmp_path}/studies.db")
        mine = StudyHandle.of(db, optuna.load_study(storage=db.optuna, study_name="fashion"))
        for _ in range(5):
            write_content(mine, view)
        db.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_often, views))
    note = get_note(study.study)
    assert note in {placed(study_note(view), "") for view in views}


def test_what_users_write_into_the_note_stays_and_can_be_saved_while_the_study_runs(
    study: StudyHandle, small_study: StudyView
) -> None:
    app, plain = optuna_dashboard.wsgi(study.db.optuna), {"Accept-Encoding": ""}
    write_content(study, study_view())
    begun = ask(app, "GET", "/api/studies/1", headers=plain).json["note"]
    write_content(study, small_study)
    written = f"# Mine\n\nfirst\n\n{begun['body']}\nlast\n"
    mine = {"version": begun["version"] + 1, "body": written}
    statuses = [ask(app, "PUT", "/api/studies/1/note", mine).status_code for _ in range(2)]
    assert statuses == [204, 409]  # another user's edit, begun before, would be lost
    for _ in range(2):
        write_content(study, small_study)
    ours = placed(study_note(small_study), "")
    assert get_note(study.study) == f"# Mine\n\nfirst\n\n{ours}\nlast\n"


def train(study: StudyHandle, losses: list[float]) -> Lease:
    lease = claim(study, total=100)
    assert isinstance(lease, Lease)
    for epoch, loss in enumerate(losses, 1):
        report(study.db, lease, epoch, loss)
    return lease


def complete(study: StudyHandle, lease: Lease, value: float) -> list[str]:
    """Complete the trial. Returns the names of its pictures."""
    finish(study, lease, state=optuna.trial.TrialState.COMPLETE, value=value)
    trial = study.study.trials[lease.trial_number]
    metas = get_all_artifact_meta(trial, storage=study.db.optuna)
    return sorted(meta.filename for meta in metas)


def test_a_complete_trial_has_its_pictures_only_once(study: StudyHandle, tmp_path: Path) -> None:
    confusion_KK = np.eye(10, dtype=np.int64)
    complete(study, train(study, [1.0]), 1.0)  # a worker does not read the others for its pictures
    lease = train(study, [2.0, 1.0])
    for _ in range(2):  # the worker that drew them first was killed
        TrialPictures(study, tmp_path / "artifacts").upload(lease, lambda: confusion_KK)
    assert not study.ended_views
    assert complete(study, lease, 1.0) == ["confusion matrix.png", "learning curves.png"]
    files = list((tmp_path / "artifacts").iterdir())
    assert len(files) == 2
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    # The study can be deleted, and a forged artifact id removes nothing else.
    store = ArtifactStore(tmp_path / "artifacts")
    (tmp_path / "precious").touch()
    for artifact_id in ("../precious", str(tmp_path / "precious"), "0" * 32):
        store.remove(artifact_id)
    files[0].unlink()
    app = optuna_dashboard.wsgi(study.db.optuna, artifact_store=store)
    assert ask(app, "DELETE", "/api/studies/1", {}).status_code == 204
    assert [path.name for path in tmp_path.iterdir() if path.name == "precious"]
    assert not list((tmp_path / "artifacts").iterdir())


@pytest.mark.parametrize("kind", ["link", "pipe", "other name"])
def test_only_pictures_are_served(tmp_path: Path, kind: str) -> None:
    """Whoever writes to the database and the folder cannot have the user's other files shown."""
    folder, name = tmp_path / "artifacts", str(uuid.uuid4())
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    if kind == "link":
        (folder / name).symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(folder / name)  # opening it would wait
    else:
        name = "0a-1"
        (folder / name).write_text("picture")
    with pytest.raises(HTTPError) as refused:
        ArtifactStore(folder).open_reader(name)
    assert refused.value.status_code == 404


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("deleted", [False, True])
def test_a_late_worker_adds_no_pictures_to_what_another_trains(
    study: StudyHandle, tmp_path: Path, deleted: bool
) -> None:
    """If its study was recreated, SQLite has given the new study's trial the same id."""
    late, now = train(study, [1.0]), study
    pictures = TrialPictures(study, tmp_path / "artifacts")
    if deleted:
        optuna.delete_study(study_name=study.name, storage=study.db.optuna)
        now = create_study(study.db, study.name, SPEC, INFO, validation_count=287)
    else:
        release(study.db, late)
    lease = train(now, [2.0, 1.0])
    with pytest.raises(StudyGoneError if deleted else LostLeaseError):
        pictures.upload(late, lambda: np.eye(10, dtype=np.int64))
    assert not list((tmp_path / "artifacts").iterdir())
    assert complete(now, lease, 1.0) == []


@pytest.mark.usefixtures("sketched")
def test_if_time_is_short_only_the_best_have_pictures(
    study: StudyHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.dashboard.content.CREDIT_SECONDS", -1.0)
    pictures, drawn = TrialPictures(study, tmp_path / "artifacts"), []
    for loss in (1.0, 0.5, 0.8, 0.4):
        lease = train(study, [2.0, loss])
        pictures.upload(lease, lambda: np.eye(10, dtype=np.int64))
        drawn.append(len(complete(study, lease, loss)))
    assert drawn == [2, 2, 0, 2]


def test_a_full_disk_is_reported_once_and_costs_no_trial(
    study: StudyHandle, small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    pictures, drawn = TrialPictures(study, small_disk.folder), []
    small_disk.fill()
    for loss in (1.0, 0.5, 0.4):
        if loss == 0.4:
            assert [file.name for file in small_disk.folder.iterdir()] == ["filler"]
            small_disk.empty()
        lease = train(study, [loss])
        pictures.upload(lease, lambda: np.eye(10, dtype=np.int64))
        drawn.append(len(complete(study, lease, loss)))
    assert drawn == [0, 0, 2]
    told = f"cannot write pictures of trials into {small_disk.folder} (No space left"
    assert caplog.text.count(told) == 1


def test_no_memory_for_the_confusion_matrix_costs_only_the_pictures(
    study: StudyHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lease = train(study, [1.0])
    without = Mock(side_effect=MemoryError("out of memory"))
    TrialPictures(study, tmp_path / "artifacts").upload(lease, without)
    assert complete(study, lease, 1.0) == []
    assert "cannot draw the pictures of trial 0: out of memory" in caplog.text


def test_an_unwritable_folder_is_reported_once_and_costs_no_trial(
    study: StudyHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    pictures = TrialPictures(study, tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        for loss in (1.0, 0.5):
            lease = train(study, [loss])
            pictures.upload(lease, lambda: np.eye(10, dtype=np.int64))
            assert complete(study, lease, loss) == []
    assert [record.getMessage() for record in caplog.records if "pictures" in record.message] == [
        f"cannot write pictures of trials into {tmp_path / 'file'} (File exists); continuing "
        "without them"
    ]
