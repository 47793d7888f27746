"""The arms of a comparison: each seed's value, and their learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.analysis.comparison import ArmRuns, runs_by_arm
from search.analysis.wording import fitted, spread
from search.figures import style
from search.store.views import StudyView

MOST_POINTS = 400  # of all arms together
ROW_PX = 30  # an arm takes
SEED = {"color": style.GREY, "symbol": "circle-open", "size": 7}
MEAN = {"color": style.BLUE, "symbol": "diamond", "size": 9}
MOST_ARMS = 12  # whose curves can be told apart
MOST_EPOCHS = 2000  # of all seeds' curves together
MOST_LETTERS = 40  # of an arm's name


def loss_by_arm(view: StudyView) -> go.Figure:
    """Lowest value of each complete training, an arm a row, the base arm on top.

    A diamond marks an arm's mean, a bar one sample standard deviation over its seeds to each side.
    """
    figure, word = go.Figure(), view.spec.value.word
    arms = list(runs_by_arm(view).values())
    points = [
        (style.lowest(trial), row, (trial.number, trial.repeat))
        for row, runs in enumerate(arms)
        for trial in runs.complete
    ]
    if points:
        x, y, owners = zip(*style.thinned(points, MOST_POINTS), strict=True)
        hover = f"#%{{customdata[0]}}, repeat %{{customdata[1]}}: {word} %{{x}}"
        style.add(figure, x, y, "one seed", hover, marker=SEED, customdata=owners)
        means = [
            (style.short(mean(losses)), row, style.short(spread(losses) or 0.0))
            for row, runs in enumerate(arms)
            if (losses := runs.values(view.spec.objective))
        ]
        x, y, bars = zip(*means, strict=True)
        bar = {"array": bars}
        style.add(figure, x, y, "mean", f"mean {word} %{{x}}", marker=MEAN, error_x=bar)
    style.apply_style(figure, style.subtitle(view, "bar: one standard deviation over seeds"))
    figure.update_xaxes(style.value_axis(view))
    labels = [
        f"{_label(runs)} ({len(runs.complete)}"
        + (f" + {len(runs.failed)} failed)" if runs.failed else ")")
        for runs in arms
    ]
    ticks, ends = list(range(len(labels))), [len(labels) - 0.5, -0.5]
    figure.update_yaxes(tickvals=ticks, ticktext=labels, range=ends, showgrid=False)
    return figure.update_layout(height=190 + ROW_PX * len(labels))


def arm_curves(view: StudyView, arms: Sequence[ArmRuns]) -> go.Figure:
    """Training loss and value by epoch: each seed thin, the arm's mean thick.

    A mean ends with the seed that stopped first.
    """
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.09)
    best = sorted(arms[1:], key=lambda runs: mean(runs.values(view.spec.objective)))
    names = {runs.arm.name for runs in (arms[0], *best[: MOST_ARMS - 1])}
    shown = [runs for runs in arms if runs.arm.name in names]
    longest = max(len(trial.curve) for runs in shown for trial in runs.complete)
    seeds = max(2, MOST_EPOCHS // (2 * longest * len(shown)))
    for rank, runs in enumerate(shown):
        _add_arm(figure, runs, rank, seeds)
    rest = len(view.spec.arms) - len(shown)
    remark = "thin: one seed, thick: their mean" + (f"; {rest} arms not drawn" if rest else "")
    style.apply_style(figure, style.subtitle(view, remark), "Learning curves of the arms")
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(type="log")
    figure.update_yaxes(title_text="training loss (nats)", col=1)
    figure.update_yaxes(title_text=style.axis(view), col=2)
    return figure


def _add_arm(figure: go.Figure, runs: ArmRuns, rank: int, most: int) -> None:
    """`most`: seeds that are drawn one by one."""
    seeds = style.thinned(runs.complete, most)
    shared = list(zip(*(trial.curve for trial in runs.complete), strict=False))
    look, label = style.line_style(rank), _label(runs)
    name, hover = f"{label} ({len(runs.complete)})", f"{label}, epoch %{{x}}: %{{y}}"
    for column, loss in ((1, "train_loss"), (2, "value")):
        place: dict[str, Any] = {"row": 1, "col": column, "legendgroup": str(rank)}
        x = style.joined([row.epoch for row in trial.curve] for trial in seeds)
        y = style.joined(
            [style.short(getattr(row, loss)) for row in trial.curve] for trial in seeds
        )
        thin: dict[str, Any] = {"line": {**look, "width": 1}, "showlegend": False, "opacity": 0.4}
        style.add(figure, x, y, "one seed", **thin, **place)
        epochs = [rows[0].epoch for rows in shared]
        means = [style.short(mean(getattr(row, loss) for row in rows)) for rows in shared]
        thick: dict[str, Any] = {"line": {**look, "width": 3}, "showlegend": column == 2}
        style.add(figure, epochs, means, name, hover, **thick, **place)


def _label(runs: ArmRuns) -> str:
    return style.in_figure(fitted(runs.arm.name, MOST_LETTERS))
