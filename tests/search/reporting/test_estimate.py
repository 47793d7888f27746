"""The time left, on simulated studies: the pruner's own rule over synthetic curves."""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from statistics import fmean, median

import pytest

from models import plan
from models.anatomy import anatomy
from search.reporting.estimate import _draw, time_left
from search.training.train import EARLY_LOOK
from search.trials.choosing import is_rung, worth_continuing
from search.trials.config import PrunerName, SamplerName, StudySpec, TrialConfig
from search.trials.domains import Fixed
from search.trials.history import EpochRow
from search.trials.space import PARAMETERS, make_config
from search.trials.study_file import find_study_file, read_study_file
from search.trials.view import StudyView, TrialView

MakeView = Callable[..., StudyView]
SHAPE, CLASSES = (1, 28, 28), 10
STUDIES = 60
