"""Studies: made once, found again, held to what they were made with, and never mixed up."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import delete, event, func, select, text, update

from search.sampling.flat import set_flat
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.parameters import read_parameter
from search.spec.space import OVERRIDES
from search.store import StorageError, StudyGoneError
from search.store.claims import claim
from search.store.database import Database, transaction
from search.store.leases import finish, release
from search.store.opening import forbid_writing, open_database
from search.store.records import require_recordable
from search.store.schema import SPEC, epochs, identities, leases, trials
from search.store.studies import (
    StudyHandle,
    create_study,
    find_study,
    load_facts,
    load_spec,
    require_study,
    resumed_spec,
    set_total,
)
from search.terminal.status import quick_status
from tests.search.long_studies import INFO
from tests.search.worker_processes import report
from tests.search.workplaces import open_at_once, take
from tests.search.zones import EAST, WEST, zone

Make = Callable[..., StudyHandle]


def make_spec(**fields: Any) -> StudySpec:
    space = {"depth": read_parameter("depth", {"low": 1, "high": 3})}
    return StudySpec(**{"dataset": "digits", "space": space, "baseline": {"depth": 2}, **fields})


@pytest.fixture
def make(db: Database) -> Make:
    def make(name: str = "s", **fields: Any) -> StudyHandle:
        return create_study(db, name, make_spec(**fields), INFO, validation_count=287)

    return make


def test_a_study_is_found_as_it_was_made(db: Database, make: Make) -> None:
    make()
    found = find_study(db, "s")
    assert found is not None
    assert load_spec(found) == make_spec()
    facts = load_facts(found)
    assert (facts.class_names, facts.training_count) == (INFO.class_names, 1437)
    queued = found.study.get_trials(deepcopy=False)
    assert [trial.user_attrs for trial in queued] == [{OVERRIDES: {"depth": 2}}]


def test_creating_a_study_twice_makes_one_study_with_one_baseline(db: Database, make: Make) -> None:
    optuna.create_study(storage=db.optuna, study_name="s")  # a start that was killed half-way
    assert find_study(db, "s") is None
    assert make().identity == make().identity
    assert find_study(db, "s") is not None
    assert len(optuna.get_all_study_names(db.optuna)) == 1
    assert len(make().study.get_trials(deepcopy=False)) == 1


def test_a_study_of_another_program_is_refused(db: Database) -> None:
    other = optuna.create_study(storage=db.optuna, study_name="s")
    other.tell(other.ask(), 1.0)
    with pytest.raises(StorageError, match="not made by cnn-search"):
        find_study(db, "s")


def test_a_study_of_a_later_version_says_what_to_install(db: Database, make: Make) -> None:
    make().study.set_user_attr(SPEC, {**make_spec().to_dict(), "new": 5})
    said = r"\(unknown key 'new'\); if a later version of cnn-search made it, install that version"
    with pytest.raises(StorageError, match=said):
        find_study(db, "s")


def test_a_server_whose_database_has_no_encoding(postgres: Any) -> None:
    postgres.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    url, spec = postgres.url("ascii"), make_spec(title="5 → 7 Ångström")
    with closing(open_database(url)) as db:
        create_study(db, "s", spec, INFO, validation_count=287)
        assert load_spec(require_study(db, "s")) == spec
    assert (quick_status(url, "s") or "").startswith("Study s: ")
    postgres.execute("DROP DATABASE ascii")


def test_unspecified_fields_follow_the_study(make: Make) -> None:
    study = make(epochs=7, trials=9)
    wanted = make_spec(epochs=99, trials=12)
    assert resumed_spec(study, wanted, {"dataset"}) == make_spec(epochs=7, trials=9)
    assert resumed_spec(study, wanted, {"trials"}) == make_spec(epochs=7, trials=12)
    with pytest.raises(SpecError, match="epochs = 7, but got 99"):
        resumed_spec(study, wanted, {"epochs"})
    set_total(study, 80)
    assert load_spec(study) == make_spec(epochs=7, trials=80)


@pytest.mark.parametrize(("total", "kept"), [(1, 4), (4, 4), (5, 5)])
def test_a_lowered_total_leaves_no_trial_unfinished(
    db: Database, make: Make, total: int, kept: int
) -> None:
    """Two have finished, one is interrupted and one in training; a paused one may be pruned."""
    study = make(baseline=None)
    pruned, failed, complete, paused, interrupted, training = (take(study) for _ in range(6))
    finish(study, pruned, state=TrialState.PRUNED)
    finish(study, failed, state=TrialState.FAIL)
    finish(study, complete, state=TrialState.COMPLETE, value=1.0)
    finish(study, paused, state=TrialState.RUNNING)
    release(db, interrupted)
    set_total(study, total)
    assert load_spec(study).trials == kept

    options: dict[str, Any] = {"total": kept, "choose": lambda _: None}
    again = take(study, **options)
    assert again.trial_number == interrupted.trial_number
    assert claim(study, **options) == "wait"
    for lease in (again, training):
        finish(study, lease, state=TrialState.COMPLETE, value=1.0)
    assert claim(study, **options) == "done"  # which prunes the paused one
    set_total(study, total)  # the same command again
    assert load_spec(study).trials == kept
    assert claim(study, **options) == "done"


def test_the_latest_study_is_the_one_worked_on_last(db: Database, make: Make) -> None:
    with pytest.raises(StorageError, match="no studies"):
        require_study(db, None)
    a, b = make("a"), make("b")
    make("never begun")
    lease, trial = take(a), b.study.ask()
    assert require_study(db, None).name == "b"
    for study, work in (
        (a, lambda: report(db, lease, 1)),
        (b, lambda: b.study.tell(trial, 1.0)),
        (a, lambda: a.study.ask()),
    ):
        time.sleep(0.01)  # the database's clock has milliseconds
        work()
        assert require_study(db, None).name == study.name
        assert (quick_status(db.url) or "").startswith(f"Study {study.name}: ")
    with pytest.raises(StorageError, match="known: a, b, never begun"):
        require_study(db, "c")


@pytest.mark.parametrize("where", [EAST, WEST])
def test_the_latest_study_is_the_same_in_every_time_zone(
    db: Database, make: Make, where: str
) -> None:
    a, b = make("a"), make("b")
    lease = take(a)
    b.study.tell(b.study.ask(), 1.0)
    with zone(where):
        assert require_study(db, None).name == "b"
        time.sleep(0.01)
        report(db, lease, 1)
        assert require_study(db, None).name == "a"
        time.sleep(0.01)
        b.study.ask()
        assert require_study(db, None).name == "b"


def test_the_latest_study_is_the_same_if_a_clock_is_fast(db: Database, make: Make) -> None:
    a, b = make("a"), make("b")
    for study in (a, b):
        lease = take(study)
        report(db, lease, 1)
        finish(study, lease, state=TrialState.COMPLETE, value=1.0)
        time.sleep(0.01)
    with db.engine.begin() as connection:
        later = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=3)
        connection.execute(
            update(trials).where(trials.c.study_id == a.study_id).values(datetime_complete=later)
        )
    assert require_study(db, None).name == "b"
    assert (quick_status(db.url) or "").startswith("Study b: ")


def test_a_study_recreated_under_the_same_name_is_another(db: Database, study: StudyHandle) -> None:
    optuna.delete_study(study_name="study", storage=db.optuna)
    new = StudyHandle.of(db, optuna.create_study(study_name="study", storage=db.optuna))
    if db.engine.dialect.name == "sqlite":
        assert new.study_id == study.study_id  # or this proves little
    assert new.identity != study.identity
    with (
        pytest.raises(StudyGoneError, match="study 'study' was deleted while this ran"),
        study.transaction(),
    ):
        new.study.set_user_attr("written", True)
    assert new.attributes == {}
    with pytest.raises(StudyGoneError):
        study.check()
    with pytest.raises(StudyGoneError), study.told_if_gone():
        raise KeyError("rows are missing")
    new.check()


def test_a_deleted_study_leaves_nothing(db: Database, study: StudyHandle) -> None:
    report(db, take(study), 1)
    optuna.delete_study(study_name="study", storage=db.optuna)
    with transaction(db, read_only=True) as connection:
        for table in (epochs, leases, identities):
            assert connection.scalar(select(func.count()).select_from(table)) == 0
    with pytest.raises(StudyGoneError):
        StudyHandle.of(db, study.study)
    with pytest.raises(StudyGoneError):
        assert study.attributes


def test_its_attributes_outlast_a_server_without_a_free_connection(
    db: Database, study: StudyHandle
) -> None:
    left = [db.engine.dialect.loaded_dbapi.OperationalError("sorry, too many clients already")]
    if isinstance(left[0], sqlite3.Error):
        left[0].sqlite_errorcode = sqlite3.SQLITE_BUSY

    def refuse(*_: object) -> None:
        if left:
            raise left.pop()

    db.close()
    event.listen(db.engine, "do_connect", refuse)
    assert isinstance(study.attributes, dict)
    assert not left


def test_a_copy_has_an_identity_of_its_own(db: Database, study: StudyHandle) -> None:
    optuna.copy_study(
        from_study_name="study", from_storage=db.optuna, to_storage=db.optuna, to_study_name="copy"
    )
    found = [
        StudyHandle.of(db, optuna.load_study(study_name=name, storage=db.optuna)).identity
        for name in ("study", "copy")
    ]
    assert found[0] == study.identity != found[1]


def test_an_older_study_gets_one_identity_from_many_processes_and_none_from_a_reader(
    db: Database, study: StudyHandle, database_url: str
) -> None:
    with db.engine.begin() as connection:
        connection.execute(delete(identities))
    with closing(open_database(database_url)) as reader:
        forbid_writing(reader)
        assert StudyHandle.of(reader, study.study).identity is None
    found = open_at_once(
        database_url,
        'study = optuna.load_study(study_name="study", storage=db.optuna)',
        'os.write(1, f"{StudyHandle.of(db, study).identity}\\n".encode())',
    )
    assert len(found) == 5
    assert set(found) == {StudyHandle.of(db, study.study).identity} != {study.identity}


def check_refusals(reader: Database, says: str) -> None:
    """Everything that a start writes is refused in a line, at once."""
    study = require_study(reader, "s")
    for write in (
        lambda: set_total(study, 80),
        lambda: set_flat(study, 0.01, 80),
        lambda: create_study(reader, "new", make_spec(), INFO, validation_count=287),
        lambda: require_recordable(study),
    ):
        with pytest.raises(StorageError, match=says):
            write()


def test_a_database_that_may_only_be_read(make: Make, database_url: str) -> None:
    make()
    with closing(open_database(database_url)) as reader:
        forbid_writing(reader)
        check_refusals(reader, r"it cannot be written|read-only transaction; give the URL of")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_user_who_may_only_read(
    db: Database, make: Make, database_url: str, postgres: Any
) -> None:
    make()
    postgres.execute("CREATE ROLE only_reads LOGIN")
    with db.engine.begin() as connection:
        schema = connection.scalar(text("SELECT current_schema()"))
        for right in ("USAGE ON", "SELECT ON ALL TABLES IN"):
            connection.execute(text(f"GRANT {right} SCHEMA {schema} TO only_reads"))
    with closing(open_database(database_url.replace("postgres@", "only_reads@"))) as reader:
        check_refusals(reader, "permission denied for .*; give the URL of a server and a user")
        with db.engine.begin() as connection:  # to update, but not to insert
            connection.execute(text(f"GRANT UPDATE ON ALL TABLES IN SCHEMA {schema} TO only_reads"))
        with pytest.raises(StorageError, match="permission denied for table results"):
            require_recordable(require_study(reader, "s"))
    with db.engine.begin() as connection:
        connection.execute(text("DROP OWNED BY only_reads"))
    postgres.execute("DROP ROLE only_reads")
