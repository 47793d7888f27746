"""Studies in the database: made once, found again, and held to what they were made with.

SQLite gives a deleted study's id to the next one, and names can be reused. Each study therefore has
an identity, made with it or, for one of an earlier version, when it is first opened; a copy gets
its own. All writes to a study are made in a transaction that finds its identity there.
"""

from __future__ import annotations

import math
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import optuna
from optuna.trial import TrialState
from sqlalchemy import Connection, bindparam, exc, func, insert, or_, select

from data.errors import did_you_mean, reason
from search.spec.config import WARM_START, Earlier, StudySpec
from search.spec.domains import SpecError, differing
from search.spec.extensions import ExtensionError
from search.spec.space import has_baseline, queued_baseline, queued_trial
from search.store import StorageError, StudyGoneError, latest_study, schema
from search.store.database import Database, forbids_writing, read, transaction, with_retry
from search.store.leases import revive
from search.store.schema import DATASET, FINGERPRINT, SPEC, DatasetFacts, identities, studies

if TYPE_CHECKING:
    from data.examples import DatasetInfo
    from data.fingerprint import Fingerprint
    from search.store.views import TrialView

# In a stored specification: totals, and what older studies do not record about their report.
BESIDE_TOTALS = ("budget", "final_stretch")
MAY_CHANGE = ("trials", "repeats", *BESIDE_TOTALS, "published")
FIXED = tuple(one.name for one in fields(StudySpec) if one.name not in MAY_CHANGE)
T = TypeVar("T")
Check = Callable[["StudyHandle"], object]


@dataclass(frozen=True, kw_only=True)
class StudyHandle:
    """One study of an open database.

    Attributes:
        study: Optuna's; the code that asks it for configurations sets its sampler and pruner.
        identity: 32 hexadecimal digits, the same for as long as the study lives, whatever its
            name. None for a study of an earlier version in a database that we may not write to.
        ended_views: what `view_study` read of trials that have ended, by number.
    """

    db: Database
    study: optuna.Study
    study_id: int
    identity: str | None = None
    ended_views: dict[int, TrialView] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, db: Database, study: optuna.Study) -> StudyHandle:
        """Raises `StudyGoneError` if it was deleted."""
        try:
            study_id = with_retry(db, lambda: db.optuna.get_study_id_from_name(study.study_name))
        except KeyError as error:
            raise StudyGoneError(f"{db.url}: the study was deleted; start a new one") from error
        new = cls(db=db, study=study, study_id=study_id)
        return replace(new, identity=with_retry(db, new._make_identity))

    @property
    def name(self) -> str:
        return self.study.study_name

    @property
    def attributes(self) -> dict[str, Any]:
        """The user attributes as they are now; raises `StudyGoneError` if the study was deleted."""
        with self.told_if_gone():
            return read(self.db, lambda _: self.study.user_attrs)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A `search.store.database.transaction` in which none of the study's trials begins or ends.

        Raises `StudyGoneError` if it was deleted; then nothing is written.
        """
        with transaction(self.db) as connection:
            found = connection.execute(_LOCK, {"of_study": self.study_id}).first()
            if found is None or self.identity not in (None, found.identity):
                raise self._gone()
            yield connection

    def write(self, do: Callable[[Connection], T]) -> T:
        """Run `do` in a `transaction` and return its result; see `with_retry`."""

        def attempt() -> T:
            with self.transaction() as connection:
                return do(connection)

        return with_retry(self.db, attempt)

    def check(self) -> None:
        """Raises `StudyGoneError` if it is gone; asks only once, whatever the database answers."""
        if self.identity is not None and self._found_identity() != self.identity:
            raise self._gone()

    @contextmanager
    def told_if_gone(self) -> Iterator[None]:
        """Turn errors caused by the study's deletion (missing rows) into `StudyGoneError`."""
        try:
            yield
        except Exception:
            with suppress(exc.SQLAlchemyError):  # if it does not answer, the error stands
                self.check()
            raise

    def _gone(self) -> StudyGoneError:
        return StudyGoneError(
            f"{self.db.url}: study {self.name!r} was deleted while this ran (a dashboard that "
            "renames a study copies it and deletes the original); run the command again to start "
            "from scratch"
        )

    def _found_identity(self) -> str | None:
        with transaction(self.db, read_only=True) as connection:
            return connection.scalar(_IDENTITY, {"of_study": self.study_id})

    def _make_identity(self) -> str | None:
        """The identity it has, or a new one; None if it has none and we may not write."""
        if (found := self._found_identity()) is not None:
            return found
        try:
            with self.transaction() as connection:  # so that all who open it at the same time agree
                found = connection.scalar(_IDENTITY, {"of_study": self.study_id})
                if found is None:
                    found = uuid.uuid4().hex
                    new = {"study_id": self.study_id, "identity": found}
                    connection.execute(insert(identities).values(new))
                return found
        except exc.DBAPIError as error:
            if not forbids_writing(error):
                raise
            return None


