"""Whatever trials are compared by, every text and figure of a study names that, and ranks by it."""

import dataclasses
from datetime import UTC, datetime

import pytest

from search.analysis.measures import measure_of
from search.figures import FIGURES, draw_all
from search.pages.note import study_note
from search.pages.report import make_report
from search.spec.objectives import OBJECTIVES
from search.store.views import StudyView, TrialView
from search.terminal.summary import status_text
from tests.search.made_up_views import comparison_view


def judged_by(view: StudyView, objective: str) -> StudyView:
    """The study as if it had been made with that objective: its last complete trial is best."""
    last = max(trial.number for trial in view.in_state("complete"))

    def changed(trial: TrialView) -> TrialView:
        lower = {name: trial.number == last and name == objective for name in OBJECTIVES}
        curve = []
        for row in trial.curve:
            calibrated = 0.0567 if lower["calibrated_validation_loss"] else row.validation_loss
            row = dataclasses.replace(
                row,
                validation_loss=0.0567 if lower["validation_loss"] else row.validation_loss,
                validation_error=0.0123 if lower["validation_error"] else row.validation_error,
                metrics={"calibrated_loss": calibrated},
            )
            curve.append(dataclasses.replace(row, value=OBJECTIVES[objective].of(row)))
        return dataclasses.replace(trial, curve=tuple(curve))

    spec = dataclasses.replace(view.spec, objective=objective)
    return dataclasses.replace(view, spec=spec, trials=tuple(map(changed, view.trials)))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_texts_and_figures_name_it(small_study: StudyView, objective: str) -> None:
    label, words = OBJECTIVES[objective].label, measure_of(objective).words
    assert words == label
    arms = comparison_view({"base": [0.5, 0.52], "other": [0.3, 0.32]})
    for view in (small_study, arms):
        view = judged_by(view, objective)
        best = view.best
        assert best is not None
        assert best.best is not None
        value = measure_of(objective).shown(best.best.value)
        now = datetime(2026, 3, 1, tzinfo=UTC)
        texts = (study_note(view), make_report(view, now).markdown)
        for text in texts:
            assert label in text
        assert OBJECTIVES[objective].word in status_text(view)
        assert value in texts[view is arms].replace("\\", "")
        for name, figure in draw_all(FIGURES, view).items():
            axes = figure.to_json()
            if name in ("history", "arms", "curves", "slices", "parameters"):
                assert label in axes, name
