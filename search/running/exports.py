"""A study's results in the formats of other tools."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas

from data.reading import write_atomically
from models.checks import first_line
from search.analysis.wording import counted
from search.dashboard.guard import without_formulas
from search.running.results import EPOCH, Study, load_study
from search.spec.config import StudySpec
from search.spec.domains import Domain, SpecError, choice_label, corners
from search.spec.space import searched
from search.store.views import StudyView, TrialView
from search.terminal.command_line import for_shell

FILES = ("trials", "epochs", "results")
TRIAL, TOLD = "cnn_search.trial", "cnn_search.told"  # tags of an MLflow run: its trial, its content
TYPES = {  # of Parquet columns, whatever their values; see _types for others
    **dict.fromkeys(("state", "arm", "reason", "seeds"), "string"),
    **dict.fromkeys(("trial", "repeat", "epoch", "epochs", "best_epoch"), "Int64"),
    **dict.fromkeys(("parameters", "multiply_adds", "images", "requested_epochs"), "Int64"),
    **dict.fromkeys(("started", "finished", "opened_at"), "datetime64[us, UTC]"),
    "baseline": "boolean",
}
MOST_RUNS, MOST_METRICS = 50_000, 1_000  # per request to MLflow
ENDS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def export_study(
    study: str | None = None,
    *,
    to: str | Path,
    format: str = "csv",
    storage: str | None = None,
    runs_dir: str | Path | None = None,
) -> str:
    """Write a study's trials, epochs and test evaluations for other tools.

    Does what `python -m search.export --format` does, also while the study runs. A repeated export
    replaces the previous one.

    Example:
        >>> export_study("digits", to="tables", format="parquet")

    Args:
        study: its name; None for the one that was worked on last.
        to: a folder, created if it is missing; for MLflow also a tracking URI, such as
            `http://HOST:PORT`.
        format: csv, json, parquet, tensorboard or mlflow.
        storage, runs_dir: see `load_study`.

    Returns:
        A phrase that says what was written, and where.

    Raises:
        SpecError: no such format, its packages are missing, or the folder cannot be written.
        StorageError: no such database or study.
    """
    if format not in FORMATS:
        known = f"one of {', '.join(FORMATS)}"
        raise SpecError("format", f"format must be {known}, but got {format!r}")
    view = load_study(study, storage=storage, runs_dir=runs_dir)
    try:
        return FORMATS[format](view, str(to))
    except ImportError as error:
        problem = f"{format} needs packages that are missing; pip install 'cnn-search[export]'"
        raise SpecError("format", problem) from error
    except OSError as error:
        raise SpecError("to", f"cannot write {to} ({error.strerror}); give another --to") from error


def _in_files(study: Study, to: str, format: str) -> str:
    Path(to).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        table = study.to_pandas(name)
        write_atomically(Path(to) / f"{name}.{format}", encoded(table, format, study.spec))
    return f"{', '.join(f'{name}.{format}' for name in FILES)} in {to}"


def encoded(table: pandas.DataFrame, format: str, spec: StudySpec | None = None) -> bytes:
    """The table as csv, json or parquet. Integers stay integers in columns with missing values.

    spec: of the study, whose space decides the types of parameters' columns in parquet.
    """
    table = table.convert_dtypes()
    if format == "csv":
        return without_formulas(table.to_csv(index=False)).encode()
    if format == "json":
        finite = table.notna() & ~table.isin([math.inf, -math.inf])
        rows = table.astype(object).where(finite, None).to_dict("records")
        return f"{json.dumps(rows, indent=1, default=datetime.isoformat)}\n".encode()
    domains = {} if spec is None else {f"params_{name}": it for name, it in searched(spec).items()}
    types = {
        name: _type(table[name], domains.get(name))
        if name.startswith("params_")
        else TYPES.get(name, "Float64")
        for name in table
    }
    payload: bytes = table.astype(types).to_parquet(None, index=False)
    return payload


def _type(column: pandas.Series, domain: Domain | None) -> str:
    """Of a parameter's column: its domain's; a trial by hand may have a value of another type."""
    values = [*map(choice_label, corners(domain)), *column.dropna().tolist()]
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return "Int64" if kinds == {int} else "Float64"
    return "boolean" if kinds == {bool} else "string"


def _measured(view: StudyView, trial: TrialView) -> Iterator[tuple[str, float, int, float]]:
    """Yields (name, value, step, seconds since 1970) for all its epochs and test evaluations."""
    for row in trial.curve:
        values = {"value": row.value, **{name: getattr(row, name) for name in EPOCH}, **row.metrics}
        for name, value in values.items():
            if name != "epoch" and math.isfinite(value):
                yield name, value, row.epoch, row.reported_at
    for number, result in enumerate(view.results, start=1):
        is_its = result.is_ours and result.trial_number == trial.number
        for name in ("accuracy", "loss", "std") if is_its else ():
            if (value := (result.figures or {}).get(name)) is not None:
                yield f"test_{name}", value, number, result.opened_at.timestamp()


def _tensorboard(view: StudyView, to: str) -> str:
    from torch.utils.tensorboard import SummaryWriter

    trials = [(trial, trial.best.value) for trial in view.trials if trial.best is not None]
    for folder in Path(to).glob("trial_[0-9][0-9][0-9][0-9]*"):  # perhaps of another study
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        with suppress(OSError):  # it holds something else, too
            folder.rmdir()
    for trial, best in trials:
        params = {
            name: it if isinstance(it, bool | int | float) else str(it)
            for name, it in trial.values.items()
        }
        with SummaryWriter(str(Path(to) / f"trial_{trial.number:04}")) as writer:
            for name, value, step, when in _measured(view, trial):
                writer.add_scalar(name, value, step, when)
            writer.add_hparams(params, {"best_value": best}, run_name=".")
    return f"event files of {len(trials)} trials; tensorboard --logdir {for_shell([to])} shows them"


def _mlflow(view: StudyView, to: str) -> str:
    """Write a run for each trial; runs that are already up to date are kept."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # by default four minutes
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from requests import ConnectionError as NoAnswer

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    artifacts, shown = None, ""
    if "://" not in to:
        Path(to).mkdir(parents=True, exist_ok=True)
        artifacts = Path(to, "mlruns").absolute().as_uri()  # by default in the current folder
        to = f"sqlite:///{Path(to) / 'mlflow.db'}"
        shown = f"; mlflow ui --backend-store-uri {for_shell([to])} shows them"
    begun = [(trial, trial.started) for trial in view.trials if trial.started is not None]
    try:
        client = MlflowClient(tracking_uri=to)
        found = client.get_experiment_by_name(view.name)
        experiment = (
            found.experiment_id if found else client.create_experiment(view.name, artifacts)
        )
        if found and found.lifecycle_stage == "deleted":  # the name stays taken
            client.restore_experiment(experiment)
        runs = client.search_runs([experiment], max_results=MOST_RUNS)
        known = {run.data.tags.get(TRIAL): run for run in runs}
        for trial, started in begun:
            metrics = [
                Metric(name, value, round(1000 * when), step)
                for name, value, step, when in _measured(view, trial)
            ]
            if (best := trial.best) is not None:  # MLflow sorts by a metric's last step
                when = round(1000 * best.reported_at)
                metrics.append(Metric("best_value", best.value, when, best.epoch))
            # An older study may have had the name. In UTC, the same for every reader.
            whose = f"{trial.number}, begun {started.astimezone(UTC).replace(tzinfo=None)}"
            told = f"{trial.state}, {len(metrics)} values"
            if (old := known.get(whose)) is not None:
                if old.data.tags.get(TOLD) == told:
                    continue
                client.delete_run(old.info.run_id)
            tags = {TRIAL: whose, "arm": trial.arm or "", "reason": trial.reason or ""}
            run = client.create_run(
                experiment,
                start_time=round(1000 * started.timestamp()),
                tags={name: text for name, text in tags.items() if text},
                run_name=f"trial {trial.number}",
            ).info.run_id
            params = [Param(name, str(value)) for name, value in trial.values.items()]
            client.log_batch(run, params=params)
            for first in range(0, len(metrics), MOST_METRICS):
                client.log_batch(run, metrics[first : first + MOST_METRICS])
            if trial.finished is not None:
                ended = round(1000 * trial.finished.timestamp())
                client.set_terminated(run, ENDS[trial.state], ended)
            client.set_tag(run, TOLD, told)
    except MlflowException as error:
        silent = isinstance(error.__context__, NoAnswer)
        why = "no server answers there" if silent else first_line(error)
        raise SpecError("to", f"MLflow cannot use {to}: {why}") from error
    return f"{counted(len(begun), 'run')} in MLflow's experiment {view.name} at {to}{shown}"


FORMATS: Mapping[str, Callable[[Study, str], str]] = {
    **{name: partial(_in_files, format=name) for name in ("csv", "json", "parquet")},
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
}
