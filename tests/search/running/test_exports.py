"""Exports, read back by the tools that they are for."""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas
import pytest
from pyarrow import parquet
from pyarrow.dataset import dataset

from search import export
from search.running.exports import FORMATS, encoded, export_study
from search.running.results import COLUMNS, TABLES, Study, load_study
from search.spec.domains import Choice, Range, SpecError
from search.store.records import ResultRow
from search.store.views import StudyView
from tests.search.made_up_views import comparison_view, study_view, trial_view
from tests.search.zones import EAST, WEST, zone


@pytest.fixture
def view(small_study: StudyView, result_row: ResultRow) -> Study:
    """With a test evaluation of trial 3, and a choice between values of two types."""
    pools = ((trial, "max" if trial.number % 2 else 2) for trial in small_study.trials)
    mixed = tuple(replace(it, params={**it.params, "pool": pool}) for it, pool in pools)
    return Study.of(replace(small_study, results=(result_row,), trials=mixed))


def test_json_keeps_every_digit() -> None:
    rows = [{"small": 1.2345678901234567e-09, "count": 3, "loss": math.inf, "none": None}]
    found = json.loads(encoded(pandas.DataFrame(rows), "json"))
    assert found == [{**rows[0], "loss": None}]


def test_tables_as_files(view: Study, tmp_path: Path) -> None:
    for format in ("csv", "json", "parquet"):
        told = FORMATS[format](view, str(tmp_path))
        assert told == f"trials.{format}, epochs.{format}, results.{format} in {tmp_path}"
    for name in ("trials", "epochs", "results"):
        table = view.to_pandas(name)
        read = {
            "csv": pandas.read_csv(tmp_path / f"{name}.csv"),
            "json": pandas.DataFrame(json.loads((tmp_path / f"{name}.json").read_text())),
            "parquet": pandas.read_parquet(tmp_path / f"{name}.parquet"),
        }
        for frame in read.values():
            assert list(frame.columns) == list(table.columns)
            assert list(frame["trial"]) == list(table["trial"])
    assert list(pandas.read_parquet(tmp_path / "trials.parquet")["params_pool"][:2]) == ["2", "max"]
    assert list(read["csv"]["accuracy"]) == [0.9312]
    assert read["parquet"]["opened_at"][0] == view.results[0].opened_at
    assert not list(tmp_path.glob("*.tmp"))


def test_parquet_files_of_any_two_studies_have_the_same_types(
    small_study: StudyView, result_row: ResultRow, tmp_path: Path
) -> None:
    """Whatever values they hold: none, only whole numbers, or fractions."""
    figures = {"accuracy": 1.0, "error": 0.0, "loss": 1.0, "std": 0.0, "images": 100}
    whole = replace(result_row, figures={**figures, "requested_epochs": 3})
    arms = comparison_view({"a": [1.0, 2.0], "b": [3.0, None]})
    row = replace(small_study.trials[3].curve[0], metrics={"f1": 1.0})
    scored = replace(small_study.trials[3], curve=(row,))
    views = {
        "search": replace(small_study, trials=(*small_study.trials, scored), results=(result_row,)),
        "comparison": replace(arms, results=(whole, replace(whole, figures=None))),
        "begun": study_view([trial_view(0, state="waiting")]),
        "empty": study_view(),
    }
    for name, view in views.items():
        FORMATS["parquet"](Study.of(view), str(tmp_path / name))
    for file in ("trials", "epochs", "results"):
        paths = [tmp_path / name / f"{file}.parquet" for name in views]
        for paired in permutations(paths, 2):
            read = dataset([str(path) for path in paired]).to_table()
            assert len(read) == sum(len(pandas.read_parquet(path)) for path in paired)
        first, *others = (parquet.read_schema(path) for path in paths)
        for other in others:
            shared = [name for name in other.names if not name.startswith("params_")]
            assert [first.field(name) for name in shared] == [other.field(name) for name in shared]
    assert parquet.read_schema(tmp_path / "search" / "epochs.parquet").field("f1").type == "double"
    assert pandas.read_parquet(tmp_path / "comparison" / "results.parquet")["seeds"][0] == "0, 1, 2"


