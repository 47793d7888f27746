"""Our tables and migrations, what we read of Optuna's, and the attributes of studies and trials.

Times are seconds since 1970 (UTC) by the database's own clock, never by a worker's: hosts disagree.
A missing or NaN measurement is stored as NULL, since SQLite has no NaN and PostgreSQL's sorts high.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.functions import FunctionElement

from models.family import count
from search.store import NOW

if TYPE_CHECKING:
    from data.examples import DatasetInfo

# Attributes of a study; FINGERPRINT is the data set's; studies of earlier versions have none.
SPEC, DATASET, HARDWARE, VERSIONS = "spec", "dataset", "hardware", "versions"
FINGERPRINT = "fingerprint"
# [the gain below which it is flat, trials started when it was last extended]; why it stopped.
FLAT, STOPPED = "stop_when_flat", "stopped"
# Attributes of a trial; numeric ones become columns and axes in optuna-dashboard.
ACCURACY, ERROR, SECONDS = "accuracy", "error", "seconds"
BEST_EPOCH, EPOCHS, REASON = "best_epoch", "epochs", "reason"

metadata = sa.MetaData()
_LOCK = 4_815_162_342  # PostgreSQL's advisory lock for migrations


def _columns(table: str, *names: str) -> sa.TableClause:
    return sa.table(table, *map(sa.column, names))


class _LocalTime(sa.TypeDecorator[datetime]):
    """Stored by Optuna in UTC; read in local time without a time zone, as by Optuna, except that
    `fold` tells which it is in an hour that comes twice."""

    impl = sa.DateTime
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value and datetime.fromtimestamp(value.replace(tzinfo=UTC).timestamp())


# Optuna's, as far as we read them. Only Optuna creates, migrates and writes them, except for what
# it has no call for: resuming a trial that has ended (`search.store.leases.run_again`).
studies = sa.Table(
    "studies",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("study_name", sa.String),
)
trials = sa.Table(
    "trials",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer),
    sa.Column("study_id", sa.Integer),
    sa.Column("state", sa.Enum(TrialState)),
    sa.Column("datetime_start", _LocalTime),
    sa.Column("datetime_complete", _LocalTime),
)
study_user_attributes = _columns("study_user_attributes", "study_id", "key", "value_json")
trial_user_attributes = _columns("trial_user_attributes", "trial_id", "key", "value_json")
trial_values = _columns("trial_values", "trial_id", "value")
trial_intermediate_values = _columns(  # values that are not finite are NULL
    "trial_intermediate_values", "trial_id", "step", "intermediate_value"
)
trial_params = _columns(  # values are as the distribution stores them
    "trial_params", "param_id", "trial_id", "param_name", "param_value", "distribution_json"
)


MOST_BOUND = 1000  # numbers in one statement; PostgreSQL takes 65 535, SQLite 32 766 by default


def numbered(numbers: Collection[int]) -> sa.ColumnElement[bool]:
    """Which trials have these numbers. If they are many, all trials between them meet it, too."""
    if len(numbers) > MOST_BOUND:
        return trials.c.number.between(min(numbers), max(numbers))
    return trials.c.number.in_(numbers)


def _key_of(followed: sa.Column[int]) -> sa.Column[int]:
    """A primary key whose row is deleted with the row that it refers to."""
    key = sa.ForeignKey(followed, ondelete="CASCADE")
    return sa.Column(followed.name, sa.Integer, key, primary_key=True)


_ERRORS = ("train_loss", "train_error", "validation_loss", "validation_error")
epochs = sa.Table(
    "epochs",
    metadata,
    _key_of(trials.c.trial_id),
    sa.Column("epoch", sa.Integer, primary_key=True),  # 0: partial-epoch validation
    sa.Column("study_id", sa.Integer, nullable=False),
    sa.Column("trial_number", sa.Integer, nullable=False),
    *(sa.Column(name, sa.Double) for name in (*_ERRORS, "learning_rate", "seconds")),
    # The lowest value of this epoch and all before, whatever the study's objective is: the pruner's
    # only column. It is named after what was at first the only objective.
    sa.Column("best_validation_loss", sa.Double),
    sa.Column("images", sa.Integer),
    sa.Column("metrics", sa.JSON(none_as_null=True)),  # further ones by name; NULL: none
    sa.Column("worker", sa.String(255), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reported_at", sa.Double, nullable=False),
    # The pruner's queries are answered from this index only, without looking at the rows.
    sa.Index("ix_epochs_standing", "study_id", "epoch", "best_validation_loss", "trial_id"),
)

leases = sa.Table(
    "leases",
    metadata,
    _key_of(trials.c.trial_id),
    sa.Column("token", sa.Integer, nullable=False),  # incremented by each claim
    # Holders that vanished since the last progress: a new epoch, or `repeated`.
    sa.Column("abandonments", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(255), nullable=False),
    # The call that won it, by a name never reused: fences late writers, makes retries harmless.
    sa.Column("claim", sa.String(32), nullable=False),
    sa.Column("expires_at", sa.Double),  # NULL: nobody holds it (released, or the trial has ended)
    # 1: extended by a claimant since its holder last renewed it; else NULL.
    sa.Column("extended", sa.Integer),
    # 1: paused at a rung and to be resumed if it is worth it, even if the end of the study has
    # pruned it; NULL: not paused, or resumed by now.
    sa.Column("paused", sa.Integer),
    # The last epoch whose report by a later holder was progress, see `record_epoch`; NULL: none.
    sa.Column("repeated", sa.Integer),
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("result_id", sa.String(32), primary_key=True),
    # By name and without a foreign key: a deleted study does not undo a test evaluation.
    sa.Column("study_name", sa.Text, nullable=False, index=True),
    sa.Column("trial_number", sa.Integer, nullable=False),
    sa.Column("opened_at", sa.Double, nullable=False),
    sa.Column("seeds", sa.JSON, nullable=False),
    sa.Column("figures", sa.JSON),  # its metrics; NULL: the evaluation began but did not finish
    sa.Column("identity", sa.String(32)),  # the study's; NULL: an earlier version made it
)

# In a table of its own and not among the study's attributes, which `optuna.copy_study` copies.
identities = sa.Table(
    "study_identities",
    metadata,
    _key_of(studies.c.study_id),
    sa.Column("identity", sa.String(32), nullable=False),
)

_VERSION = sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)
schema = sa.Table("cnn_search_schema", metadata, _VERSION)  # one row
OURS = (epochs, leases, results, identities, schema)
# Version of the tables above. Increment it when you add a table, or a column that can be NULL;
# change nothing else, so that earlier versions can still use the database.
VERSION = 6

# SQLite gives a deleted row's id to the next one, and enforces foreign keys only if each client
# asks for it (optuna-dashboard does not): without these, a new trial would find an old one's rows.
for _table in (epochs, leases, identities):
    (_key,) = _table.foreign_keys
    _of, _id = _key.column.table.name, _key.column.name
    _follow = sa.DDL(  # type: ignore[no-untyped-call]
        f"CREATE TRIGGER {_table.name}_follow_{_of} AFTER DELETE ON {_of} BEGIN "
        f"DELETE FROM {_table.name} WHERE {_id} = OLD.{_id}; END"
    )
    sa.event.listen(_table, "after_create", _follow.execute_if(dialect="sqlite"))


class DatabaseClock(FunctionElement[float]):
    """In an SQL expression: seconds since 1970 by the database's clock, to 1 ms or better."""

    type = sa.Double()
    inherit_cache = True


