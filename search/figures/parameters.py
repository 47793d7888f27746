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
from plotly.subplots import make_subplots

from search.analysis import importances as fanova
from search.analysis.comparison import guessing_loss
from search.analysis.importances import SearchAxis, search_axes
from search.analysis.wording import percent
from search.figures import style, values
from search.figures.study import STAR, marker
from search.store.views import State, StudyView, TrialView

BEST_SHARE = 0.2  # of the complete trials that are drawn in colour
MOST_LINES = 150  # of each kind
MOST_POINTS = 60  # of each kind in a panel
COLUMNS = 3
LOSS = "validation_loss"  # the last axis
SPREAD = 0.3  # points of one choice lie within this of its place, choices being 1 apart
GOLDEN = 0.618033988749895  # multiples of it, modulo 1, never crowd


def importances_bars(view: StudyView) -> go.Figure:
    """Each parameter's share of the losses' variance, highest on top, and how sure it is."""
    found = fanova.importances(view)
    if found is None:
        figure = style.missing("too few trials have trained equally long")
        few = (
            f"Importances take {fanova.FEWEST} trials that have trained equally long, without the "
            f"baseline, and losses that differ; {len(fanova.usable(view))} have reported a loss."
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
    remark = f"fANOVA of {found.trials} {fanova.when_in_words(found.epoch)}"
    style.apply_style(figure, values.subtitle(view, f"{remark}; bar: one bootstrap deviation"))
    caption = fanova.importances_in_words(found)
    figure.update_layout(height=190 + 26 * len(found.shares), meta={"caption": caption})
    figure.update_xaxes(title_text="share of the losses' variance", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def _finished(view: StudyView, state: State, names: Sequence[str]) -> list[TrialView]:
    """Those with a loss and all these parameters; without the baseline, which nobody drew."""
    trials = [trial for trial in view.in_state(state) if set(names) <= trial.params.keys()]
    return [trial for trial in trials if not trial.is_baseline and values.lowest(trial)]


def slices(view: StudyView) -> go.Figure:
    """Lowest validation loss of each trial by the value of each searched parameter.

    A choice's values stand side by side, with a bar at the median of its complete trials.
    """
    axes = search_axes(view.spec)
    rows, columns = math.ceil(len(axes) / COLUMNS), min(COLUMNS, len(axes))
    panels: list[Any] = [{}] * len(axes) + [None] * (rows * columns - len(axes))
    grid = [panels[columns * row : columns * (row + 1)] for row in range(rows)]
    figure = make_subplots(rows, columns, shared_yaxes=True, specs=grid)
    for index, axis in enumerate(axes):
        place = {"row": index // COLUMNS + 1, "col": index % COLUMNS + 1}
        _add_panel(figure, view, axis, {**place, "showlegend": index == 0})
        figure.update_xaxes(title_text=values.in_figure(axis.name.replace("_", " ")), **place)
        if axis.labels:
            labels = [values.in_figure(str(label)) for label in axis.labels]
            figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, **place)
        elif axis.log:
            figure.update_xaxes(type="log", **place)
    remark = "one run each, which differ in all parameters at once"
    style.apply_style(figure, values.subtitle(view, remark))
    figure.update_layout(height=150 + 230 * rows)
    figure.update_yaxes(type="log", range=values.loss_range(view))
    figure.update_yaxes(title_text="validation loss", col=1)
    if not figure.data:
        style.note_absence(figure, "no epoch has ended yet")
    return figure


def _add_panel(figure: go.Figure, view: StudyView, axis: SearchAxis, place: dict[str, Any]) -> None:
    pruned, complete = (_finished(view, state, [axis.name]) for state in ("pruned", "complete"))
    baseline = [trial for trial in view.trials if trial.is_baseline and axis.name in trial.params]
    for name, trials, look in (
        ("pruned", pruned, marker("pruned")),
        ("complete", complete, marker("complete")),
        ("baseline", baseline, STAR),
    ):
        shown = values.thinned(trials, MOST_POINTS)
        if shown:
            x, y = [_across(axis, trial) for trial in shown], [values.lowest(t) for t in shown]
            numbers, hover = [trial.number for trial in shown], "#%{customdata}: loss %{y}"
            more = {"customdata": numbers, "legendgroup": name, **place}
            label = values.with_count(name, shown, trials)
            style.add_markers(figure, x, y, label, {**look, "size": 6}, hover, **more)
    medians = [
        (index, values.short(median(losses)))
        for index, label in enumerate(axis.labels)
        if (losses := [values.lowest(t) or 0 for t in complete if t.params[axis.name] == label])
    ]
    if medians:
        x = values.joined([index - 0.4, index + 0.4] for index, _ in medians)
        y = values.joined([loss, loss] for _, loss in medians)
        line, hover = {"color": style.BLUE, "width": 3}, "median of complete ones: %{y}"
        style.add_line(figure, x, y, "median", line, hover, **{**place, "showlegend": False})


def _across(axis: SearchAxis, trial: TrialView) -> float | None:
    """Where the trial stands on the panel's axis; of a choice evenly beside its place."""
    value = trial.params[axis.name]
    if not axis.labels:
        return values.short(value)
    aside = SPREAD * (2 * (trial.number * GOLDEN % 1) - 1)
    return round(axis.labels.index(value) + aside, 3) if value in axis.labels else None


def parallel_coordinates(view: StudyView) -> go.Figure:
    """A line for each trial through its parameters' values, to its lowest loss on the right.

    Of lines, not of plotly's own kind, which compiles code in the browser: the page forbids it.
    """
    figure = go.Figure()
    axes = search_axes(view.spec)
    names = [axis.name for axis in axes]
    pruned, complete = (_finished(view, state, names) for state in ("pruned", "complete"))
    losses = [loss for trial in (*pruned, *complete) if (loss := values.lowest(trial))]
    if losses:
        high = max(min(max(losses), guessing_loss(view)), min(losses) * 1.01)
        axes.append(SearchAxis(name=LOSS, low=min(losses), high=high, log=True))
        _add_trials(figure, axes, pruned, complete)
    remark = f"coloured: the best {percent(BEST_SHARE, 0)}; one run each"
    style.apply_style(figure, values.subtitle(view, remark))
    figure.update_xaxes(
        tickvals=list(range(len(axes))),
        ticktext=[values.in_figure(axis.name).replace("_", "<br>") for axis in axes],
        range=[-0.3, len(axes) - 0.5],
        tickangle=0,
        tickfont={"size": 10},
    )
    figure.update_yaxes(range=[-0.06, 1.06], showticklabels=False, showgrid=False)
    if not figure.data:
        style.note_absence(figure, "no trial with searched parameters has finished yet")
    return figure


def _add_trials(
    figure: go.Figure,
    axes: Sequence[SearchAxis],
    pruned: Sequence[TrialView],
    complete: Sequence[TrialView],
) -> None:
    ranked = sorted(complete, key=lambda trial: values.lowest(trial) or math.inf)
    best = ranked[: max(1, round(BEST_SHARE * len(ranked)))]
    for name, trials, line, opacity in (
        ("pruned", pruned, {"color": style.GREY, "dash": "dot", "width": 1}, 0.5),
        ("complete", ranked[len(best) :], {"color": style.BLUE, "width": 1}, 0.5),
        ("best", best, {"color": style.VERMILION, "width": 2}, 1),
    ):
        if not trials:
            continue
        shown = values.thinned(trials, MOST_LINES)
        places: list[list[float]] = []
        texts: list[list[str]] = []
        for trial in shown:
            at = {**trial.params, LOSS: values.lowest(trial)}
            places.append([round(axis.place(at[axis.name]), 3) for axis in axes])
            texts.append([f"#{trial.number}: {a.name} {_written(at[a.name])}" for a in axes])
        x = values.joined(range(len(axes)) for _ in shown)
        more = {"text": values.joined(texts), "opacity": opacity}
        label = values.with_count(name, shown, trials)
        style.add_line(figure, x, values.joined(places), label, line, "%{text}", **more)
    for place, axis in enumerate(axes):
        for height, label in axis.ticks():
            figure.add_annotation(
                x=place, y=height, text=values.in_figure(label), showarrow=False, xanchor="left",
                xshift=4, font={"size": 10},
            )  # fmt: skip


def _written(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else values.in_figure(str(value))
