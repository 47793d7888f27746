"""The arms of a comparison: each seed's validation loss, and each arm's mean and spread."""

from __future__ import annotations

from statistics import mean

import plotly.graph_objects as go

from search.analysis.wording import fitted, spread
from search.figures.figure_data import LOSS, loss_range, short, subtitle, thinned
from search.figures.style import BLUE, GREY, VERMILION, dress, in_figure, note_absence
from search.spec.arms import Arm
from search.store.views import StudyView, TrialView

MOST_POINTS = 400  # of all arms together
ROW_PX = 26  # an arm takes
MOST_NAME = 40  # characters


def loss_by_arm(view: StudyView) -> go.Figure:
    """Lowest validation loss of each complete training, an arm a row, the base arm on top.

    A diamond marks an arm's mean, a bar one sample standard deviation over its seeds to each side.
    """
    figure = go.Figure()
    arms = view.spec.arms
    trained = {arm.name: _losses(view, arm) for arm in arms}
    most = max(1, MOST_POINTS // max(1, len(arms)))
    rows = {arm.name: row for row, arm in enumerate(arms)}
    points = [
        (rows[name], loss, trial.number, trial.repeat)
        for name, losses in trained.items()
        for trial, loss in (thinned(losses, most) if most > 1 else losses[:1])
    ]
    if points:
        figure.add_scatter(
            x=[loss for _, loss, _, _ in points],
            y=[row for row, _, _, _ in points],
            customdata=[[number, repeat] for _, _, number, repeat in points],
            mode="markers",
            marker={"color": GREY, "symbol": "circle-open", "size": 7},
            name="one seed",
            hovertemplate="#%{customdata[0]}, repeat %{customdata[1]}: loss %{x}<extra></extra>",
        )
    for is_base, name, colour in ((True, "mean of the base arm", VERMILION),
                                  (False, "mean", BLUE)):  # fmt: skip
        means = [
            (rows[arm.name], [loss for _, loss in trained[arm.name]])
            for arm in arms
            if trained[arm.name] and (arm.name == view.spec.base) == is_base
        ]
        if means:
            figure.add_scatter(
                x=[short(mean(losses)) for _, losses in means],
                y=[row for row, _ in means],
                error_x={
                    "type": "data",
                    "array": [short(spread(losses) or 0.0) for _, losses in means],
                    "thickness": 1.5,
                },
                mode="markers",
                marker={"color": colour, "symbol": "diamond", "size": 9},
                name=name,
                hovertemplate="mean loss %{x}<extra></extra>",
            )
    dress(figure, "Arms", subtitle(view, "bar: one standard deviation over seeds"))
    figure.update_layout(height=180 + ROW_PX * len(arms))
    figure.update_xaxes(title_text=LOSS, type="log", range=loss_range(view))
    figure.update_yaxes(
        tickvals=list(range(len(arms))),
        ticktext=[_label(view, arm, len(trained[arm.name])) for arm in arms],
        range=[len(arms) - 0.5, -0.5],
        showgrid=False,
    )
    if not figure.data:
        note_absence(figure, "no arm has been trained to its end yet")
    return figure


def _losses(view: StudyView, arm: Arm) -> list[tuple[TrialView, float]]:
    return [
        (trial, loss)
        for trial in view.in_state("complete")
        if trial.arm == arm.name
        and trial.best is not None
        and (loss := short(trial.best.validation_loss)) is not None
    ]


def _label(view: StudyView, arm: Arm, trained: int) -> str:
    """`dropout 0.2 (3)`, the number of seeds that stand behind it; failed ones are told, too."""
    failed = sum(trial.arm == arm.name for trial in view.in_state("failed"))
    seeds = f"{trained} + {failed} failed" if failed else str(trained)
    return f"{in_figure(fitted(arm.name, MOST_NAME))} ({seeds})"
