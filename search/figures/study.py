"""Figures of a study as it stands. Pure functions of a view; none needs a finished trial.

Each stays within tens of kilobytes however long the study: optuna-dashboard keeps a figure in
database rows of 2 kB and sends them all to the browser every few seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.analysis.describe import short_config
from search.analysis.measures import objective_in_words
from search.analysis.wording import grouped
from search.figures import style, values
from search.store.views import State, StudyView, TrialView

TOP = 10  # always among the points drawn, like the Pareto front
STATES: Mapping[State, tuple[str, str, int]] = {  # colour, marker, how many points are drawn
    "complete": (style.BLUE, "circle", 150),
    "pruned": (style.GREY, "x", 60),
    "paused": (style.GREY, "x-open", 60),
    "running": (style.GREEN, "diamond-open", 30),
    "interrupted": (style.GREEN, "diamond-wide-open", 30),
    "failed": (style.PURPLE, "triangle-up", 20),
}
STAR = {"color": style.VERMILION, "symbol": "star", "size": 13}  # the baseline


def marker(state: State) -> dict[str, Any]:
    colour, symbol, _ = STATES[state]
    return {"color": colour, "symbol": symbol, "size": 8}


def loss_against_parameters(view: StudyView) -> go.Figure:
    """Lowest value by network size; a line joins the trials of the Pareto front."""
    figure = go.Figure()
    sized = [t for t in view.trials if t.parameters and values.lowest(t) is not None]
    front = pareto_front(view)
    notable = {trial.number for trial in (*front, *view.leaderboard[:TOP])}
    for state, (_, _, most) in STATES.items():
        trials = [trial for trial in sized if trial.state == state and not trial.is_baseline]
        shown = [trial for trial in trials if trial.number in notable]
        rest = [trial for trial in trials if trial.number not in notable]
        shown += values.thinned(rest, most)
        _add_sizes(figure, view, shown, values.with_count(state, shown, trials), marker(state))
    _add_sizes(figure, view, [trial for trial in sized if trial.is_baseline], "baseline", STAR)
    if front:
        x, y = [trial.parameters for trial in front], [values.lowest(trial) for trial in front]
        line = {"color": style.BLUE, "width": 1, "shape": "hv"}
        style.add_line(figure, x, y, "Pareto front", line)
        figure.update_layout(meta={"caption": _front_in_words(view, front)})
    remark = f"each trial's lowest {view.spec.value.word}, one run each"
    style.apply_style(figure, values.subtitle(view, remark))
    figure.update_xaxes(title_text="parameters (weights and biases)", type="log")
    figure.update_yaxes(title_text=values.axis(view), type="log", range=values.value_range(view))
    if not figure.data:
        style.note_absence(figure, "no epoch has ended yet")
    return figure


def _add_sizes(
    figure: go.Figure,
    view: StudyView,
    trials: Sequence[TrialView],
    name: str,
    look: Mapping[str, Any],
) -> None:
    if trials:
        x, y = [trial.parameters for trial in trials], [values.lowest(trial) for trial in trials]
        configs = ["" if trial.config is None else short_config(trial.config) for trial in trials]
        texts = [
            f"#{trial.number}: {values.in_figure(config)}"
            for trial, config in zip(trials, configs, strict=True)
        ]
        hover = f"%{{text}}<br>%{{x:,}} parameters, {view.spec.value.word} %{{y}}"
        style.add_markers(figure, x, y, name, look, hover, text=texts)


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
    """Lowest value of any complete trial, by trials finished and by wall time."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    finished = [t for t in view.in_state("complete", "pruned") if t.finished is not None]
    ended = sorted(finished, key=lambda trial: (trial.finished, trial.number))
    start = min((trial.started for trial in view.trials if trial.started), default=datetime.max)
    seconds = [(trial.finished - start).total_seconds() for trial in ended if trial.finished]
    unit, unit_seconds = values.time_unit(max(seconds, default=0))
    times = [round(second / unit_seconds, 2) for second in seconds]
    for column, x in ((1, list(range(1, len(ended) + 1))), (2, times)):
        _add_history(figure, view, x, ended, {"row": 1, "col": column, "showlegend": column == 1})
    style.apply_style(figure, values.subtitle(view, "complete ones, one run each"))
    figure.update_yaxes(type="log")
    figure.update_yaxes(title_text=values.axis(view), col=1)
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text="trials finished", col=1)
    figure.update_xaxes(title_text=f"{unit}, pauses included", col=2)
    if not figure.data:
        style.note_absence(figure, "no trial has finished yet")
    return figure


def _add_history(
    figure: go.Figure,
    view: StudyView,
    x: Sequence[float],
    ended: Sequence[TrialView],
    place: Mapping[str, Any],
) -> None:
    """`x`: of each trial of `ended`."""
    complete = [
        (where, loss, trial.number)
        for where, trial in zip(x, ended, strict=True)
        if trial.state == "complete" and (loss := values.lowest(trial)) is not None
    ]
    if not complete:
        return
    shown = values.thinned(complete, STATES["complete"][2])
    name = values.with_count("complete", shown, complete)
    word = view.spec.value.word
    small, hover = {"color": style.GREY, "size": 5}, f"#%{{customdata}}: {word} %{{y}}"
    xs, ys, numbers = ([entry[i] for entry in shown] for i in range(3))
    style.add_markers(figure, xs, ys, name, small, hover, customdata=numbers, **place)
    end, steps = max(x), complete[:1]
    for entry in complete:
        if entry[1] < steps[-1][1]:
            steps.append(entry)
    xs, ys = [*(step[0] for step in steps), end], [*(s[1] for s in steps), steps[-1][1]]
    line = {"color": style.BLUE, "width": 2, "shape": "hv"}
    style.add_line(figure, xs, ys, "best so far", line, f"best so far: {word} %{{y}}", **place)
    baseline = None if view.baseline is None else values.lowest(view.baseline)
    if baseline is not None:
        line = {"color": style.VERMILION, "width": 1, "dash": "dash"}
        hover = f"baseline: {word} %{{y}}"
        style.add_line(figure, [0, end], [baseline] * 2, "baseline", line, hover, **place)
