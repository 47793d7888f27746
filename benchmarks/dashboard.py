"""How fast the dashboard's pages load, and what its content costs the trial loop.

    python -m benchmarks.dashboard --trials 1000 10000 --json benchmarks/results/dashboard.json

Made-up studies with curves, notes and figures, as `search.study` leaves them, are served over HTTP
by what `search.dashboard` serves. Each request is one that a page makes, and finds the dashboard's
own memory of the trials empty: that memory lasts 10 s, and pages ask again every 10 s.
"""

from __future__ import annotations

import argparse
import http.client
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import insert
from waitress import create_server

from benchmarks.record import environment, write_json
from data.datasets import DIGITS
from search.reporting.content_writer import ContentWriter
from search.serving.guard import Guard, Policy
from search.serving.origins import LOOPBACK_NAMES
from search.training.device import choose_device
from search.trials.catalog import create_study
from search.trials.config import StudySpec
from search.trials.opening import open_database
from search.trials.space import suggest
from search.trials.storage import Database, transaction
from search.trials.study_file import find_study_file, read_study_file
from search.trials.tables import epochs