@compiles(DatabaseClock)
def _clock(_element: DatabaseClock, compiler: Any, **_options: Any) -> str:
    return NOW[compiler.dialect.name]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFacts:
    """What pages say about the data, without loading it."""

    name: str
    title: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    training_count: int
    validation_count: int
    own_validation: bool = False  # else part of the training images is sampled for it
    notes: tuple[str, ...] = ()  # what was done to its pictures; escape those of a folder

    def __post_init__(self) -> None:
        numbers = (self.training_count, self.validation_count, *self.image_shape)
        texts = (self.name, self.title, *self.class_names, *self.notes)
        if len(self.image_shape) != 3 or any(map(count(1, "").fault, numbers)):
            raise TypeError("its data's counts must be whole numbers")
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("its data's names must be text")

    @classmethod
    def of(cls, info: DatasetInfo, validation_count: int) -> DatasetFacts:
        names = [one.name for one in dataclasses.fields(cls)]
        known: dict[str, Any] = {name: getattr(info, name, None) for name in names}
        known |= {"validation_count": validation_count, "own_validation": info.has_own_validation}
        return cls(**known)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> DatasetFacts:
        values: dict[str, Any] = {  # JSON has no tuples
            name: tuple(it) if isinstance(it, list) else it for name, it in stored.items()
        }
        return cls(**values)


class SchemaError(RuntimeError):
    """A database that cannot be used as it is: why, and the remedy."""


def is_current(connection: sa.Connection) -> bool:
    """Whether our tables need no migration; `SchemaError` if a later version of ours made them."""
    if not sa.inspect(connection).has_table(schema.name):
        return False  # it is new, or made before we counted
    found = connection.scalar(sa.select(sa.func.max(schema.c.version))) or 0
    if found > VERSION:
        raise SchemaError(
            f"a later version of cnn-search made it (schema {found}, this one knows {VERSION}); "
            "update yours (in a checkout: git pull)"
        )
    return found == VERSION


def migrate(engine: sa.Engine) -> None:
    """Bring our tables to this version, in one transaction; any number of processes may do so.

    Raises `SchemaError` if one of the tables belongs to another program, else SQLAlchemy's errors.
    """
    with engine.begin() as connection:  # on SQLite it holds the one lock
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        if is_current(connection):
            return  # another process was faster
        found = sa.inspect(connection).get_multi_columns(filter_names=[one.name for one in OURS])
        for (_, name), columns in found.items():
            there = {column["name"] for column in columns}
            missing = [column for column in metadata.tables[name].c if column.name not in there]
            if not all(column.nullable for column in missing):
                raise SchemaError(f"another program owns its table {name!r}; name another database")
            for column in missing:
                words = CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(sa.text(f"ALTER TABLE {name} ADD COLUMN {words}"))
        metadata.create_all(connection, tables=OURS)
        connection.execute(sa.delete(schema))
        connection.execute(sa.insert(schema).values(version=VERSION))


def stored_flat(attributes: Mapping[str, Any]) -> tuple[float, int] | None:
    """The gain, and how many trials had started when the study was extended; None if not stored."""
    match attributes.get(FLAT):
        case [int() | float() as gain, int() as begun] if 0 < gain < math.inf:
            return float(gain), begun
    return None
