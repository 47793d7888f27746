"""The arms of a comparison: each seed's value."""

from __future__ import annotations

from statistics import mean

import plotly.graph_objects as go

from search.analysis.comparison import runs_by_arm
from search.analysis.wording import spread
from search.figures import style, values
from search.store.views import StudyView

MOST_POINTS = 400  # of all arms together
ROW_PX = 30  # an arm takes
SEED = {"color": style.GREY, "symbol": "circle-open", "size": 7}
MEAN = {"color": style.BLUE, "symbol": "diamond", "size": 9}


def loss_by_arm(view: StudyView) -> go.Figure:
    """Lowest value of each complete training, an arm a row, the base arm on top.

    A diamond marks an arm's mean, a bar one sample standard deviation over its seeds to each side.
    """
    figure, word = go.Figure(), view.spec.value.word
    arms = list(runs_by_arm(view).values())
    each = max(2, MOST_POINTS // len(arms))
    points = [
        (values.short(trial.best.value), row, (trial.number, trial.repeat))
        for row, runs in enumerate(arms)
        for trial in values.thinned(runs.complete, each)
        if trial.best is not None
    ][:MOST_POINTS]
    if points:
        x, y, owners = map(list, zip(*points, strict=True))
        hover = f"#%{{customdata[0]}}, repeat %{{customdata[1]}}: {word} %{{x}}"
        style.add(figure, x, y, "one seed", hover, marker=SEED, customdata=owners)
    means = [
        (row, losses)
        for row, runs in enumerate(arms)
        if (losses := runs.values(view.spec.objective))
    ]
    if means:
        x, y = [values.short(mean(losses)) for _, losses in means], [row for row, _ in means]
        bar = {"array": [values.short(spread(losses) or 0.0) for _, losses in means]}
        style.add(figure, x, y, "mean", f"mean {word} %{{x}}", marker=MEAN, error_x=bar)
    style.apply_style(figure, values.subtitle(view, "bar: one standard deviation over seeds"))
    figure.update_xaxes(title_text=values.axis(view), type="log", range=values.value_range(view))
    labels = [
        f"{values.arm_label(runs.arm.name)} ({len(runs.complete)}"
        + (f" + {len(runs.failed)} failed)" if runs.failed else ")")
        for runs in arms
    ]
    figure.update_layout(height=190 + ROW_PX * len(labels))
    ends = [len(labels) - 0.5, -0.5]
    ticks = list(range(len(labels)))
    figure.update_yaxes(tickvals=ticks, ticktext=labels, range=ends, showgrid=False)
    return style.or_absence(figure, "no arm has been trained to its end yet")
