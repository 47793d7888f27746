"""Figures of a study as it stands. Pure functions of a view; none needs a finished trial.

Each stays within tens of kilobytes however long the study: optuna-dashboard keeps a figure in
database rows of 2 kB and sends them all to the browser every few seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.analysis.describe import short_config
from search.analysis.times import trial_seconds
from search.analysis.wording import duration, percent
from search.figures.figure_data import (
    LOSS,
    loss_range,
    lowest,
    short,
    subtitle,
    thinned,
    time_unit,
    with_count,
)
from search.figures.style import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    dress,
    in_figure,
    note_absence,
)
from search.store.views import State, StudyView, TrialView

TOP = 10  # always among the points drawn, like the Pareto front
MOST_POINTS: Mapping[State, int] = {
    "complete": 150,
    "pruned": 60,
    "running": 30,
    "interrupted": 30,
    "failed": 20,
}
# Told apart by their markers as well.
LOOKS: Mapping[State, tuple[str, str]] = {
    "complete": (BLUE, "circle"),
    "pruned": (GREY, "x"),
    "running": (GREEN, "diamond-open"),
    "interrupted": (GREEN, "diamond-wide-open"),
    "failed": (PURPLE, "triangle-up"),
}


def loss_against_parameters(view: StudyView) -> go.Figure:
    """Lowest validation loss by network size; a line joins the trials of the Pareto front."""
    figure = go.Figure()
    sized = [trial for trial in view.trials if trial.parameters and lowest(trial) is not None]
    front = pareto_front(view)
    notable = {trial.number for trial in (*front, *view.leaderboard[:TOP])}
    for state, (colour, symbol) in LOOKS.items():
        trials = [trial for trial in sized if trial.state == state and not trial.is_baseline]
        if trials:
            shown = [trial for trial in trials if trial.number in notable]
            rest = [trial for trial in trials if trial.number not in notable]
            shown += thinned(rest, MOST_POINTS[state])
            _add_points(figure, shown, with_count(state, shown, trials), colour, symbol)
    baseline = [trial for trial in sized if trial.is_baseline]
    if baseline:
        _add_points(figure, baseline, "baseline", VERMILION, "star")
    if front:
        figure.add_scatter(
            x=[trial.parameters for trial in front],
            y=[lowest(trial) for trial in front],
            mode="lines",
            line={"color": BLUE, "width": 1, "shape": "hv"},
            hoverinfo="skip",
            name="Pareto front",
        )
    remark = "each trial's lowest loss, one run each"
    dress(figure, "Loss against size", subtitle(view, remark))
    figure.update_xaxes(title_text="parameters (weights and biases)", type="log")
    figure.update_yaxes(title_text=LOSS, type="log", range=loss_range(view))
    if not figure.data:
        note_absence(figure, "no epoch has ended yet")
    return figure


def pareto_front(view: StudyView) -> list[TrialView]:
    """Complete trials that no other equals in both parameters and loss and beats in one.

    Smallest network first.
    """
    front: list[TrialView] = []
    least = math.inf
    sized = [
        (trial.parameters, best.validation_loss, trial)
        for trial in view.leaderboard
        if trial.parameters and (best := trial.best) is not None
    ]
    for _, loss, trial in sorted(sized, key=lambda entry: entry[:2]):
        if loss < least:
            least = loss
            front.append(trial)
    return front


def _add_points(
    figure: go.Figure, trials: Sequence[TrialView], name: str, colour: str, symbol: str
) -> None:
    figure.add_scatter(
        x=[trial.parameters for trial in trials],
        y=[lowest(trial) for trial in trials],
        text=[_hover(trial) for trial in trials],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 13 if symbol == "star" else 8},
        name=name,
        hovertemplate="%{text}<br>%{x:,} parameters, loss %{y}<extra></extra>",
    )


def _hover(trial: TrialView) -> str:
    config = "" if trial.config is None else in_figure(short_config(trial.config))
    return f"#{trial.number}: {config}"


def best_so_far(view: StudyView) -> go.Figure:
    """Lowest validation loss of any complete trial, by trials finished and by wall time."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    ended = sorted(
        (
            (trial.finished, trial)
            for trial in view.in_state("complete", "pruned")
            if trial.finished is not None
        ),
        key=lambda pair: (pair[0], pair[1].number),
    )
    start = min((trial.started for trial in view.trials if trial.started), default=None)
    unit = "minutes"
    if start is not None and ended:
        unit, seconds = time_unit((ended[-1][0] - start).total_seconds())
        times = [round((when - start).total_seconds() / seconds, 2) for when, _ in ended]
        _add_history(figure, view, times, [trial for _, trial in ended])
    dress(figure, "Best so far", subtitle(view, "complete ones, one run each"))
    figure.update_yaxes(type="log")
    figure.update_yaxes(title_text=LOSS, col=1)
    counted = "trials finished" if view.left_out is None else "trials begun"
    figure.update_xaxes(title_text=counted, rangemode="tozero", col=1)
    figure.update_xaxes(title_text=f"{unit}, pauses included", rangemode="tozero", col=2)
    if not figure.data:
        note_absence(figure, "no trial has finished yet")
    return figure