_IDENTITY = (
    select(identities.c.identity)
    .select_from(studies)
    .outerjoin(identities, identities.c.study_id == studies.c.study_id)
    .where(studies.c.study_id == bindparam("of_study"))
)
# The row that Optuna itself locks to number a new trial. (SQLite: every transaction locks all.)
_LOCK = _IDENTITY.with_for_update(of=studies)


def load_spec(study: StudyHandle, attributes: Mapping[str, Any] | None = None) -> StudySpec:
    """The specification stored with the study; raises `StorageError` if it is not one of ours."""
    stored = (attributes or study.attributes).get(SPEC)
    if not isinstance(stored, dict):
        raise StorageError(f"study {study.name!r} was not made by cnn-search; give another --study")
    with damage_in_a_line(study):
        return StudySpec.from_dict(stored)


def find_study(db: Database, name: str, check: Check = load_spec) -> StudyHandle | None:
    """The study of that name, or None; raises `StorageError` if `check` does."""
    try:
        study = with_retry(db, lambda: optuna.load_study(study_name=name, storage=db.optuna))
    except KeyError:
        return None
    handle = StudyHandle.of(db, study)
    if SPEC not in handle.attributes and not read(db, lambda _: study.get_trials(deepcopy=False)):
        return None  # made by a start that was killed before it stored more
    check(handle)
    return handle


def require_study(db: Database, name: str | None, check: Check = load_spec) -> StudyHandle:
    """The study of that name, or the one worked on last; a `StorageError` lists the known ones."""
    wanted = name or read(db, latest_study)
    if wanted is None:
        raise StorageError(f"no studies in {db.url}; run python -m search.study first")
    if (study := find_study(db, wanted, check)) is None:
        names = sorted(read(db, lambda _: optuna.get_all_study_names(db.optuna)))
        there = f"{did_you_mean(wanted, names)} (known: {', '.join(names) or 'none yet'})"
        raise StorageError(f"no study {wanted!r} in {db.url}{there}")
    return study


def create_study(
    db: Database,
    name: str,
    spec: StudySpec,
    info: DatasetInfo,
    *,
    validation_count: int,
    content: Fingerprint | None = None,
    earlier: Collection[Earlier] = (),
) -> StudyHandle:
    """Make the study and queue its first trials; harmless if another start is doing the same."""
    make = partial(optuna.create_study, storage=db.optuna, study_name=name, load_if_exists=True)
    study = with_retry(db, make)
    handle = StudyHandle.of(db, study)

    def fill(_: Connection) -> None:
        # Two starts at once may both get here: the second finds what the first has made.
        if SPEC in study.user_attrs:
            return
        if content is not None:
            study.set_user_attr(FINGERPRINT, content.to_dict())
        with warnings.catch_warnings(action="ignore"):  # Optuna warns that this may change
            study.set_metric_names([spec.value.label])
        study.set_user_attr(DATASET, asdict(DatasetFacts.of(info, validation_count)))
        if earlier:
            study.set_user_attr(WARM_START, [*map(asdict, earlier)])
        if has_baseline(spec, info.image_shape, len(info.class_names)):
            db.optuna.create_new_trial(handle.study_id, queued_baseline(spec))
        for params in (it for one in earlier for it in one.configurations):
            db.optuna.create_new_trial(handle.study_id, queued_trial(spec, params, {}))
        study.set_user_attr(SPEC, spec.to_dict())

    handle.write(fill)
    return handle


