"""The arms of a comparison: each seed's validation loss, and what each arm changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import plotly.graph_objects as go

from search.analysis.comparison import Difference, against_base, runs_by_arm
from search.analysis.comparison_words import INTERVAL, verdict_in_words
from search.analysis.measures import MEASURES, guessing_loss
from search.analysis.wording import spread
from search.figures import style, values
from search.store.views import StudyView

METRIC = "validation_loss"
MOST_POINTS = 400  # of all arms together
ROW_PX = 30  # an arm takes
INTERVAL_SHOWN = 2.5  # times as far as the points, an interval is shown; of few seeds it is huge
SEED = {"color": style.GREY, "symbol": "circle-open", "size": 7}
DIAMOND = {"color": style.BLUE, "symbol": "diamond", "size": 9}
BASE = {**DIAMOND, "color": style.VERMILION}


def loss_by_arm(view: StudyView) -> go.Figure:
    """Lowest validation loss of each complete training, an arm a row, the base arm on top.

    A diamond marks an arm's mean, a bar one sample standard deviation over its seeds to each side.
    """
    figure = go.Figure()
    arms = list(runs_by_arm(view).values())
    each = max(2, MOST_POINTS // len(arms))
    points = [
        (values.short(trial.best.validation_loss), row, (trial.number, trial.repeat))
        for row, runs in enumerate(arms)
        for trial in values.thinned(runs.complete, each)
        if trial.best is not None
    ][:MOST_POINTS]
    if points:
        x, y, owners = map(list, zip(*points, strict=True))
        hover = "#%{customdata[0]}, repeat %{customdata[1]}: loss %{x}"
        style.add_markers(figure, x, y, "one seed", SEED, hover, customdata=owners)
    trained = [(row, runs.arm.name, runs.values(METRIC)) for row, runs in enumerate(arms)]
    for name, look, is_base in (("mean of the base arm", BASE, True), ("mean", DIAMOND, False)):
        means = [(r, v) for r, arm, v in trained if v and (arm == view.spec.base) == is_base]
        if means:
            x, y = [values.short(mean(losses)) for _, losses in means], [row for row, _ in means]
            halves = [values.short(spread(losses) or 0.0) for _, losses in means]
            style.add_markers(figure, x, y, name, look, "mean loss %{x}", error_x=_bar(halves))
    style.apply_style(figure, values.subtitle(view, "bar: one standard deviation over seeds"))
    figure.update_xaxes(title_text=values.LOSS, type="log", range=values.loss_range(view))
    failed = [f" + {len(runs.failed)} failed" if runs.failed else "" for runs in arms]
    _set_rows(
        figure,
        [
            f"{values.arm_label(runs.arm.name)} ({len(runs.complete)}{lost})"
            for runs, lost in zip(arms, failed, strict=True)
        ],
    )
    if not figure.data:
        style.note_absence(figure, "no arm has been trained to its end yet")
    return figure


def _bar(halves: Sequence[float | None]) -> dict[str, Any]:
    return {"type": "data", "symmetric": True, "array": halves, "thickness": 1.5}


def effects(view: StudyView) -> go.Figure:
    """How far each arm's loss is from the base arm's: mean with its interval, and each seed.

    Arms whose mean loss is above that of guessing would squeeze all others: they are named at the
    edge, like those that diverged in every seed.
    """
    figure = go.Figure()
    differences = against_base(view, METRIC)
    limit = _limit(view, differences)
    inside = {
        row: d for row, d in enumerate(differences) if d.mean is not None and abs(d.mean) <= limit
    }
    if inside:
        _add_effects(figure, inside)
    for row, difference in enumerate(differences):
        if row not in inside:
            value = difference.mean
            text = "" if value is None else f"beyond this axis: {MEASURES[METRIC].signed(value)}"
            figure.add_annotation(
                x=0, y=row, xref="paper", xanchor="left", showarrow=False, font={"size": 11},
                text=text or values.in_figure(verdict_in_words(difference)),
            )  # fmt: skip
    style.apply_style(
        figure,
        values.subtitle(view, f"points: one seed each; bar: the mean's {INTERVAL}"),
        f"What each arm changed against {values.arm_label(view.spec.arms[0].name)}",
    )
    figure.update_xaxes(
        title_text=f"difference in {MEASURES[METRIC].words} (nats); the base is at 0",
        range=[-limit, limit],
    )
    figure.add_vline(x=0, line={"color": style.VERMILION, "width": 1, "dash": "dash"})
    _set_rows(figure, [f"{values.arm_label(d.arm)} ({d.pairs})" for d in differences])
    if not any(difference.by_repeat for difference in differences):
        style.note_absence(figure, "no arm can be compared with the base yet")
    return figure


def _set_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    figure.update_layout(height=190 + ROW_PX * max(1, len(labels)))
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=labels,
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
    )


def _limit(view: StudyView, differences: Sequence[Difference]) -> float:
    """Half the axis: every point of the arms that learned, and as much of their intervals."""
    guessing = guessing_loss(view)
    learned = [d for d in differences if d.mean is not None and abs(d.mean) <= guessing]
    farthest = max((abs(x) for d in learned for x in d.by_repeat.values()), default=0.0) or 1.0
    ends = [abs(end) for d in learned for end in (d.low, d.high) if end is not None]
    return 1.1 * max(farthest, min(max(ends, default=0.0), INTERVAL_SHOWN * farthest))


def _add_effects(figure: go.Figure, inside: Mapping[int, Difference]) -> None:
    points = [
        (values.short(value), row, repeat)
        for row, difference in inside.items()
        for repeat, value in difference.by_repeat.items()
    ]
    x, y, repeats = map(list, zip(*points, strict=True))
    hover = "repeat %{customdata}: %{x}"
    style.add_markers(figure, x, y, "one seed", SEED, hover, customdata=repeats)
    x, y = [values.short(difference.mean) for difference in inside.values()], list(inside)
    halves = [values.short((d.high or d.mean or 0.0) - (d.mean or 0.0)) for d in inside.values()]
    name, hover = f"mean, {INTERVAL}", "mean difference %{x}"
    style.add_markers(figure, x, y, name, DIAMOND, hover, error_x=_bar(halves))
