"""The Pareto front of a search, wherever it is shown."""

from dataclasses import replace
from datetime import datetime

import pytest

from search.analysis.findings import front_in_words, pareto_front
from search.figures.study import loss_against_parameters
from search.pages.note import study_note
from search.pages.report import make_report
from search.store.views import StudyView
from search.terminal.summary import status_text


@pytest.fixture
def pareto(small_study: StudyView) -> StudyView:
    """Trial 0 works more than any other: it is on the front of parameters alone."""
    trials = [
        replace(it, multiply_adds=10 * (it.parameters or 0) + 10**7 * (it.number == 0))
        for it in small_study.trials
    ]
    spec = replace(small_study.spec, minimize_also="multiply_adds", pruner="promotion")
    return replace(small_study, spec=spec, trials=tuple(trials))


def test_it_is_of_what_the_study_lowers(small_study: StudyView, pareto: StudyView) -> None:
    assert [trial.number for trial in pareto_front(small_study)] == [9, 0, 3]
    assert [trial.number for trial in pareto_front(pareto)] == [9, 3]
    told = front_in_words(pareto)
    assert told.endswith(
        "#9 (600 000 multiply-adds, loss 0.4400), #3 (3 000 000 multiply-adds, loss 0.2500)."
    )
    figure = loss_against_parameters(pareto)
    line = next(trace for trace in figure.data if trace.name == "Pareto front")
    assert line.x == (600_000, 3_000_000)
    assert figure.layout.meta["caption"] == told
    assert figure.layout.xaxis.title.text == "multiply-adds for one image"


def test_summary_note_and_report_show_it(small_study: StudyView, pareto: StudyView) -> None:
    said = "finalize takes the lowest loss, and with --trial 9 the smallest network."
    text = " ".join(status_text(pareto).split())
    assert front_in_words(pareto) in text
    assert said in text
    pages = [study_note(pareto), make_report(pareto, datetime(2026, 1, 1)).markdown]
    for page in pages:
        table = page.partition("## Pareto front")[2].partition("\n## ")[0].replace("&#35;", "#")
        assert said in " ".join(table.replace("&#45;", "-").split())
        assert table.index("| #9 |") < table.index("600 000") < table.index("| #3 |")
        assert "#1 " not in table
    assert "Pareto" not in status_text(small_study) + study_note(small_study)
