"""A study of any length in a database, as the trial loop would have left it, without its training."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import insert

from data.datasets import default_data_dir, load_training
from search.trials.catalog import create_study
from search.trials.config import StudySpec
from search.trials.space import suggest
from search.trials.storage import Database, transaction
from search.trials.study_file import find_study_file, read_study_file
from search.trials.tables import epochs
from search.trials.view import ACCURACY, BEST_EPOCH, EPOCHS, ERROR, PARAMETERS, REASON, SECONDS

COMPLETE, FAILED = 4, 50  # each so-manieth trial; the others were pruned
SECONDS_AN_EPOCH = 10.0


def make_up_study(db: Database, name: str, trials: int) -> optuna.Study:
    """The default space on digits: one in four trials complete, one in fifty failed, curves."""
    info, _ = load_training("digits", default_data_dir())
    fields = {**read_study_file(find_study_file("default")), "dataset": "digits", "baseline": None}
    spec = StudySpec(**{**fields, "trials": trials})
    study = create_study(db, name, spec, info, validation_count=info.validation_count)
    dice = random.Random(0)
    made = list(_trials(spec, trials, dice))
    with transaction(db):
        study.add_trials(made)
    _add_epochs(db, study, dice)
    return study
