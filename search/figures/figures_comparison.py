"""Figures of a comparison: learning curves of its arms, and what each changed against the base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.analysis.comparison import (
    ArmRuns,
    Difference,
    against_base,
    guessing_loss,
    runs_by_arm,
)
from search.analysis.comparison_words import INTERVAL
from search.analysis.measures import MEASURES
from search.analysis.wording import fitted
from search.figures.figure_data import LOSS, loss_range, short, subtitle
from search.figures.style import BLUE, GREY, VERMILION, dress, in_figure, line_look, note_absence
from search.store.records import EpochRow
from search.store.views import StudyView

MOST_ARMS = 12  # whose curves can be told apart
MOST_REPEATS = 20  # curves of an arm beside its mean
MOST_NAME = 40  # characters
ROW_PX = 34  # an arm takes
INTERVAL_SHOWN = 2.5  # times as far as the points, an interval is shown; of few seeds it is huge


def arm_curves(view: StudyView) -> go.Figure:
    """Training and validation loss by epoch: each seed thin, the arm's mean thick.

    Of each seed the best epoch is marked. A mean ends with the seed that stopped first.
    """
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.09)
    arms = _told_apart(list(runs_by_arm(view).values()))
    for rank, runs in enumerate(arms):
        curves = [trial.curve for trial in runs.complete]
        for column, name in ((1, "train_loss"), (2, "validation_loss")):
            look, place = line_look(rank), {"row": 1, "col": column, "legendgroup": str(rank)}
            _add_seeds(figure, curves[:MOST_REPEATS], name, look, place)
            _add_mean(figure, runs, name, look, {**place, "showlegend": column == 2})
        _add_best_epochs(figure, runs, line_look(rank)["color"], rank)
    rest = len(view.spec.arms) - len(arms)
    remark = "thin: one seed, thick: their mean" + (f"; {rest} arms not drawn" if rest else "")
    dress(figure, "Learning curves of the arms", subtitle(view, remark))
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(type="log", range=_range(view, arms))
    figure.update_yaxes(title_text="training loss (nats)", col=1)
    figure.update_yaxes(title_text=LOSS, col=2)
    if not figure.data:
        note_absence(figure, "no arm has been trained to its end yet")
    return figure


def _told_apart(arms: Sequence[ArmRuns]) -> list[ArmRuns]:
    """Trained ones in their order: the base, and those with the lowest mean loss."""
    trained = [runs for runs in arms if runs.complete]
    best = sorted(trained[1:], key=lambda runs: mean(runs.values("validation_loss")))
    chosen = {runs.arm.name for runs in (*trained[:1], *best[: MOST_ARMS - 1])}
    return [runs for runs in trained if runs.arm.name in chosen]


def _range(view: StudyView, arms: Sequence[ArmRuns]) -> list[float]:
    """Of the validation losses, as in other figures, but down to the lowest training loss."""
    low, high = loss_range(view)
    losses = [
        row.train_loss for runs in arms for t in runs.complete for row in t.curve
        if row.train_loss > 0
    ]  # fmt: skip
    return [min([low, *(math.log10(0.95 * loss) for loss in losses)]), high]


def _add_seeds(
    figure: go.Figure,
    curves: Sequence[tuple[EpochRow, ...]],
    name: str,
    look: Mapping[str, str],
    place: Mapping[str, Any],
) -> None:
    """All of an arm in one trace with gaps."""
    x: list[int | None] = []
    y: list[float | None] = []
    for curve in curves:
        x += [*(row.epoch for row in curve), None]
        y += [*(short(getattr(row, name)) for row in curve), None]
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={**look, "width": 1},
        opacity=0.4,
        showlegend=False,
        hoverinfo="skip",
        **place,
    )


def _add_mean(
    figure: go.Figure,
    runs: ArmRuns,
    name: str,
    look: Mapping[str, str],
    place: Mapping[str, Any],
) -> None:
    shared = list(zip(*(trial.curve for trial in runs.complete), strict=False))
    figure.add_scatter(
        x=[rows[0].epoch for rows in shared],
        y=[short(mean(getattr(row, name) for row in rows)) for rows in shared],
        mode="lines",
        line={**look, "width": 3},
        name=f"{_label(runs.arm.name)} ({len(runs.complete)})",
        hovertemplate=f"{_label(runs.arm.name)}, epoch %{{x}}: loss %{{y}}<extra></extra>",
        **place,
    )


def _add_best_epochs(figure: go.Figure, runs: ArmRuns, colour: str, rank: int) -> None:
    best = [row for trial in runs.complete[:MOST_REPEATS] if (row := trial.best) is not None]
    figure.add_scatter(
        x=[row.epoch for row in best],
        y=[short(row.validation_loss) for row in best],
        mode="markers",
        marker={"size": 9, "symbol": "circle-open", "line": {"width": 2}, "color": colour},
        name="best epoch of a seed",
        legendgroup=str(rank),
        showlegend=rank == 0,
        legendrank=1001,  # behind the arms
        hovertemplate="best epoch %{x}: loss %{y}<extra></extra>",
        row=1,
        col=2,
    )


def effects(view: StudyView, metric: str = "validation_loss") -> go.Figure:
    """How far each arm is from the base arm: mean with its interval, and each seed.

    Arms whose mean loss is above that of guessing would squeeze all others: they are named at the
    edge, like those that diverged in every seed.
    """
    figure = go.Figure()
    differences = against_base(view, metric)
    limit = _limit(view, differences)
    inside = {
        row: d
        for row, d in enumerate(differences)
        if d.mean is not None and d.by_repeat and abs(d.mean) <= limit
    }
    factor = MEASURES[metric].factor
    if inside:
        _add_effects(figure, inside, factor)
    for row, difference in enumerate(differences):
        if row not in inside:
            figure.add_annotation(
                x=0, y=row, xref="paper", xanchor="left", showarrow=False, font={"size": 11},
                text=_outside(difference),
            )  # fmt: skip
    base = in_figure(fitted(view.spec.arms[0].name, MOST_NAME)) if view.spec.arms else ""
    dress(
        figure, f"What each arm changed against {base}",
        subtitle(view, f"points: one seed each; bar: the mean's {INTERVAL}"),
    )  # fmt: skip
    figure.update_layout(height=190 + ROW_PX * max(1, len(differences)))
    unit = "points of percent" if MEASURES[metric].unit else "nats"
    figure.update_xaxes(
        title_text=f"difference in {MEASURES[metric].words} ({unit}); the base is at 0",
        range=[-limit * factor, limit * factor],
    )
    figure.add_vline(x=0, line={"color": VERMILION, "width": 1, "dash": "dash"})
    figure.update_yaxes(
        tickvals=list(range(len(differences))),
        ticktext=[f"{_label(d.arm)} ({d.pairs})" for d in differences],
        range=[len(differences) - 0.5, -0.5],
        showgrid=False,
    )
    if not any(difference.by_repeat for difference in differences):
        note_absence(figure, "no arm can be compared with the base yet")
    return figure


def _limit(view: StudyView, differences: Sequence[Difference]) -> float:
    """Half the axis: every point of the arms that learned, and as much of their intervals."""
    guessing = guessing_loss(view)
    learned = [d for d in differences if d.mean is not None and abs(d.mean) <= guessing]
    farthest = max((abs(x) for d in learned for x in d.by_repeat.values()), default=0.0) or 1.0
    ends = [abs(end) for d in learned for end in (d.low, d.high) if end is not None]
    return 1.1 * max(farthest, min(max(ends, default=0.0), INTERVAL_SHOWN * farthest))


def _add_effects(figure: go.Figure, inside: Mapping[int, Difference], factor: float) -> None:
    points = [
        (row, repeat, factor * value)
        for row, difference in inside.items()
        for repeat, value in difference.by_repeat.items()
    ]
    figure.add_scatter(
        x=[short(value) for _, _, value in points],
        y=[row for row, _, _ in points],
        customdata=[repeat for _, repeat, _ in points],
        mode="markers",
        marker={"color": GREY, "symbol": "circle-open", "size": 7},
        name="one seed",
        hovertemplate="repeat %{customdata}: %{x}<extra></extra>",
    )
    middles = {row: difference.mean or 0.0 for row, difference in inside.items()}
    figure.add_scatter(
        x=[short(factor * middle) for middle in middles.values()],
        y=list(middles),
        error_x={
            "type": "data",
            "symmetric": True,
            "array": [
                0.0 if difference.high is None
                else short(factor * (difference.high - middles[row]))
                for row, difference in inside.items()
            ],
            "thickness": 1.5,
        },
        mode="markers",
        marker={"color": BLUE, "symbol": "diamond", "size": 9},
        name=f"mean, {INTERVAL}",
        hovertemplate="mean difference %{x}<extra></extra>",
    )  # fmt: skip


def _outside(difference: Difference) -> str:
    if difference.mean is not None and difference.by_repeat:
        return f"beyond this axis: {MEASURES[difference.metric].signed(difference.mean)}"
    if difference.basis == "diverged":
        return "diverged in every seed"
    if difference.basis == "other diverged":
        return "trained, while the base diverged in every seed"
    return "no seed with which both were trained to the end"


def _label(name: str) -> str:
    return in_figure(fitted(name, MOST_NAME))
