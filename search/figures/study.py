"""Figures of a study as it stands. Pure functions of a view; none needs a finished trial.

Each stays within tens of kilobytes however long the study: optuna-dashboard keeps a figure in
database rows of 2 kB and sends them all to the browser every few seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate

import plotly.graph_objects as go

from search.analysis.describe import short_config
from search.analysis.measures import objective_in_words
from search.analysis.wording import grouped
from search.figures import style, values
from search.store.views import StudyView, TrialView


def loss_against_parameters(view: StudyView) -> go.Figure:
    """Lowest value by network size; a line joins the trials of the Pareto front."""
    figure = go.Figure()

    def label(trial: TrialView) -> str:
        config = "" if trial.config is None else f": {short_config(trial.config)}"
        return values.in_figure(f"#{trial.number}{config}")

    sized = [trial for trial in view.trials if trial.parameters]
    for name, trials, look in style.kinds(sized):
        style.add_trials(figure, view, trials, lambda t: t.parameters, name, look, label)
    front = pareto_front(view)
    if front:
        x, y = [trial.parameters for trial in front], [values.lowest(trial) for trial in front]
        line = {"color": style.BLUE, "width": 1, "shape": "hv"}
        style.add(figure, x, y, "Pareto front", line=line)
        figure.update_layout(meta={"caption": _front_in_words(view, front)})
    remark = f"each trial's lowest {view.spec.value.word}, one run each"
    style.apply_style(figure, values.subtitle(view, remark))
    figure.update_xaxes(title_text="parameters (weights and biases)", type="log")
    figure.update_yaxes(title_text=values.axis(view), type="log", range=values.value_range(view))
    return style.or_absence(figure, "no epoch has ended yet")


def pareto_front(view: StudyView) -> list[TrialView]:
    """Complete trials that no other equals in both parameters and value and beats in one.

    Smallest network first.
    """
    front: list[TrialView] = []
    least = math.inf
    sized = [
        (trial.parameters, best.value, trial)
        for trial in view.leaderboard
        if trial.parameters and (best := trial.best) is not None
    ]
    for _, loss, trial in sorted(sized, key=lambda entry: entry[:2]):
        if loss < least:
            least = loss
            front.append(trial)
    return front


def _front_in_words(view: StudyView, front: Sequence[TrialView]) -> str:
    word = view.spec.value.word
    trials = ", ".join(
        f"#{trial.number} ({grouped(trial.parameters or 0)} parameters, {word} "
        f"{objective_in_words(view, trial.best.value)})"
        for trial in front
        if trial.best is not None
    )
    return f"Pareto front, trials that no other beats in both size and {word}: {trials}."


def best_so_far(view: StudyView) -> go.Figure:
    """Lowest value of any complete trial, by trials finished."""
    figure, word = go.Figure(), view.spec.value.word
    finished = view.in_state("complete", "pruned")
    ended = sorted(finished, key=lambda trial: (trial.finished or datetime.min, trial.number))
    places = {trial.number: place for place, trial in enumerate(ended, 1)}
    complete = [(t, low) for t in ended if t.state == "complete" and (low := values.lowest(t))]
    if complete:
        small, trials = {"color": style.GREY, "size": 5}, [trial for trial, _ in complete]
        style.add_trials(figure, view, trials, lambda t: places[t.number], "complete", small)
        lows = list(accumulate((low for _, low in complete), min))
        steps = [n for n, low in enumerate(lows) if low < min(lows[:n], default=math.inf)]
        x = [*(places[trials[step].number] for step in steps), len(ended)]
        y = [*(lows[step] for step in steps), lows[-1]]
        line = {"color": style.BLUE, "width": 2, "shape": "hv"}
        style.add(figure, x, y, "best so far", f"best so far: {word} %{{y}}", line=line)
        if view.baseline and (low := values.lowest(view.baseline)):
            line = {"color": style.VERMILION, "width": 1, "dash": "dash"}
            ends, hover = [0, len(ended)], f"baseline: {word} %{{y}}"
            style.add(figure, ends, [low] * 2, "baseline", hover, line=line)
    style.apply_style(figure, values.subtitle(view, "complete ones, one run each"))
    figure.update_yaxes(title_text=values.axis(view), type="log")
    figure.update_xaxes(title_text="trials finished", rangemode="tozero")
    return style.or_absence(figure, "no trial has finished yet")