def load_facts(study: StudyHandle, attributes: Mapping[str, Any] | None = None) -> DatasetFacts:
    """What the study records about its data set; raises `StorageError` if that is damaged."""
    with damage_in_a_line(study):
        return DatasetFacts.from_dict((attributes or study.attributes)[DATASET])


@contextmanager
def damage_in_a_line(study: StudyHandle) -> Iterator[None]:
    """Turn errors from data that no study of ours has written into a one-line `StorageError`."""
    try:
        yield
    except ExtensionError as error:
        raise StorageError(f"study {study.name!r}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"study {study.name!r} cannot be read ({reason(error)}); if a later version of "
            "cnn-search made it, install that version; if it uses an entry of your own, make it "
            "again with --extension FILE; else name another study"
        ) from error


def resumed_spec(study: StudyHandle, wanted: StudySpec, named: Collection[str]) -> StudySpec:
    """The specification under which an existing study resumes.

    Args:
        wanted: the specification that this start's flags and file ask for.
        named: the fields that the user gave, by flag or in the file; others follow the study.

    A repeat of a comparison that has begun is trained with every arm, whatever the total, because
    arms are compared seed by seed. Raises `SpecError` if a named field differs from what the study
    was made with.
    """
    stored, given = load_spec(study), {name: getattr(wanted, name) for name in named}
    for name, new in given.items():
        if name not in MAY_CHANGE and getattr(stored, name) != new:
            made = differing(name, stored.to_dict()[name], wanted.to_dict()[name])
            raise SpecError(name, f"study {study.name!r} was made {made}")
    total = given.get("trials", stored.trials)
    changed = read(study.db, lambda connection: _with_total(connection, study, stored, total))
    others = {name: given[name] for name in BESIDE_TOTALS if name in given}
    return replace(changed, **others)


def set_total(study: StudyHandle, total: int, **others: Any) -> None:
    """Change the study's total and any of `BESIDE_TOTALS`.

    If it may spend more, trials that paused at its end pause again.

    A comparison keeps each repeat that has begun, see `resumed_spec`.
    """

    def change(connection: Connection) -> None:
        old = load_spec(study, study.study.user_attrs)
        new = replace(_with_total(connection, study, old, total), **others)
        if new != old:
            study.study.set_user_attr(SPEC, new.to_dict())
        if new.trials > old.trials or new.budget > old.budget:
            revive(connection, study.study_id)

    study.write(change)


def _with_total(
    connection: Connection, study: StudyHandle, spec: StudySpec, total: int
) -> StudySpec:
    """Not below what has begun, except paused trials; more than the old total would resume them."""
    trials, arms = schema.trials, len(spec.arms) or 1
    unbegun = [TrialState.WAITING] if spec.is_comparison else [TrialState.WAITING, TrialState.FAIL]
    is_kept = or_(trials.c.state != TrialState.RUNNING, schema.leases.c.paused.is_(None))
    begun = select(func.count()).select_from(trials.outerjoin(schema.leases))
    begun = begun.where(trials.c.study_id == study.study_id, is_kept)
    count = connection.scalar(begun.where(trials.c.state.not_in(unbegun))) or 0
    return spec.with_total(max(total, min(arms * math.ceil(count / arms), spec.trials)))
