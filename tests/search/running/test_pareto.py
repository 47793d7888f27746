"""Studies that look for a Pareto front: sizes reach the rule, and what cannot be is refused."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from search.analysis.findings import pareto_front
from search.running.run import Run
from search.running.study import run_study
from search.running.worker import train_trials
from search.sampling.chooser import Contenders, make_chooser
from search.store.database import read
from search.store.views import view_study
from tests.search.running.made_up import MadeUpTraining

FIELDS = {"pruner": "promotion", "sampler": "tpe", "trials": 12, "epochs": 4, "budget": 0.5}


def test_what_the_rule_knows_of_sizes(make_run: Callable[..., Run]) -> None:
    run = replace(make_run(minimize_also="multiply_adds", **FIELDS), train=MadeUpTraining)
    train_trials(run)
    view, chooser = view_study(run.study), make_chooser(Contenders(run.study, run.spec))
    assert chooser is not None
    contenders = read(run.db, chooser.contenders)
    assert len(contenders) == view.finished == 12
    for one, trial in zip(contenders, view.trials, strict=True):
        assert trial.multiply_adds
        assert one.size == math.log(trial.multiply_adds)
    front = pareto_front(view)
    assert front[-1] == view.best
    assert {trial.state for trial in front} == {"complete"}


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"

    def begin(study: str, **more: float) -> None:
        space = "[space]\ndepth = { low = 1, high = 2 }\n"
        file.write_text(f'[study]\nminimize_also = "parameters"\n{study}\n{space}')
        run_study(file, dataset="digits", storage=f"sqlite:///{tmp_path / 's.db'}", **more)

    with pytest.raises(ValueError, match="minimize_also and pruner 'halving', which stops small"):
        begin('pruner = "halving"')
    with pytest.raises(ValueError, match="stop_when_flat is for a search of one best"):
        begin('pruner = "promotion"', stop_when_flat=0.01)
    with pytest.raises(ValueError, match="minimize_also is of a search"):
        begin('[[arm]]\nname = "a"\n')
    file.write_text('[study]\nminimize_also = "seconds"\n')
    with pytest.raises(ValueError, match=r"minimize_also .*parameters"):
        run_study(file, dataset="digits")
    assert not (tmp_path / "s.db").exists()
