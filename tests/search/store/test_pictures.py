from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

from search.store.claims import claim
from search.store.leases import Lease, LostLeaseError, release
from search.store.pictures import (
    CONFUSION,
    announced,
    announcement,
    confusion_of,
    drawable,
    pack_confusion,
    record_confusion,
)
from search.store.storage import Database


def claimed(db: Database, study: optuna.Study) -> Lease:
    lease = claim(db, study, total=9)
    assert isinstance(lease, Lease)
    return lease


@pytest.mark.parametrize("classes", [1, 2, 10, 100])
def test_a_matrix_is_kept_as_it_was(db: Database, study: optuna.Study, classes: int) -> None:
    confusion_KK = np.random.default_rng(0).poisson(0.3, (classes, classes)).astype(np.int64)
    confusion_KK[0, 0] = 2**31 - 1
    lease = claimed(db, study)
    record_confusion(db, lease, confusion_KK)
    attributes = study.trials[0].system_attrs
    found = confusion_of(attributes, classes)
    assert found is not None
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, confusion_KK)
    assert len(attributes[CONFUSION]) < 6_000


BOMB = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()


@pytest.mark.parametrize(
    "packed",
    [
        BOMB,
        "",
        "no base 64",
        base64.b64encode(b"not packed").decode(),
        pack_confusion(np.ones((3, 3), dtype=np.int64)),
        pack_confusion(np.full((2, 2), -1, dtype=np.int64)),
        7,
        [1],
        {"a": 1},
        "\ud800",
    ],
    ids=range(10),
)
def test_a_matrix_that_is_none_is_left_out(packed: object) -> None:
    """Whatever stands in a database that others write to, and in no more memory than its own."""
    tracemalloc.start()
    try:
        assert confusion_of({CONFUSION: packed}, 2) is None
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


ID = "0c0b8f42-7f4e-4a36-9d1f-3d8a50d3a9c1"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("../../x", json.dumps({"artifact_id": "../../x", "filename": "learning curves.png"})),
        ("/tmp/x", json.dumps({"artifact_id": "/tmp/x", "filename": "learning curves.png"})),
        (ID, json.dumps({"artifact_id": "../../x", "filename": "learning curves.png"})),
        (ID, json.dumps({"artifact_id": [ID], "filename": "learning curves.png"})),
        (ID, json.dumps({"artifact_id": ID, "filename": ["learning curves.png"]})),
        (ID, json.dumps({"artifact_id": ID})),
        (ID, json.dumps([ID])),
        (ID, "[" * 100_000),
        (ID, "no JSON"),
        (ID, 7),
        (ID.upper(), json.dumps({"artifact_id": ID.upper(), "filename": "learning curves.png"})),
        (f"{ID}\n", json.dumps({"artifact_id": f"{ID}\n", "filename": "learning curves.png"})),
    ],
    ids=range(12),
)
def test_what_announces_no_picture_is_left_out(key: str, value: object) -> None:
    meta = {"artifact_id": ID, "filename": "confusion matrix.png"}
    good = {f"artifacts:{ID}": json.dumps(meta)} if key != ID else {}
    assert announced({f"artifacts:{key}": value, **good}) == ({"confusion": ID} if good else {})


def test_only_the_holder_of_a_trial_keeps_one(db: Database, study: optuna.Study) -> None:
    lease = claimed(db, study)
    release(db, lease)
    with pytest.raises(LostLeaseError):
        record_confusion(db, lease, np.ones((2, 2), dtype=np.int64))
    assert confusion_of(study.trials[0].system_attrs, 2) is None


def test_what_is_drawable_follows_from_what_was_kept() -> None:
    assert drawable({}, epochs=0) == []
    assert drawable({}, epochs=1) == ["curves"]
    assert drawable({CONFUSION: "x"}, epochs=3) == ["curves", "confusion"]


def test_optuna_reads_an_announcement_like_its_own(db: Database, study: optuna.Study) -> None:
    trial = study.ask()
    attributes = announcement(["curves", "confusion"])
    for key, value in attributes.items():
        db.optuna.set_trial_system_attr(trial._trial_id, key, value)
    metas = get_all_artifact_meta(trial)
    ids = announced(study.trials[0].system_attrs)
    assert {meta.artifact_id for meta in metas} == set(ids.values())
    assert {meta.mimetype for meta in metas} == {"image/png"}
    assert ids.keys() == {"curves", "confusion"}
    assert announcement(["curves"]).keys() != announcement(["curves"]).keys()


def test_other_artifacts_and_deleted_ones_are_none_of_ours(
    tmp_path: Path, db: Database, study: optuna.Study
) -> None:
    trial = study.ask()
    (tmp_path / "weights.bin").write_bytes(b"x")
    store = FileSystemArtifactStore(tmp_path)
    upload_artifact(
        artifact_store=store, file_path=str(tmp_path / "weights.bin"), study_or_trial=trial
    )
    for key in announcement(["curves"]):  # as optuna-dashboard deletes one
        db.optuna.set_trial_system_attr(trial._trial_id, key, json.dumps(None))
    assert announced(study.trials[0].system_attrs) == {}
