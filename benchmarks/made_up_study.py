"""A study of any length in a database, as the trial loop would have left it."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Connection, insert, select

from data.datasets import default_data_dir, load_training
from models.summary import count_parameters
from search.spec.config import StudySpec
from search.spec.space import suggest
from search.spec.study_file import find_study_file, read_study_file
from search.store.database import Database, transaction
from search.store.schema import (
    ACCURACY,
    BEST_EPOCH,
    EPOCHS,
    ERROR,
    PARAMETERS,
    REASON,
    SECONDS,
    epochs,
)
from search.store.studies import StudyHandle, create_study

TRIALS: Any = models.TrialModel.__table__
COPIED: tuple[Any, ...] = tuple(
    model.__table__
    for model in (
        models.TrialParamModel,
        models.TrialValueModel,
        models.TrialUserAttributeModel,
        models.TrialSystemAttributeModel,
        models.TrialIntermediateValueModel,
    )
)
BLOCK = 500  # trials; longer studies repeat them
COMPLETE, FAILED = 4, 50  # one trial in so many; the others were pruned
PRUNED_AFTER = (0, 0, 1, 1, 2, 4)  # epochs
SECONDS_AN_EPOCH = 10.0
START = datetime(2026, 3, 1, 9, 0)


def make_up_study(db: Database, name: str, trials: int) -> StudyHandle:
    """The default study on digits: every fourth trial complete, every fiftieth failed."""
    info, _ = load_training("digits", default_data_dir())
    fields = {**read_study_file(find_study_file("default")), "dataset": "digits"}
    spec = StudySpec(**{**fields, "trials": trials, "baseline": None})
    study = create_study(db, name, spec, info, validation_count=info.validation_count)
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    dice = random.Random(0)
    with transaction(db):
        study.study.add_trials(
            _trial(number, spec, draws, dice) for number in range(min(trials, BLOCK))
        )
    made = study.study.get_trials(deepcopy=False)
    with db.engine.begin() as connection:
        connection.execute(insert(epochs), [row for trial in made for row in _rows(study, trial)])
        for first in range(BLOCK, trials, BLOCK):
            _copy(connection, offset=first, count=min(BLOCK, trials - first))
    return study


def _copy(connection: Connection, *, offset: int, count: int) -> None:
    """Once more the first trials of the database's only study: Optuna takes 20 ms to add one."""
    chosen = TRIALS.c.number < count
    moved = {"trial_id", "number", "trial_number"}
    for table in (TRIALS, *COPIED, epochs):
        columns = [c for c in table.c if not c.primary_key or c.name in {*moved, "epoch"}]
        values = [column + offset if column.name in moved else column for column in columns]
        if table is TRIALS:
            rows = select(*values).where(chosen)
        else:
            of_trial = table.c.trial_id == TRIALS.c.trial_id
            rows = select(*values).select_from(table.join(TRIALS, of_trial)).where(chosen)
        connection.execute(insert(table).from_select([c.name for c in columns], rows))


def _trial(number: int, spec: StudySpec, draws: optuna.Study, dice: random.Random) -> FrozenTrial:
    state, length = TrialState.PRUNED, PRUNED_AFTER[number % len(PRUNED_AFTER)]
    if number % FAILED == FAILED - 1:
        state = TrialState.FAIL
    elif number % COMPLETE == 0:
        state, length = TrialState.COMPLETE, spec.epochs
    drawn = draws.ask()
    config = suggest(drawn, spec)
    floor = dice.uniform(0.1, 0.5)
    losses = [2.2, *(floor + 1.5 / (epoch + 1) for epoch in range(1, length + 1))]
    attributes: dict[str, Any] = {
        EPOCHS: length,
        SECONDS: round(SECONDS_AN_EPOCH * length, 2),
        PARAMETERS: count_parameters(config.architecture, (1, 8, 8), 10),
    }
    if length:
        attributes |= {BEST_EPOCH: length, ERROR: losses[-1] / 3, ACCURACY: 1 - losses[-1] / 3}
    if state == TrialState.FAIL:
        attributes[REASON] = "diverged: train loss became nan"
    begun = START + timedelta(seconds=60 * number)
    trial = create_trial(
        state=state,
        value=min(losses[1:]) if state == TrialState.COMPLETE else None,
        params=drawn.params,
        distributions=drawn.distributions,
        user_attrs=attributes,
        intermediate_values=dict(enumerate(losses)),
    )
    trial.datetime_start, trial.datetime_complete = begun, begun + timedelta(seconds=60)
    return trial


def _rows(study: StudyHandle, trial: FrozenTrial) -> list[dict[str, Any]]:
    assert trial.datetime_start is not None
    return [
        {
            "trial_id": trial._trial_id,
            "study_id": study.study_id,
            "trial_number": trial.number,
            "epoch": epoch,
            "train_loss": loss,
            "train_error": loss / 3,
            "validation_loss": loss,
            "validation_error": loss / 3,
            "best_validation_loss": loss,
            "metrics": {"calibrated_loss": loss},
            "learning_rate": 1e-3,
            "seconds": SECONDS_AN_EPOCH,
            "images": 1437,
            "worker": "made up",
            "attempt": 1,
            "reported_at": trial.datetime_start.timestamp() + SECONDS_AN_EPOCH * epoch,
        }
        for epoch, loss in trial.intermediate_values.items()
    ]
