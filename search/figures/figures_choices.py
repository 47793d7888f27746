"""What a study's choices did: kinds of weight decay and augmentation side by side, and dropout.

Pure functions of a view, of bounded size. Trials that were stopped early are drawn, but apart from
the complete ones: their losses are of fewer epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.figures.figure_data import (
    LOSS,
    loss_range,
    lowest,
    short,
    subtitle,
    thinned,
    with_count,
)
from search.figures.figures_study import LOOKS, MOST_POINTS
from search.figures.style import BLUE, VERMILION, dress, note_absence
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import Choice, Fixed
from search.store.views import State, StudyView, TrialView

STATES: tuple[State, ...] = ("pruned", "complete")  # drawn in this order
SPREAD = 0.3  # points of one kind lie within this of its place, kinds being 1 apart

Kind = Callable[[TrialConfig], str]
KINDS: Mapping[str, tuple[str, Kind]] = {
    "weight_decay_kind": ("weight decay", lambda config: config.recipe.weight_decay_kind),
    "augmentation": ("augmentation", lambda config: config.recipe.augmentation),
}


def chosen_kinds(spec: StudySpec) -> list[str]:
    """The parameters of KINDS that the study chooses."""
    return [name for name in KINDS if isinstance(spec.space.get(name), Choice)]


def kinds_side_by_side(view: StudyView) -> go.Figure:
    """Lowest validation loss of each trial by kind of weight decay, and by augmentation.

    A bar marks the median of the complete trials; each kind says how many it has.
    """
    names = chosen_kinds(view.spec)
    kinds = {name: _kinds(view.spec, name) for name in names}
    figure = make_subplots(
        rows=max(1, len(names)),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.06,
        row_heights=[len(kinds[name]) + 0.5 for name in names] or None,
    )
    for row, name in enumerate(names, start=1):
        _add_kinds(figure, view, name, kinds[name], row)
    dress(
        figure,
        "Weight decay and augmentation, kind by kind",
        subtitle(view, "(complete + pruned ones), one run each"),
    )
    figure.update_xaxes(type="log", range=loss_range(view))
    figure.update_xaxes(title_text=LOSS, row=max(1, len(names)))
    figure.update_yaxes(showgrid=False)
    if not figure.data:
        note_absence(figure, "no epoch has ended yet")
    return figure


def _kinds(spec: StudySpec, name: str) -> list[str]:
    domain = spec.space[name]
    assert isinstance(domain, Choice)
    return [str(value) for value in domain.values]


def _add_kinds(
    figure: go.Figure, view: StudyView, name: str, kinds: Sequence[str], row: int
) -> None:
    title, kind_of = KINDS[name]
    place = {"row": row, "col": 1, "showlegend": row == 1}
    by_state = {
        state: [
            (trial, kind)
            for trial in _measured(view, state)
            if trial.config and (kind := kind_of(trial.config)) in kinds
        ]
        for state in STATES
    }
    for state, found in by_state.items():
        if found:
            _add_strip(figure, found, kinds, state, place)
    losses: dict[str, list[float]] = {kind: [] for kind in kinds}
    for trial, kind in by_state["complete"]:
        losses[kind] += [loss for loss in [lowest(trial)] if loss is not None]
    _add_medians(figure, list(losses.values()), place)
    pruned = [kind for _, kind in by_state["pruned"]]
    figure.update_yaxes(
        title_text=title,
        tickvals=list(range(len(kinds))),
        ticktext=[f"{kind} ({len(losses[kind])} + {pruned.count(kind)})" for kind in kinds],
        range=[len(kinds) - 0.4, -0.6],
        row=row,
    )


def _measured(view: StudyView, state: State) -> list[TrialView]:
    """Those that stand for all, without the baseline, whose kinds nobody chose."""
    return [
        trial
        for trial in view.typical
        if trial.state == state and not trial.is_baseline and lowest(trial) is not None
    ]


def _add_strip(
    figure: go.Figure,
    trials: Sequence[tuple[TrialView, str]],
    kinds: Sequence[str],
    state: State,
    place: Mapping[str, Any],
) -> None:
    colour, symbol = LOOKS[state]
    shown = thinned(trials, MOST_POINTS[state])
    figure.add_scatter(
        x=[lowest(trial) for trial, _ in shown],
        y=[round(kinds.index(kind) + _aside(trial.number), 3) for trial, kind in shown],
        customdata=[trial.number for trial, _ in shown],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 6},
        opacity=0.8,
        name=with_count(state, shown, trials),
        legendgroup=state,
        hovertemplate="#%{customdata}: loss %{x}<extra></extra>",
        **place,
    )


def _aside(number: int) -> float:
    """How far from its kind's place a trial is drawn, within SPREAD: evenly, and always alike."""
    golden = 0.618033988749895  # multiples of it, modulo 1, never crowd
    return SPREAD * (2 * (number * golden % 1) - 1)


def _add_medians(
    figure: go.Figure, losses: Sequence[Sequence[float]], place: Mapping[str, Any]
) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    for number, of_kind in enumerate(losses):
        if of_kind:
            x += [short(median(of_kind)), short(median(of_kind)), None]
            y += [number - 0.4, number + 0.4, None]
    if x:
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": BLUE, "width": 3},
            name="median of complete",
            legendgroup="median",
            hovertemplate="median loss %{x}<extra></extra>",
            **place,
        )


def searches_dropout(spec: StudySpec) -> bool:
    return not isinstance(spec.space.get("dropout", Fixed(value=0.0)), Fixed)


def error_against_dropout(view: StudyView) -> go.Figure:
    """Validation error where the loss is lowest, by the rate of dropout in the linear part."""
    figure = go.Figure()
    for state in STATES:
        trials = _measured(view, state)
        shown = thinned(trials, MOST_POINTS[state])
        _add_errors(figure, shown, with_count(state, shown, trials), *LOOKS[state])
    if view.baseline is not None:
        _add_errors(figure, [view.baseline], "baseline", VERMILION, "star")
    dress(
        figure,
        "Error against dropout",
        subtitle(view, "one run each, which differ in more than dropout"),
    )
    figure.update_xaxes(title_text="dropout rate in the linear part")
    figure.update_yaxes(title_text="validation error (%)", type="log")
    if not figure.data:
        note_absence(figure, "no epoch has ended yet")
    return figure


def _add_errors(
    figure: go.Figure, trials: Sequence[TrialView], name: str, colour: str, symbol: str
) -> None:
    known = [
        (trial.number, short(rate), short(100 * error))
        for trial in trials
        if (rate := _dropout(trial)) is not None and (error := _error(trial)) is not None
    ]
    if known:
        numbers, rates, errors = zip(*known, strict=True)
        figure.add_scatter(
            x=rates,
            y=errors,
            customdata=numbers,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 13 if symbol == "star" else 8},
            name=name,
            hovertemplate="#%{customdata}: dropout %{x}, error %{y} %<extra></extra>",
        )


def _dropout(trial: TrialView) -> float | None:
    if trial.config is None:
        return None
    fields = trial.config.architecture.values()
    rate = fields.get("dropout_linear", fields.get("dropout"))
    return rate if isinstance(rate, int | float) else None


def _error(trial: TrialView) -> float | None:
    """Above 0, for a logarithmic axis."""
    row = trial.best or trial.early_look
    error = None if row is None else short(row.validation_error)
    return error or None