def _add_history(
    figure: go.Figure,
    view: StudyView,
    times: Sequence[float],
    ended: Sequence[TrialView],
) -> None:
    """`times`: when each of `ended` did, earliest first."""
    counts = list(range(1, len(ended) + 1))
    if view.left_out is not None:  # how many had ended by then is not known of a few of them
        counts = [trial.number + 1 for trial in ended]
    values = [  # trials finished, time, lowest loss, number
        (count, time, loss, trial.number)
        for count, time, trial in zip(counts, times, ended, strict=True)
        if trial.state == "complete" and (loss := lowest(trial)) is not None
    ]
    if not values:
        return
    steps = values[:1]
    for value in values:
        if value[2] < steps[-1][2]:
            steps.append(value)
    end = (max(counts), times[-1], steps[-1][2])
    baseline = None if view.baseline is None else lowest(view.baseline)
    shown = thinned(values, MOST_POINTS["complete"])
    for column in (0, 1):
        place = {"row": 1, "col": column + 1, "showlegend": column == 0}
        figure.add_scatter(
            x=[value[column] for value in shown],
            y=[value[2] for value in shown],
            customdata=[value[3] for value in shown],
            mode="markers",
            marker={"color": GREY, "size": 5},
            name=with_count("complete", shown, values),
            hovertemplate="#%{customdata}: loss %{y}<extra></extra>",
            **place,
        )
        figure.add_scatter(
            x=[step[column] for step in (*steps, end)],
            y=[step[2] for step in (*steps, end)],
            mode="lines",
            line={"color": BLUE, "width": 2, "shape": "hv"},
            name="best so far",
            hovertemplate="best so far: loss %{y}<extra></extra>",
            **place,
        )
        if baseline is not None:
            figure.add_scatter(
                x=[0, end[column]],
                y=[baseline, baseline],
                mode="lines",
                line={"color": VERMILION, "width": 1, "dash": "dash"},
                name="baseline",
                hovertemplate="baseline: loss %{y}<extra></extra>",
                **place,
            )


def time_by_outcome(view: StudyView) -> go.Figure:
    """Where the time went, added up over the trials of each state."""
    figure = go.Figure()
    groups = [(state, view.count(state)) for state in LOOKS]
    spent = [(state, count, trial_seconds(view, state)) for state, count in groups if count]
    total = sum(seconds for _, _, seconds in spent)
    unit, unit_seconds = time_unit(total)
    if total > 0:
        figure.add_bar(
            y=[f"{state} ({count})" for state, count, _ in spent],
            x=[short(seconds / unit_seconds) for _, _, seconds in spent],
            text=[f"{duration(seconds)}, {percent(seconds / total, 0)}" for _, _, seconds in spent],
            orientation="h",
            marker={"color": [LOOKS[state][0] for state, _, _ in spent]},
            hoverinfo="skip",
        )
    remark = f"{duration(total)} added up over trials"
    dress(figure, "Where the time went", subtitle(view, remark))
    figure.update_xaxes(
        title_text=f"{unit} of training and validation, added up over trials", rangemode="tozero"
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    if not figure.data:
        note_absence(figure, "no epoch has ended yet")
    return figure
