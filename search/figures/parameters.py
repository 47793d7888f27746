"""What a search found about its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.distributions import CategoricalDistribution
from plotly.subplots import make_subplots

from search.analysis import importances as fanova
from search.figures import style
from search.store.database import optuna_warnings_only
from search.store.views import StudyView, TrialView

COLUMNS = 3
SPREAD = 0.3  # maximum distance of a choice's points from its place; choices are 1 apart
GOLDEN = 0.618033988749895  # its multiples, modulo 1, are evenly spread


def importances_bars(view: StudyView) -> go.Figure:
    """Each parameter's share of the losses' variance, highest on top, and how certain it is."""
    found = fanova.importances(view)
    if found is None:
        few = (
            f"Importances need {fanova.FEWEST} trials that have trained equally long, without the "
            "baseline, and losses that differ."
        )
        return go.Figure(layout={"height": 260, "meta": {"caption": few}})
    deviations = [round(found.spread[name], 3) for name in found.shares]
    figure = go.Figure()
    figure.add_bar(
        y=[style.in_figure(name) for name in found.shares],
        x=[round(share, 3) for share in found.shares.values()],
        error_x={"type": "data", "array": deviations, "thickness": 1.5},
        orientation="h",
        marker={"color": style.BLUE},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    remark = f"fANOVA of {found.trials} {fanova.when(found.epoch)}"
    style.apply_style(figure, style.subtitle(view, f"{remark}; bar: one bootstrap deviation"))
    caption = fanova.importances_in_words(found)
    figure.update_layout(height=190 + 26 * len(found.shares), meta={"caption": caption})
    figure.update_xaxes(title_text="share of the losses' variance", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def contour(view: StudyView) -> go.Figure:
    """Lowest value by the two parameters that matter most, all trials after the same epoch."""
    epoch, trials = fanova.comparable_trials(view)
    varied = (
        name
        for name in fanova.shares_of(trials)
        if len({trial.params[name] for trial in trials}) > 1
    )
    names, figure = list(islice(varied, 2)), go.Figure()
    if len(names) == 2:
        with optuna_warnings_only():
            study = optuna.create_study()
            study.add_trials(trials)
            figure = optuna.visualization.plot_contour(study, params=names)
        bar = {"title": {"text": view.spec.value.word}}
        figure.update_layout(title=None).update_traces(selector={"type": "contour"}, colorbar=bar)
        figure.data[0].z = [[style.short(value) for value in row] for row in figure.data[0].z]
        for letter in "xy":
            _number_choices(figure, letter)
    style.apply_style(figure, style.subtitle(view, f"{len(trials)} trials {fanova.when(epoch)}"))
    return figure


def _number_choices(figure: go.Figure, letter: str) -> None:
    """Put choices at 0, 1, 2, as in our other figures and their files; names are escaped."""
    axis, (surface, *points) = figure.layout[f"{letter}axis"], figure.data
    axis.title.text = style.in_figure(axis.title.text.replace("_", " "))
    if axis.type == "category":
        names = list(surface[letter])
        for trace in (surface, *points):
            trace[letter] = [names.index(name) for name in trace[letter] or ()]
        axis.update(type="linear", tickvals=list(range(len(names))))
        axis.ticktext = list(map(style.in_figure, names))


def slices(view: StudyView) -> go.Figure:
    """Lowest value of each trial by the value of each searched parameter, choices side by side."""
    axes = list(fanova.search_axes(view.spec).items())
    rows, columns = math.ceil(len(axes) / COLUMNS), min(COLUMNS, len(axes))
    panels: list[Any] = [{}] * len(axes) + [None] * (rows * columns - len(axes))
    grid = [panels[columns * row : columns * (row + 1)] for row in range(rows)]
    gaps = {"vertical_spacing": 0.4 / rows}
    figure = make_subplots(rows, columns, shared_yaxes=True, specs=grid, **gaps)
    for index, (name, axis) in enumerate(axes):
        place = {"row": index // COLUMNS + 1, "col": index % COLUMNS + 1}
        choices = axis.choices if isinstance(axis, CategoricalDistribution) else ()
        having = [trial for trial in view.trials if name in trial.params]
        for kind, trials, look in style.kinds(having):
            more: dict[str, Any] = {"legendgroup": kind, "showlegend": index == 0, **place}
            across = partial(_across, name, choices)
            style.add_trials(figure, view, trials, across, kind, {**look, "size": 6}, **more)
        figure.update_xaxes(title_text=style.in_figure(name.replace("_", " ")), **place)
        if choices:
            labels = [style.in_figure(str(choice)) for choice in choices]
            figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, **place)
        elif getattr(axis, "log", False):
            figure.update_xaxes(type="log", dtick=1, exponentformat="power", **place)
    remark = "one run each; bluer: trained longer"
    style.apply_style(figure, style.subtitle(view, remark))
    figure.update_layout(height=150 + 250 * rows)
    figure.update_yaxes(style.value_axis(view) | {"title_text": None})
    return figure.update_yaxes(title_text=view.spec.value.label, col=1)


def _across(parameter: str, choices: Sequence[Any], trial: TrialView) -> float | None:
    """The trial's position on the panel's axis; for a choice, spread evenly around its place."""
    value = trial.params[parameter]
    if not choices:
        return style.short(value)
    aside = SPREAD * (2 * (trial.number * GOLDEN % 1) - 1)
    return round(choices.index(value) + aside, 3) if value in choices else None
