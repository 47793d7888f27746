"""Our tables beside Optuna's, and those of Optuna's that they lean on.

Times are seconds since 1970 (UTC) by the database's own clock, never by a worker's: hosts disagree.
A missing or NaN measurement is stored as NULL, since SQLite has no NaN and PostgreSQL's sorts high.
"""

from typing import Any

from optuna.trial import TrialState
from sqlalchemy import (
    DDL,
    JSON,
    Column,
    DateTime,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData()
AT_ONCE = 500  # ids in a statement: SQLite takes a limited number of them

# Optuna's, as far as we read them. Optuna alone creates, migrates and writes them.
studies = Table(
    "studies",
    metadata,
    Column("study_id", Integer, primary_key=True),
    Column("study_name", String),
)
study_user_attributes = Table(
    "study_user_attributes",
    metadata,
    Column("study_id", Integer, primary_key=True),
    Column("key", String, primary_key=True),
)
trials = Table(
    "trials",
    metadata,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", Enum(TrialState)),
    Column("datetime_start", DateTime),  # UTC
    Column("datetime_complete", DateTime),
)
trial_values = Table(  # one for each trial that is complete, and of pruned ones the last report
    "trial_values",
    metadata,
    Column("trial_id", Integer, primary_key=True),
    Column("objective", Integer, primary_key=True),
    Column("value", Double),
)
trial_user_attributes = Table(
    "trial_user_attributes",
    metadata,
    Column("trial_id", Integer, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value_json", Text),
)


def _trial_id() -> Column[int]:
    return Column(
        "trial_id", Integer, ForeignKey(trials.c.trial_id, ondelete="CASCADE"), primary_key=True
    )


epochs = Table(
    "epochs",
    metadata,
    _trial_id(),
    Column("epoch", Integer, primary_key=True),  # 0: the early look inside the first epoch
    Column("study_id", Integer, nullable=False),
    Column("trial_number", Integer, nullable=False),
    Column("train_loss", Double),
    Column("train_error", Double),
    Column("validation_loss", Double),
    Column("validation_error", Double),
    Column("best_validation_loss", Double),  # of this epoch and all before: the pruner's one column
    Column("learning_rate", Double),
    Column("seconds", Double),
    Column("images", Integer),
    Column("worker", String(255), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reported_at", Double, nullable=False),
    # What the pruner asks is answered from here alone, without looking at the rows.
    Index("ix_epochs_standing", "study_id", "epoch", "best_validation_loss", "trial_id"),
)

leases = Table(
    "leases",
    metadata,
    _trial_id(),
    Column("token", Integer, nullable=False),  # one more with each claim
    Column("abandonments", Integer, nullable=False),  # holders that vanished since a new epoch
    Column("worker", String(255), nullable=False),
    # The call that won it, by a name never used again: fences late writers, makes retries harmless.
    Column("claim", String(32), nullable=False),
    Column("expires_at", Double),  # NULL: nobody holds it (released, or the trial has ended)
    Column("extended", Integer),  # 1: by a claimant, since its holder last renewed it; else NULL
)

results = Table(
    "results",
    metadata,
    Column("result_id", String(32), primary_key=True),
    # By name and without a foreign key: a deleted study does not undo a look at the test set.
    Column("study_name", Text, nullable=False, index=True),
    Column("trial_number", Integer, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("seeds", JSON, nullable=False),
    Column("figures", JSON),  # NULL: the test set was opened, and scoring it did not end
)

# In a table of its own and not among the study's attributes, which `optuna.copy_study` copies.
identities = Table(
    "study_identities",
    metadata,
    Column(
        "study_id",
        Integer,
        ForeignKey(studies.c.study_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("identity", String(32), nullable=False),
)

OURS = (epochs, leases, results, identities)

# SQLite gives a deleted row's id to the next one, and heeds foreign keys only where each client
# asks for it (optuna-dashboard does not): without these, a new trial would find an old one's rows.
for _table, _followed, _key in (
    (epochs, trials, "trial_id"),
    (leases, trials, "trial_id"),
    (identities, studies, "study_id"),
):
    event.listen(
        _table,
        "after_create",
        DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER {_table.name}_follow_{_followed.name} AFTER DELETE ON "
            f"{_followed.name} BEGIN DELETE FROM {_table.name} WHERE {_key} = OLD.{_key}; END"
        ).execute_if(dialect="sqlite"),
    )


def insert_for(dialect: str, table: Table) -> sqlite.Insert:
    """An INSERT that knows `ON CONFLICT`: the same words for both databases, each in its class."""
    # SQLAlchemy's two classes share these methods, but no base class that would declare them.
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)  # type: ignore[return-value]


class DatabaseClock(FunctionElement[float]):
    """The present time in an SQL expression, in seconds since 1970, by the database's clock.

    On PostgreSQL the time of the statement and not of the transaction, which may have waited long
    for a lock. Resolution: 1 ms or better.
    """

    type = Double()
    inherit_cache = True


@compiles(DatabaseClock, "sqlite")
def _clock_sqlite(_element: DatabaseClock, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(DatabaseClock, "postgresql")
def _clock_postgresql(_element: DatabaseClock, _compiler: Any, **_options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
