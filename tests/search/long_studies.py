"""Studies with any number of ended and paused trials, or none, made in a second."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.trials_present import insert_trials, make_up_trials
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.database import Database
from search.store.opening import open_database
from search.store.studies import StudyHandle, create_study, require_study
from tests.made_up_data import made_up_info

SPEC = StudySpec(
    dataset="digits",
    space={
        "learning_rate": read_parameter("learning_rate", {"low": 1e-4, "high": 1e-2, "log": True}),
        "dropout": read_parameter("dropout", {"low": 0.0, "high": 0.5}),
        "depth": read_parameter("depth", [1, 2, 3]),
    },
)
INFO = made_up_info(
    "digits",
    "0123456789",
    title="digits",
    image_shape=(1, 8, 8),
    mirror_changes_class=True,
    validation_count=287,
    training_count=1437,
)

Fill = Callable[..., tuple[Database, StudyHandle]]


def fill(
    file: Path, count: int, spec: StudySpec = SPEC, *, paused: int = 0
) -> tuple[Database, StudyHandle]:
    """A new database with one study, opened as a command would open it."""
    db = open_database(f"sqlite:///{file}")
    study = create_study(db, "s", spec, INFO, validation_count=287)
    made_up = make_up_trials(spec, count)
    insert_trials(db.engine, study.study_id, spec, made_up, ours=True, paused=paused)
    return db, require_study(db, "s")


def empty_studies(folder: Path, *names: str, spec: StudySpec = SPEC) -> str:
    """Make studies without trials in the folder's studies.db. Returns its URL."""
    url = f"sqlite:///{folder / 'studies.db'}"
    with closing(open_database(url)) as db:
        for name in names:
            create_study(db, name, spec, INFO, validation_count=287)
    return url
