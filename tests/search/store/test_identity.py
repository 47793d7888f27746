import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from sqlalchemy import func, select, text

from search.store.connections import forbid_writing
from search.store.identity import study_identity, study_transaction
from search.store.opening import open_database
from search.store.storage import Database, StudyGoneError, snapshot
from search.store.tables import identities

ROOT = Path(__file__).parents[3]


def without_identities(db: Database) -> None:
    """As a version before there were any has left it."""
    with db.engine.begin() as connection:
        if db.engine.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER study_identities_follow_studies"))
        connection.execute(text("DROP TABLE study_identities"))


def loaded(db: Database, name: str = "study") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=db.optuna)


def test_every_opening_finds_the_same(db: Database, study: optuna.Study, database_url: str) -> None:
    first = study_identity(db, study)
    assert first is not None
    assert len(first) == 32
    with closing(open_database(database_url)) as again:
        assert study_identity(again, loaded(again)) == first


def test_a_study_made_anew_under_the_same_name_is_another(
    db: Database, study: optuna.Study
) -> None:
    first = study_identity(db, study)
    optuna.delete_study(study_name="study", storage=db.optuna)
    new = optuna.create_study(study_name="study", storage=db.optuna)
    if db.engine.dialect.name == "sqlite":
        assert new._study_id == study._study_id  # or this proves little
    assert study_identity(db, new) != first
    assert study_identity(db, study) == first  # what was learned of it does not change
    with (
        pytest.raises(StudyGoneError, match="study 'study' was deleted while this ran"),
        study_transaction(db, study),
    ):
        new.set_user_attr("written", True)
    assert new.user_attrs == {}


def test_a_deleted_study_leaves_nothing(db: Database, study: optuna.Study) -> None:
    unopened = loaded(db)
    study_identity(db, study)
    optuna.delete_study(study_name="study", storage=db.optuna)
    with snapshot(db) as connection:
        assert connection.scalar(select(func.count()).select_from(identities)) == 0
    with pytest.raises(StudyGoneError):
        study_identity(db, unopened)


def test_a_copy_has_one_of_its_own(db: Database, study: optuna.Study) -> None:
    first = study_identity(db, study)
    optuna.copy_study(
        from_study_name="study",
        from_storage=db.optuna,
        to_storage=db.optuna,
        to_study_name="copy",
    )
    assert study_identity(db, loaded(db, "copy")) != first
    assert study_identity(db, loaded(db)) == first


def test_many_processes_give_an_older_study_one_identity(
    db: Database, study: optuna.Study, database_url: str
) -> None:
    without_identities(db)
    program = """
import os, sys, optuna
from search.store.identity import study_identity
from search.store.opening import open_database

for _ in range(5):
    if os.fork() == 0:
        db = open_database(sys.argv[1])
        study = optuna.load_study(study_name="study", storage=db.optuna)
        os.write(1, (study_identity(db, study) + "\\n").encode())
        os._exit(0)
sys.exit(any([os.wait()[1] for _ in range(5)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, database_url],
        cwd=ROOT,
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    found = done.stdout.split()
    assert len(found) == 5
    assert set(found) == {study_identity(db, study)}


def test_a_reader_does_without(db: Database, study: optuna.Study) -> None:
    forbid_writing(db)
    assert study_identity(db, study) is None
    assert study_identity(db, study) is None


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_role_that_may_only_read(db: Database, database_url: str) -> None:
    without_identities(db)
    read_only = f"{database_url}%20-cdefault_transaction_read_only%3Don"
    with closing(open_database(read_only)) as reader:
        assert study_identity(reader, loaded(reader)) is None
    with closing(open_database(database_url)) as writer:
        assert study_identity(writer, loaded(writer)) is not None