def test_the_types_of_parameters_are_those_of_the_space(tmp_path: Path) -> None:
    """Not of the values that a few trials happen to have."""
    space = {
        "dropout": Range(low=0.0, high=1.0),
        "weight_decay": Choice(values=(0, 0.5)),
        "learning_rate": Range(low=1e-3, high=1.0),
        "depth": Range(low=2, high=4),
        "batch_norm": Choice(values=(True, False)),
        "hidden": Choice(values=((64,), (128,))),
    }
    whole = {"dropout": 1.0, "weight_decay": 0, "learning_rate": 1.0, "depth": 2}
    by_hand = trial_view(1, params={"depth": 3})
    view = study_view(
        [trial_view(0, params={**whole, "batch_norm": True, "hidden": "64"}), by_hand]
    )
    view = replace(view, spec=replace(view.spec, space=space))
    FORMATS["parquet"](Study.of(view), str(tmp_path))
    schema = parquet.read_schema(tmp_path / "trials.parquet")
    types = {name: str(schema.field(f"params_{name}").type) for name in space}
    assert types == {
        **dict.fromkeys(("dropout", "weight_decay", "learning_rate"), "double"),
        "depth": "int64",
        "batch_norm": "bool",
        "hidden": types["hidden"],
    }
    assert "string" in types["hidden"]
    arms = Study.of(comparison_view({"1": [0.5]}))
    FORMATS["parquet"](arms, str(tmp_path))
    assert "string" in str(
        parquet.read_schema(tmp_path / "trials.parquet").field("params_arm").type
    )


def test_every_column_is_explained() -> None:
    told = Study.to_pandas.__doc__ or ""
    for name in {*COLUMNS["trials"], *COLUMNS["results"], *COLUMNS["leaderboard"]}:
        assert f"`{name}`" in told or name.startswith(("train_", "validation_")), name


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_has_its_columns(view: Study, name: str) -> None:
    """That of the epochs, until a new study's first one is finished."""
    full, empty = (
        Study.of(replace(view, trials=trials, results=results)).to_pandas(name)
        for trials, results in ((view.trials, view.results), ((), ()))
    )
    metrics = {metric for trial in view.trials for row in trial.curve for metric in row.metrics}
    fixed = [it for it in full if not it.startswith("params_") and it not in metrics]
    assert list(empty) == fixed
    assert empty.query("trial == 0").empty
    assert encoded(empty, "csv").decode().strip() == ",".join(fixed)
    assert list(pandas.read_parquet(io.BytesIO(encoded(empty, "parquet")))) == fixed


