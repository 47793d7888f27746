"""Figures of what a search found out about its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from search.analysis.comparison import guessing_loss
from search.analysis.importances import Importances, SearchAxis, search_axes, when_in_words
from search.analysis.wording import percent
from search.figures.figure_data import lowest, subtitle, thinned, with_count
from search.figures.style import BLUE, GREY, VERMILION, dress, in_figure, note_absence
from search.store.views import StudyView, TrialView

BEST_SHARE = 0.2  # of the complete trials that are drawn in colour
MOST_LINES = 150  # of each kind
LOSS_TICKS = 3


def importances_bars(view: StudyView, found: Importances) -> go.Figure:
    """Each parameter's share of the losses' variance, highest on top, and how sure it is."""
    figure = go.Figure(
        go.Bar(
            y=[in_figure(name) for name in found.shares],
            x=[round(share, 3) for share in found.shares.values()],
            error_x={
                "type": "data",
                "array": [round(found.spread[name], 3) for name in found.shares],
                "thickness": 1.5,
            },
            orientation="h",
            marker={"color": BLUE},
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    when = when_in_words(found.epoch)
    remark = f"fANOVA of {found.trials} {when}; bar: one bootstrap deviation"
    dress(figure, "What mattered", subtitle(view, remark))
    figure.update_layout(height=190 + 26 * len(found.shares))
    figure.update_xaxes(title_text="share of the losses' variance", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def parallel_coordinates(view: StudyView) -> go.Figure:
    """A line for each trial through its parameters' values, to its lowest loss on the right.

    Of lines, not of plotly's own kind, which compiles code in the browser: the page forbids it.
    """
    figure = go.Figure()
    axes = search_axes(view.spec)
    trials = {
        state: [
            trial for trial in view.in_state(state)
            if not trial.is_baseline and lowest(trial) and all(a.name in trial.params for a in axes)
        ]
        for state in ("complete", "pruned")
    }  # fmt: skip
    if axes and any(trials.values()):
        _add_trials(figure, view, axes, trials["complete"], trials["pruned"])
    dress(
        figure,
        "Parallel coordinates",
        subtitle(view, f"coloured: the best {percent(BEST_SHARE, 0)}; one run each"),
    )
    names = [*(axis.name for axis in axes), "validation_loss"]
    figure.update_xaxes(
        tickvals=list(range(len(names))),
        ticktext=[in_figure(name).replace("_", "<br>") for name in names],
        range=[-0.3, len(names) - 0.5],
        tickangle=0,
        tickfont={"size": 10},
    )
    figure.update_yaxes(range=[-0.06, 1.06], showticklabels=False, showgrid=False)
    if not figure.data:
        note_absence(figure, "no trial with searched parameters has finished yet")
    return figure


def _add_trials(
    figure: go.Figure,
    view: StudyView,
    axes: Sequence[SearchAxis],
    complete: Sequence[TrialView],
    pruned: Sequence[TrialView],
) -> None:
    losses = [loss for trial in (*complete, *pruned) if (loss := lowest(trial))]
    guessing = guessing_loss(view)
    high = max(min(max(losses), guessing), min(losses) * 1.01)
    loss_axis = SearchAxis(name="loss", low=min(losses), high=high, log=True)
    ranked = sorted(complete, key=lambda trial: lowest(trial) or math.inf)
    best = ranked[: max(1, round(BEST_SHARE * len(ranked)))] if ranked else []
    for name, shown, look in (
        ("pruned", pruned, {"color": GREY, "dash": "dot", "width": 1}),
        ("complete", ranked[len(best) :], {"color": BLUE, "width": 1}),
        ("best", best, {"color": VERMILION, "width": 2}),
    ):
        if shown:
            _add_lines(figure, name, shown, [*axes, loss_axis], look)
    for place, axis in enumerate([*axes, loss_axis]):
        for height, label in axis.ticks():
            figure.add_annotation(
                x=place, y=height, text=in_figure(label), showarrow=False, xanchor="left",
                xshift=4, font={"size": 10},
            )  # fmt: skip


def _add_lines(
    figure: go.Figure,
    name: str,
    trials: Sequence[TrialView],
    axes: Sequence[SearchAxis],
    look: dict[str, Any],
) -> None:
    """Many trials as one trace with gaps; pruned and complete ones lie below the best."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    shown = thinned(trials, MOST_LINES)
    for trial in shown:
        values = [*(trial.params[axis.name] for axis in axes[:-1]), lowest(trial)]
        x += [*range(len(axes)), None]
        y += [
            *(round(axis.place(v), 3) for axis, v in zip(axes, values, strict=True)),
            None,
        ]
        text += [
            *(
                f"#{trial.number}: {in_figure(axis.name)} {in_figure(_value(v))}"
                for axis, v in zip(axes, values, strict=True)
            ),
            None,
        ]
    figure.add_scatter(
        x=x,
        y=y,
        text=text,
        mode="lines",
        line=look,
        opacity=1.0 if name == "best" else 0.5,
        name=with_count(name, shown, trials),
        hovertemplate="%{text}<extra></extra>",
    )


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
