"""Trials that are already present: made up once, and inserted into databases in bulk.

They are sampled at random from a study's space. One in three ran to its end, the others were pruned
at a rung, as halving leaves them. Optuna's tables get the rows that its own calls would write.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Engine, Table, insert

from benchmarks.workload import default_study
from data.datasets import default_data_dir, load_training
from search.spec.config import StudySpec
from search.spec.space import suggest
from search.store.database import Database
from search.store.leases import run_again
from search.store.schema import ACCURACY, BEST_EPOCH, EPOCHS, ERROR, SECONDS, epochs, leases
from search.store.studies import StudyHandle, create_study

COMPLETE = 3  # one in this many
PRUNED_AT = (0, 0, 1, 1, 2, 4)
STARTED = datetime(2026, 1, 1)
SECONDS_AN_EPOCH = 10.0
_AT_ONCE = 20_000  # rows


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeUpTrial:
    """Losses, starting with the partial-epoch validation (0); parameters in Optuna's encoding."""

    state: TrialState
    params: Mapping[str, float]
    losses: Sequence[float]


def make_up_study(db: Database, name: str, trials: int, *, paused: int = 0) -> StudyHandle:
    """The default study on digits in an otherwise empty database; see `insert_trials`."""
    info, _ = load_training("digits", default_data_dir())
    spec = default_study(dataset="digits", trials=trials)
    study = create_study(db, name, spec, info, validation_count=info.validation_count)
    made_up = make_up_trials(spec, trials)
    insert_trials(db.engine, study.study_id, spec, made_up, ours=True, paused=paused)
    return study


def distributions_of(spec: StudySpec) -> dict[str, BaseDistribution]:
    """The distributions that a trial of the study suggests."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    suggest(trial, spec)
    return trial.distributions


def make_up_trials(spec: StudySpec, count: int) -> list[MadeUpTrial]:
    """Made-up trials, the same every time."""
    rng, distributions = random.Random(0), distributions_of(spec)
    return [_make_up(spec, number, distributions, rng) for number in range(count)]


def _make_up(
    spec: StudySpec,
    number: int,
    distributions: Mapping[str, BaseDistribution],
    rng: random.Random,
) -> MadeUpTrial:
    complete = number % COMPLETE == 0
    last = spec.epochs if complete else min(rng.choice(PRUNED_AT), spec.epochs - 1)
    merit = 0.3 + 0.2 * rng.random()
    return MadeUpTrial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        params={name: _draw(distribution, rng) for name, distribution in distributions.items()},
        losses=[merit + 1.5 / (epoch + 1) + 0.02 * rng.random() for epoch in range(last + 1)],
    )


def _draw(distribution: BaseDistribution, rng: random.Random) -> float:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return float(rng.randrange(len(distribution.choices)))
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return float(rng.randrange(distribution.low, distribution.high + 1, distribution.step))
    assert isinstance(distribution, optuna.distributions.FloatDistribution)
    if distribution.log:
        return math.exp(rng.uniform(math.log(distribution.low), math.log(distribution.high)))
    return rng.uniform(distribution.low, distribution.high)


def insert_trials(
    engine: Engine,
    study_id: int,
    spec: StudySpec,
    made_up: Sequence[MadeUpTrial],
    *,
    ours: bool,
    paused: int = 0,
) -> None:
    """Insert the trials into an empty study in an otherwise empty database.

    Args:
        ours: fill our own table of epochs, too.
        paused: the first so many of the pruned trials are paused instead.
    """
    rows = _rows(study_id, distributions_of(spec), made_up)
    with engine.begin() as connection:
        for table, found in rows.items():
            if table is epochs and not ours:
                continue
            for start in range(0, len(found), _AT_ONCE):
                connection.execute(insert(table), found[start : start + _AT_ONCE])
        pruned = [number for number, one in enumerate(made_up) if one.state == TrialState.PRUNED]
        if held := [number + 1 for number in pruned[:paused]]:
            run_again(connection, held)
            lease = {"token": 1, "abandonments": 0, "worker": "made up", "claim": "", "paused": 1}
            rows_of_leases = [{"trial_id": trial_id, **lease} for trial_id in held]
            connection.execute(insert(leases), rows_of_leases)


def _rows(
    study_id: int,
    distributions: Mapping[str, BaseDistribution],
    made_up: Sequence[MadeUpTrial],
) -> dict[Table, list[dict[str, Any]]]:
    tables = models.BaseModel.metadata.tables
    written = {name: distribution_to_json(each) for name, each in distributions.items()}
    value_kind = models.TrialValueModel.TrialValueType.FINITE
    report_kind = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
    rows = defaultdict[Table, list[dict[str, Any]]](list)
    for number, trial in enumerate(made_up):
        trial_id = number + 1
        start = STARTED + timedelta(seconds=SECONDS_AN_EPOCH * number)
        mine, last = {"trial_id": trial_id}, len(trial.losses) - 1
        times = {
            "datetime_start": start,
            "datetime_complete": start + timedelta(seconds=SECONDS_AN_EPOCH),
        }
        rows[tables["trials"]].append(
            {**mine, "study_id": study_id, "number": number, "state": trial.state, **times}
        )
        rows[tables["trial_params"]] += [
            {**mine, "param_name": name, "param_value": it, "distribution_json": written[name]}
            for name, it in trial.params.items()
        ]
        value = min(trial.losses) if trial.state == TrialState.COMPLETE else trial.losses[-1]
        rows[tables["trial_values"]].append(
            {**mine, "objective": 0, "value": value, "value_type": value_kind}
        )
        attributes = {EPOCHS: last, SECONDS: SECONDS_AN_EPOCH, BEST_EPOCH: last}
        attributes |= {ERROR: 0.1, ACCURACY: 0.9}
        rows[tables["trial_user_attributes"]] += [
            {**mine, "key": key, "value_json": json.dumps(it)} for key, it in attributes.items()
        ]
        reported = {"intermediate_value_type": report_kind}
        rows[tables["trial_intermediate_values"]] += [
            {**mine, "step": epoch, "intermediate_value": loss, **reported}
            for epoch, loss in enumerate(trial.losses)
        ]
        rows[epochs] += [
            {
                **mine,
                "epoch": epoch,
                "study_id": study_id,
                "trial_number": number,
                "train_loss": loss,
                "train_error": 0.1,
                "validation_loss": loss,
                "validation_error": 0.1,
                "best_validation_loss": min(trial.losses[: epoch + 1]),
                "metrics": {"calibrated_loss": loss},
                "learning_rate": 0.001,
                "seconds": SECONDS_AN_EPOCH / len(trial.losses),
                "images": 10_000,
                "worker": "made up",
                "attempt": 1,
                "reported_at": start.timestamp(),
            }
            for epoch, loss in enumerate(trial.losses)
        ]
    return rows