def test_tensorboard_reads_its_event_files(view: Study, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    more = replace(view, trials=(*view.trials, replace(view.trials[3], number=98)))
    FORMATS["tensorboard"](more, str(tmp_path))  # of another study, whose files must go
    (tmp_path / "trial_0098" / "mine.txt").touch()
    for _ in range(2):  # written twice, nothing is there twice
        told = FORMATS["tensorboard"](view, str(tmp_path))
    with_events = {file.parent.name for file in tmp_path.rglob("events.out.tfevents.*")}
    assert with_events == {f"trial_{it.number:04}" for it in view.trials if it.best is not None}
    assert [file.name for file in (tmp_path / "trial_0098").iterdir()] == ["mine.txt"]
    assert told.startswith("event files of 6 trials")
    events = EventAccumulator(str(tmp_path / "trial_0003")).Reload()
    curve = [(one.step, one.wall_time) for one in events.Scalars("validation_loss")]
    trial = view.trials[3]
    assert curve == [(row.epoch, row.reported_at) for row in trial.curve]
    assert events.Scalars("test_accuracy")[0].value == pytest.approx(0.9312)
    assert events.Scalars("best_value")[0].value == pytest.approx(0.25)
    hparams = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"learning_rate" in hparams
    assert b"max" in hparams


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_reads_its_runs(view: Study, tmp_path: Path) -> None:
    from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
    from mlflow.tracking import MlflowClient

    def runs() -> dict[str, Any]:
        experiment = client.get_experiment_by_name("fashion")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id])
        return {run.info.run_name: run for run in found}

    tmp_path /= "my runs"
    told = FORMATS["mlflow"](view, str(tmp_path))
    assert told.startswith("10 runs in MLflow's experiment fashion at sqlite:///")
    assert told.endswith(
        f"; mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/mlflow.db' shows them"
    )
    assert MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get()
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    before = runs()
    assert len(before) == 10
    run = before["trial 3"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"depth": "3", "learning_rate": "0.00213", "pool": "max"}
    history = client.get_metric_history(run.info.run_id, "validation_loss")
    assert [(one.step, one.value) for one in history] == [(1, 0.6), (2, 0.25), (3, 0.28)]
    assert run.data.metrics["test_accuracy"] == 0.9312
    assert (run.data.metrics["value"], run.data.metrics["best_value"]) == (0.28, 0.25)
    assert run.info.artifact_uri.startswith(tmp_path.as_uri())
    assert before["trial 4"].data.tags["reason"] == "out of memory: <b>GPU</b>"
    # Again, with one more trial complete: only that one is written again.
    more = replace(view.trials[6], curve=view.trials[3].curve, state="complete")
    later = replace(view, trials=(*view.trials[:6], more, *view.trials[7:]))
    FORMATS["mlflow"](later, str(tmp_path))
    after = runs()
    changed = [n for n in before | after if before[n].info.run_id != after[n].info.run_id]
    assert changed == ["trial 6"]
    # Even after someone has deleted it there.
    for experiment in client.search_experiments(filter_string="name = 'fashion'"):
        client.delete_experiment(experiment.experiment_id)
    FORMATS["mlflow"](later, str(tmp_path))
    assert runs().keys() == after.keys()


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_tracking_server_that_is_not_there_is_said_in_a_phrase(
    view: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SpecError, match=r"cannot use http://127.0.0.1:1: no server answers there$"):
        FORMATS["mlflow"](view, "http://127.0.0.1:1")


@pytest.mark.usefixtures("place")
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_has_each_run_once_whatever_the_time_zone(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    for where in (EAST, WEST):
        with zone(where):
            export_study("digits", to=tmp_path, format="mlflow")
            first = load_study("digits").trials[0]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3
    begun, ended = first.reports[0].reported_at, first.reports[-1].reported_at
    (info,) = (run.info for run in runs if run.info.run_name == "trial 0")
    assert info.start_time / 1000 == pytest.approx(begun, abs=60)
    assert info.end_time / 1000 == pytest.approx(ended, abs=60)


@pytest.mark.usefixtures("place")
def test_times_in_tables_are_in_utc_wherever_they_are_read() -> None:
    def table() -> bytes:
        return encoded(load_study("digits").to_pandas("leaderboard"), "csv")

    with zone(EAST):
        first, east = load_study("digits").trials[0], table()
        begun = load_study("digits").to_pandas()["started"][0]
    with zone(WEST):
        assert table() == east
    assert begun.utcoffset() == timedelta(0)
    assert begun.timestamp() == pytest.approx(first.reports[0].reported_at, abs=60)


@pytest.mark.usefixtures("place")
def test_the_command_and_the_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export.main(["--format", "csv", "--to", str(tmp_path / "new" / "tables")]) == 0
    assert "Written: trials.csv, epochs.csv, results.csv in" in capsys.readouterr().out
    for words in ("--format csv", "--to x", "--format csv --to x --bundle y"):
        with pytest.raises(SystemExit) as refused:
            export.main(words.split())
        assert refused.value.code == 2
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)
    for to, format, said in (
        (file, "csv", r"cannot write .*file .*; give another --to"),
        (tmp_path, "xlsx", "one of csv, json, parquet, tensorboard, mlflow, but got"),
        (tmp_path, "mlflow", r"mlflow needs .*; pip install 'cnn-search\[export\]'"),
    ):
        with pytest.raises(ValueError, match=said):
            export_study("digits", to=to, format=format)
