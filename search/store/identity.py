"""Which study it is, told by what no other study ever carries.

SQLite gives a deleted study's id to the next one, and a name can be given again. So each study has
an identity, made with it or, for one of an earlier version, when it is first opened; a copy has one
of its own. What is written to a study is written in a transaction that finds its identity there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

import optuna
from sqlalchemy import Connection, bindparam, exc, insert, select

from search.store.outages import forbids_writing
from search.store.storage import (
    Database,
    DatabaseGoneError,
    StudyGoneError,
    snapshot,
    transaction,
    with_retry,
)
from search.store.tables import identities

_identity_of = select(identities.c.identity).where(identities.c.study_id == bindparam("of_study"))
# As first seen: what the database says of the same id later may be said of another study.
_known = WeakKeyDictionary[optuna.Study, str]()


def study_identity(db: Database, study: optuna.Study) -> str | None:
    """32 hexadecimal digits; the same for as long as the study lives, under whatever name.

    Returns:
        None for a study of an earlier version in a database that we may not write to.

    Raises:
        StudyGoneError: it was deleted.
        StorageError: the database stayed away.
    """
    known = _known.get(study)
    if known is None and db.is_complete:
        known = with_retry(db, lambda: _read(db, study) or _make(db, study))
        if known is not None:
            _known[study] = known
    return known


@contextmanager
def study_transaction(
    db: Database, study: optuna.Study, *, hasty: bool = False
) -> Iterator[Connection]:
    """A `transaction` under this study's lock, and under no other's that has got its id.

    Raises:
        StudyGoneError: it was deleted; nothing was written.
    """
    identity = study_identity(db, study)
    try:
        with transaction(
            db, study_id=study._study_id, identity=identity, hasty=hasty
        ) as connection:
            yield connection
    except DatabaseGoneError:
        raise
    except StudyGoneError as error:
        raise _gone(db, study) from error


def check_study(db: Database, study: optuna.Study) -> None:
    """Whether it is still there; asked once, without waiting for a database that is away.

    Raises:
        StudyGoneError: it was deleted, or the database's file was removed or replaced.
        SQLAlchemyError: the database does not answer.
    """
    known = _known.get(study)
    if known is not None and _read(db, study) != known:
        raise _gone(db, study)


@contextmanager
def told_if_gone(db: Database, study: optuna.Study) -> Iterator[None]:
    """Whatever error comes of the study's having been deleted becomes one that says so.

    What reads meets that as missing rows: as a KeyError here, as a study without attributes there.

    Raises:
        StudyGoneError: see `check_study`.
    """
    try:
        yield
    except StudyGoneError:
        raise
    except Exception:
        with suppress(exc.SQLAlchemyError):  # where it does not answer, the error stands
            check_study(db, study)
        raise


def _gone(db: Database, study: optuna.Study) -> StudyGoneError:
    return StudyGoneError(
        f"{db.url}: study {study.study_name!r} was deleted while this ran (a dashboard that "
        "renames a study copies it and deletes the original); run the command again to start anew"
    )


def _read(db: Database, study: optuna.Study) -> str | None:
    with snapshot(db) as connection:
        found: str | None = connection.scalar(_identity_of, {"of_study": study._study_id})
        return found


def _make(db: Database, study: optuna.Study) -> str | None:
    """Under the study's lock, so that all who open it at once agree."""
    identity = uuid.uuid4().hex
    try:
        with transaction(db, study_id=study._study_id) as connection:
            found: str | None = connection.scalar(_identity_of, {"of_study": study._study_id})
            if found is None:
                row = {"study_id": study._study_id, "identity": identity}
                connection.execute(insert(identities), row)
            return found or identity
    except exc.DBAPIError as error:
        if not forbids_writing(error):
            raise
        return None
