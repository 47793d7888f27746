"""Learning curves of a study's trials, or of a comparison's arms: one figure of bounded size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.analysis.comparison import ArmRuns, runs_by_arm
from search.figures import style, values
from search.store.views import StudyView, TrialView

TOP = 10  # complete trials that are told apart
MOST_CURVES = 60  # of each other kind
MOST_ARMS = 12  # whose curves can be told apart
MOST_POINTS = 2000  # of all seeds' curves together
BEHIND = 1001  # in the legend, where a trace's rank is 1000 unless it says otherwise
CIRCLE = {"size": 9, "symbol": "circle-open", "line": {"width": 2}}


def learning_curves(view: StudyView) -> go.Figure:
    """Of the trials; of a comparison's arms once one has been trained to its end."""
    arms = [runs for runs in runs_by_arm(view).values() if runs.complete]
    return _arm_curves(view, arms) if arms else _trial_curves(view)


def _trial_curves(view: StudyView) -> go.Figure:
    """Value by epoch: the ten best in colour, their best epochs marked, the rest in grey.

    The axis of values is logarithmic and ends at that of guessing.
    """
    figure = go.Figure()
    top = [trial for trial in view.leaderboard if not trial.is_baseline][:TOP]
    numbers = {trial.number for trial in top}
    others = [t for t in view.trials if t.number not in numbers and not t.is_baseline]
    for state, (colour, _, dash) in reversed([*style.STATES.items()]):
        trials = [t for t in others if t.state == state and values.points(t)]
        if trials:
            if state == "complete":
                colour = style.GREY
            name = "other complete" if state == "complete" else state
            _add_group(figure, trials, name, {"color": colour, "dash": dash, "width": 1})
    if view.baseline is not None and values.points(view.baseline):
        _add_curve(figure, view.baseline, "baseline", {"color": style.GREY, "dash": "dash"})
    for rank, trial in enumerate(top):
        _add_curve(figure, trial, f"#{trial.number}", style.line_style(rank))
    best = [row for trial in top if (row := trial.best) is not None]
    if best:
        x, y = [row.epoch for row in best], [values.short(row.value) for row in best]
        style.add(figure, x, y, "best epoch", marker={**CIRCLE, "color": style.GREY})
    remark = f"coloured: the best {len(top)} with their {view.spec.value.word}; one run each"
    style.apply_style(figure, values.subtitle(view, remark))
    figure.update_xaxes(title_text="epoch", range=[0, view.spec.epochs + 0.3])
    figure.update_yaxes(title_text=values.axis(view), type="log", range=values.value_range(view))
    return style.or_absence(figure, "no epoch has ended yet")


def _add_group(
    figure: go.Figure, trials: Sequence[TrialView], name: str, line: dict[str, Any]
) -> None:
    """Many curves as one trace with gaps, which is small and quick to draw."""
    shown = values.thinned(trials, MOST_CURVES)
    x, y = (values.joined([p[i] for p in values.points(trial)] for trial in shown) for i in (0, 1))
    numbers = values.joined([trial.number] * len(values.points(trial)) for trial in shown)
    look = {"mode": "lines+markers", "marker": {"size": 3}, "opacity": 0.6, "legendrank": BEHIND}
    name, hover = values.with_count(name, shown, trials), "#%{customdata}, epoch %{x}: %{y}"
    style.add(figure, x, y, name, hover, line=line, customdata=numbers, **look)


def _add_curve(figure: go.Figure, trial: TrialView, name: str, line: dict[str, Any]) -> None:
    epochs, found = zip(*values.points(trial), strict=True)
    hover = f"#{trial.number}, epoch %{{x}}: %{{y}}"
    name, line = f"{name}: {values.lowest(trial)}", {**line, "width": 2}
    style.add(figure, epochs, found, name, hover, line=line)


def _arm_curves(view: StudyView, arms: Sequence[ArmRuns]) -> go.Figure:
    """Training loss and value by epoch: each seed thin, the arm's mean thick.

    A mean ends with the seed that stopped first.
    """
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.09)
    best = sorted(arms[1:], key=lambda runs: mean(runs.values(view.spec.objective)))
    names = {runs.arm.name for runs in (arms[0], *best[: MOST_ARMS - 1])}
    shown = [runs for runs in arms if runs.arm.name in names]
    longest = max(len(trial.curve) for runs in shown for trial in runs.complete)
    seeds = max(2, MOST_POINTS // (2 * longest * len(shown)))
    for rank, runs in enumerate(shown):
        _add_arm(figure, runs, rank, seeds)
    rest = len(view.spec.arms) - len(shown)
    remark = "thin: one seed, thick: their mean" + (f"; {rest} arms not drawn" if rest else "")
    style.apply_style(figure, values.subtitle(view, remark), "Learning curves of the arms")
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    low, high = values.value_range(view)  # but down to the lowest training loss
    losses = [row.train_loss for runs in shown for t in runs.complete for row in t.curve]
    low = min([low, *(math.log10(0.95 * loss) for loss in losses if loss > 0)])
    figure.update_yaxes(type="log", range=[low, high])
    figure.update_yaxes(title_text="training loss (nats)", col=1)
    figure.update_yaxes(title_text=values.axis(view), col=2)
    return figure


def _add_arm(figure: go.Figure, runs: ArmRuns, rank: int, most: int) -> None:
    """`most`: seeds that are drawn one by one."""
    seeds = values.thinned(runs.complete, most)
    shared = list(zip(*(trial.curve for trial in runs.complete), strict=False))
    label, look = values.arm_label(runs.arm.name), style.line_style(rank)
    name, hover = f"{label} ({len(runs.complete)})", f"{label}, epoch %{{x}}: %{{y}}"
    for column, loss in ((1, "train_loss"), (2, "value")):
        place: dict[str, Any] = {"row": 1, "col": column, "legendgroup": str(rank)}
        thin = {**place, "showlegend": False, "opacity": 0.4}
        x = values.joined([row.epoch for row in trial.curve] for trial in seeds)
        y = values.joined(
            [values.short(getattr(row, loss)) for row in trial.curve] for trial in seeds
        )
        style.add(figure, x, y, "one seed", line={**look, "width": 1}, **thin)
        epochs = [rows[0].epoch for rows in shared]
        means = [values.short(mean(getattr(row, loss) for row in rows)) for rows in shared]
        thick = {**place, "showlegend": column == 2}
        style.add(figure, epochs, means, name, hover, line={**look, "width": 3}, **thick)
