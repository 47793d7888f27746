"""Tables and figures of a study: what the report shows, as values."""

from pathlib import Path

import pytest

from search import report
from search.running.results import epochs_table, load_study, study_figures, trials_table
from search.spec.domains import SpecError
from search.store import StorageError


@pytest.mark.usefixtures("place")
def test_trials_are_those_of_the_view() -> None:
    view = load_study()
    table = trials_table(view)
    assert [row["trial"] for row in table] == [0, 1, 2]
    assert len({tuple(row) for row in table}) == 1
    for row, trial in zip(table, view.trials, strict=True):
        assert row["state"] == trial.state
        assert row["epochs"] == len(trial.curve)
        assert row["parameters"] == trial.parameters
        assert row["arm"] is row["repeat"] is None
        assert row["baseline"] == (trial.number == 0)
        for name, value in trial.params.items():
            assert row[f"params_{name}"] == value
        if trial.best is None:
            assert row["validation_loss"] is row["best_epoch"] is None
        else:
            assert row["validation_loss"] == trial.best.validation_loss
            assert row["validation_accuracy"] == 1 - trial.best.validation_error
            assert row["best_epoch"] == trial.best.epoch
    assert view.best is not None
    lowest = min(
        (row for row in table if row["state"] == "complete"), key=lambda row: row["validation_loss"]
    )
    assert lowest["trial"] == view.best.number


@pytest.mark.usefixtures("place")
def test_epochs_lead_to_the_trials() -> None:
    view = load_study("digits")
    table = epochs_table(view)
    assert len({tuple(row) for row in table}) == 1
    for row in trials_table(view):
        own = [epoch for epoch in table if epoch["trial"] == row["trial"]]
        assert [epoch["epoch"] for epoch in own] == list(range(1, row["epochs"] + 1))
        if own:
            assert min(epoch["validation_loss"] for epoch in own) == row["validation_loss"]


@pytest.mark.usefixtures("place")
def test_pandas_takes_the_tables() -> None:
    pandas = pytest.importorskip("pandas")
    view = load_study("digits")
    trials = pandas.DataFrame(trials_table(view))
    assert trials["validation_loss"].dtype == "float64"
    assert view.best is not None
    best = trials.loc[trials["validation_loss"].idxmin()]
    assert best["trial"] == view.best.number
    pivot = pandas.DataFrame(epochs_table(view)).pivot(
        index="epoch", columns="trial", values="validation_loss"
    )
    assert pivot[best["trial"]].min() == best["validation_loss"]


def test_figures_are_those_of_the_report(place: Path) -> None:
    assert report.main(["--study", "digits", "--formats", "svg"]) == 0
    written = {file.stem for file in (place / "runs" / "digits" / "figures").iterdir()}
    shown = study_figures(load_study("digits"))
    assert set(shown) == written
    assert {"history", "curves", "parameters", "time"} <= written
    page = (place / "runs" / "digits" / "report.html").read_text()
    for figure in shown.values():
        assert figure.data
        title = figure.layout.title.text.split("<br>")[0]
        assert title in page
    # What is done to one leaves the next call's alone.
    shown["curves"].update_layout(title_text="mine")
    assert study_figures(load_study("digits"))["curves"].layout.title.text != "mine"


@pytest.mark.usefixtures("place")
def test_what_is_not_there() -> None:
    with pytest.raises(StorageError, match="no study 'digit'"):
        load_study("digit")
    with pytest.raises(SpecError, match="not usable"):
        load_study("../digits")
    with pytest.raises(StorageError, match="no such file"):
        load_study(storage="sqlite:///nowhere.db")
    assert not Path("nowhere.db").exists()
