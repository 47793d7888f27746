"""What a search found out about its parameters.

Trials that were stopped early are drawn, but apart from the complete ones: their losses are of
fewer epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution
from plotly.subplots import make_subplots

from search.analysis import importances as fanova
from search.analysis.importances import search_axes
from search.figures import style, values
from search.figures.study import STAR, marker
from search.store.views import StudyView, TrialView

MOST_POINTS = 60  # of each kind in a panel
COLUMNS = 3
SPREAD = 0.3  # points of one choice lie within this of its place, choices being 1 apart
GOLDEN = 0.618033988749895  # multiples of it, modulo 1, never crowd


def importances_bars(view: StudyView) -> go.Figure:
    """Each parameter's share of the losses' variance, highest on top, and how sure it is."""
    found = fanova.importances(view)
    if found is None:
        figure = style.missing("too few trials have trained equally long")
        few = (
            f"Importances take {fanova.FEWEST} trials that have trained equally long, without the "
            f"baseline, and losses that differ; {len(fanova.usable(view))} have trained an epoch."
        )
        return figure.update_layout(height=260, meta={"caption": few})
    deviations = [round(found.spread[name], 3) for name in found.shares]
    figure = go.Figure()
    figure.add_bar(
        y=[values.in_figure(name) for name in found.shares],
        x=[round(share, 3) for share in found.shares.values()],
        error_x={"type": "data", "array": deviations, "thickness": 1.5},
        orientation="h",
        marker={"color": style.BLUE},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    remark = f"fANOVA of {found.trials} after epoch {found.epoch}"
    style.apply_style(figure, values.subtitle(view, f"{remark}; bar: one bootstrap deviation"))
    caption = fanova.importances_in_words(found)
    figure.update_layout(height=190 + 26 * len(found.shares), meta={"caption": caption})
    figure.update_xaxes(title_text="share of the losses' variance", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def slices(view: StudyView) -> go.Figure:
    """Lowest value of each trial by the value of each searched parameter.

    A choice's values stand side by side, with a bar at the median of its complete trials.
    """
    axes = list(search_axes(view.spec).items())
    rows, columns = math.ceil(len(axes) / COLUMNS), min(COLUMNS, len(axes))
    panels: list[Any] = [{}] * len(axes) + [None] * (rows * columns - len(axes))
    grid = [panels[columns * row : columns * (row + 1)] for row in range(rows)]
    figure = make_subplots(rows, columns, shared_yaxes=True, specs=grid)
    for index, (name, axis) in enumerate(axes):
        place = {"row": index // COLUMNS + 1, "col": index % COLUMNS + 1}
        _add_panel(figure, view, name, axis, {**place, "showlegend": index == 0})
        figure.update_xaxes(title_text=values.in_figure(name.replace("_", " ")), **place)
        if choices := _choices(axis):
            labels = [values.in_figure(str(choice)) for choice in choices]
            figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, **place)
        elif getattr(axis, "log", False):
            figure.update_xaxes(type="log", **place)
    remark = "one run each, which differ in all parameters at once"
    style.apply_style(figure, values.subtitle(view, remark))
    figure.update_layout(height=150 + 230 * rows)
    figure.update_yaxes(type="log", range=values.value_range(view))
    figure.update_yaxes(title_text=view.spec.value.label, col=1)
    if not figure.data:
        style.note_absence(figure, "no epoch has ended yet")
    return figure


def _choices(axis: BaseDistribution) -> Sequence[Any]:
    """Of a choice, in the study's order; none of a range."""
    return axis.choices if isinstance(axis, CategoricalDistribution) else ()


def _add_panel(
    figure: go.Figure,
    view: StudyView,
    parameter: str,
    axis: BaseDistribution,
    place: dict[str, Any],
) -> None:
    having = [t for t in view.trials if parameter in t.params and values.lowest(t)]
    choices = _choices(axis)
    baseline = [trial for trial in having if trial.is_baseline]
    pruned, complete = (
        [trial for trial in having if trial.state == state and not trial.is_baseline]
        for state in ("pruned", "complete")
    )
    for name, trials, look in (
        ("pruned", pruned, marker("pruned")),
        ("complete", complete, marker("complete")),
        ("baseline", baseline, STAR),
    ):
        shown = values.thinned(trials, MOST_POINTS)
        if shown:
            x, y = [_across(t, parameter, choices) for t in shown], list(map(values.lowest, shown))
            numbers, hover = [trial.number for trial in shown], "#%{customdata}: %{y}"
            more = {"customdata": numbers, "legendgroup": name, **place}
            label = values.with_count(name, shown, trials)
            style.add_markers(figure, x, y, label, {**look, "size": 6}, hover, **more)
    medians = [
        (index, values.short(median(losses)))
        for index, label in enumerate(choices)
        if (losses := [values.lowest(t) or 0 for t in complete if t.params[parameter] == label])
    ]
    if medians:
        x = values.joined([index - 0.4, index + 0.4] for index, _ in medians)
        y = values.joined([loss, loss] for _, loss in medians)
        line, hover = {"color": style.BLUE, "width": 3}, "median of complete ones: %{y}"
        style.add_line(figure, x, y, "median", line, hover, **{**place, "showlegend": False})


def _across(trial: TrialView, parameter: str, choices: Sequence[Any]) -> float | None:
    """Where the trial stands on the panel's axis; of a choice evenly beside its place."""
    value = trial.params[parameter]
    if not choices:
        return values.short(value)
    aside = SPREAD * (2 * (trial.number * GOLDEN % 1) - 1)
    return round(choices.index(value) + aside, 3) if value in choices else None
