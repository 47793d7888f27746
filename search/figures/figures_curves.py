"""Learning curves of a study's trials, all in one figure of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from search.figures.figure_data import (
    LOSS,
    loss_range,
    lowest,
    points,
    short,
    subtitle,
    thinned,
    with_count,
)
from search.figures.style import GREEN, GREY, dress, line_look, note_absence
from search.store.views import StudyView, TrialView

TOP = 10  # complete trials that are told apart
MOST_CURVES = 60  # of each other kind
AFTER_CURVES = 1001  # in the legend, where a trace's rank is 1000 unless it says otherwise


def learning_curves(view: StudyView) -> go.Figure:
    """Validation loss by epoch: the ten best in colour, their best epochs marked, the rest in grey.

    The loss axis is logarithmic and ends at the loss of guessing.
    """
    figure = go.Figure()
    top = [trial for trial in view.leaderboard if not trial.is_baseline][:TOP]
    told_apart = {trial.number for trial in top}
    others = [
        trial
        for trial in view.trials
        if trial.number not in told_apart and not trial.is_baseline and points(trial)
    ]
    for state, name, colour, dash in (
        ("failed", "failed", GREY, "dot"),
        ("pruned", "pruned", GREY, "solid"),
        ("complete", "other complete", GREY, "solid"),
        ("interrupted", "interrupted", GREEN, "dashdot"),
        ("running", "running", GREEN, "dot"),
    ):
        _add_group(figure, [t for t in others if t.state == state], name, colour, dash)
    if view.baseline is not None and points(view.baseline):
        _add_curve(figure, view.baseline, "baseline", {"color": GREY, "dash": "dash"})
    for rank, trial in enumerate(top):
        _add_curve(figure, trial, f"#{trial.number}", line_look(rank))
    _mark_best_epochs(figure, top)
    remark = f"coloured: the best {len(top)} with their loss; one run each"
    dress(figure, "Learning curves", subtitle(view, remark))
    figure.update_xaxes(title_text="epoch", range=[0, view.spec.epochs + 0.3])
    figure.update_yaxes(title_text=LOSS, type="log", range=loss_range(view))
    if not figure.data:
        note_absence(figure, "no epoch has ended yet")
    return figure


def _add_group(
    figure: go.Figure, trials: Sequence[TrialView], name: str, colour: str, dash: str
) -> None:
    """Many curves as one trace with gaps, which is small and quick to draw."""
    if not trials:
        return
    shown = thinned(trials, MOST_CURVES)
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for trial in shown:
        curve = points(trial)
        x += [*(point.epoch for point in curve), None]
        y += [*(point.loss for point in curve), None]
        numbers += [trial.number] * len(curve) + [None]
    figure.add_scatter(
        x=x,
        y=y,
        customdata=numbers,
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 1},
        marker={"size": 3},
        opacity=0.6,
        legendrank=AFTER_CURVES,
        name=with_count(name, shown, trials),
        hovertemplate="#%{customdata}, epoch %{x}: loss %{y}<extra></extra>",
    )


def _add_curve(figure: go.Figure, trial: TrialView, name: str, look: dict[str, Any]) -> None:
    curve, loss = points(trial), lowest(trial)
    figure.add_scatter(
        x=[point.epoch for point in curve],
        y=[point.loss for point in curve],
        customdata=[point.error for point in curve],
        mode="lines",
        line={**look, "width": 2},
        name=name if loss is None else f"{name}: {loss}",
        hovertemplate=f"#{trial.number}, epoch %{{x}}: loss %{{y}}, error %{{customdata:.2%}}"
        "<extra></extra>",
    )


def _mark_best_epochs(figure: go.Figure, top: Sequence[TrialView]) -> None:
    marks = [
        (row.epoch, short(row.validation_loss), line_look(rank)["color"])
        for rank, trial in enumerate(top)
        if (row := trial.best) is not None
    ]
    if marks:
        epochs, losses, colours = zip(*marks, strict=True)
        figure.add_scatter(
            x=epochs,
            y=losses,
            mode="markers",
            marker={"size": 9, "symbol": "circle-open", "line": {"width": 2}, "color": colours},
            hoverinfo="skip",
            name="best epoch",
        )
