"""Our tables beside Optuna's, their version and migrations, and what we read of Optuna's tables.

Times are seconds since 1970 (UTC) by the database's own clock, never by a worker's: hosts disagree.
A missing or NaN measurement is stored as NULL, since SQLite has no NaN and PostgreSQL's sorts high.
"""

from collections.abc import Callable
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import (
    DDL,
    JSON,
    Column,
    Connection,
    DateTime,
    Double,
    Engine,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData()
_LOCK = 4_815_162_342  # PostgreSQL's advisory lock of those that migrate

# Optuna's, as far as we read them. Optuna alone creates, migrates and writes them; but what it has
# no word for, that a pruned trial goes on, we write (`search.store.leases.revive`).
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
trial_values = Table("trial_values", metadata, Column("trial_id", Integer), Column("value", Double))
trial_intermediate_values = Table(
    "trial_intermediate_values",
    metadata,
    Column("trial_id", Integer),
    Column("step", Integer),
    Column("intermediate_value", Double),  # NULL: not finite
)
trial_params = Table(
    "trial_params",
    metadata,
    Column("trial_id", Integer),
    Column("param_name", String),
    Column("param_value", Double),  # as the distribution stores it
    Column("distribution_json", Text),
)


def _trial_id() -> Column[int]:
    return Column(
        "trial_id", Integer, ForeignKey(trials.c.trial_id, ondelete="CASCADE"), primary_key=True
    )


MEASURED = (
    *("train_loss", "train_error", "validation_loss", "validation_error"),
    *("learning_rate", "seconds"),
)
epochs = Table(
    "epochs",
    metadata,
    _trial_id(),
    Column("epoch", Integer, primary_key=True),  # 0: partial-epoch validation inside the first
    Column("study_id", Integer, nullable=False),
    Column("trial_number", Integer, nullable=False),
    *(Column(name, Double) for name in MEASURED),
    # The lowest value of this epoch and all before, whatever the study's objective is: the pruner's
    # one column. It is called after what the only objective was at first.
    Column("best_validation_loss", Double),
    Column("images", Integer),
    Column("metrics", JSON(none_as_null=True)),  # further ones by name; NULL: none
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
    # 1: laid aside at a rung, and to be taken up again if it is worth it, also where the end of the
    # study has pruned it; NULL: not, or somebody has taken it up.
    Column("paused", Integer),
)

results = Table(
    "results",
    metadata,
    Column("result_id", String(32), primary_key=True),
    # By name and without a foreign key: a deleted study does not undo a test evaluation.
    Column("study_name", Text, nullable=False, index=True),
    Column("trial_number", Integer, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("seeds", JSON, nullable=False),
    Column("figures", JSON),  # its metrics; NULL: the evaluation was begun and did not end
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

schema = Table(
    "cnn_search_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),  # one row, see MIGRATIONS
)

OURS = (epochs, leases, results, identities, schema)

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


class SchemaError(Exception):
    """A database that cannot be used as it is: why, and the remedy."""


def is_current(connection: Connection) -> bool:
    """Whether our tables need no migration.

    Raises:
        SchemaError: a later version of this project made them.
    """
    found = _version(connection)
    if found > len(MIGRATIONS):
        raise SchemaError(
            f"a later version of cnn-search made it (schema {found}, this one knows "
            f"{len(MIGRATIONS)}); install that version"
        )
    return found == len(MIGRATIONS)


def migrate(engine: Engine) -> None:
    """Bring our tables to this version, in one transaction; any number of processes may do so.

    Raises:
        SchemaError: one of the tables is another program's.
        SQLAlchemyError: the database is unavailable, or we may not write.
    """
    with engine.begin() as connection:  # on SQLite it holds the one lock
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        if is_current(connection):
            return  # another process was faster
        for step in MIGRATIONS[_version(connection) :]:
            step(connection)
        connection.execute(delete(schema))
        connection.execute(insert(schema).values(version=len(MIGRATIONS)))


def _version(connection: Connection) -> int:
    """How many migrations it has seen; 0 for a new one, and for those made before we counted."""
    if not inspect(connection).has_table(schema.name):
        return 0
    return connection.scalar(select(func.max(schema.c.version))) or 0


def _create_tables(connection: Connection) -> None:
    """All that are missing. Those of a database made before we counted keep their rows."""
    found = inspect(connection).get_multi_columns(filter_names=[table.name for table in OURS])
    for (_, name), columns in found.items():
        must_have = {column.name for column in metadata.tables[name].c if not column.nullable}
        if not must_have <= {column["name"] for column in columns}:
            raise SchemaError(f"its table {name!r} is another program's; name another database")
    metadata.create_all(connection, tables=OURS)


def _add_lease_extensions(connection: Connection) -> None:
    _add_column(connection, leases.c.extended)


def _add_paused_trials(connection: Connection) -> None:
    _add_column(connection, leases.c.paused)


def _add_epoch_metrics(connection: Connection) -> None:
    _add_column(connection, epochs.c.metrics)


def _add_column(connection: Connection, column: Column[Any]) -> None:
    """A column that may be NULL; nothing where the table was created with it."""
    table = column.table.name
    if column.name not in {found["name"] for found in inspect(connection).get_columns(table)}:
        words = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {words}"))


# In order; a database's version is how many of them it has seen. Never change one that was
# released: append another. A step may add tables, indexes, and columns that can be NULL, so that
# earlier versions, which know nothing of it, can go on with the database.
MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _create_tables,
    _add_lease_extensions,
    _add_epoch_metrics,
    _add_paused_trials,
)
