"""Figures of a study as it stands, search or comparison. None needs a finished trial.

Each stays within tens of kilobytes however long the study is: optuna-dashboard keeps a figure in
rows of 2 kB and sends them all to the browser every few seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.analysis.comparison import ArmRuns, runs_by_arm
from search.analysis.findings import front_in_words, pareto_front, size_name
from search.analysis.measures import measure_of, measured
from search.analysis.wording import counted, short_config, spread, told_apart
from search.figures import style
from search.spec.recipe import PARTIAL_EPOCH
from search.store.views import StudyView, TrialView

TOP = 10  # trials drawn individually
MOST_CURVES = 60  # of each other kind
MOST_SEEDS, MOST_ARMS = 400, 12  # points of all arms together; arms with their own curves
MOST_EPOCHS = 2000  # of all seeds' curves together
MOST_LETTERS = 40  # of an arm's name
FEW_TICKS = 3  # on a logarithmic x axis plotly then labels 1, 2 and 5; 0.7, 0.8, 0.9 would overlap


def learning_curves(view: StudyView) -> go.Figure:
    """Those of the trials, or of a comparison's arms once one has been trained to its end."""
    arms = [runs for runs in runs_by_arm(view).values() if runs.complete]
    return _arm_curves(view, arms) if arms else _trial_curves(view)


def _trial_curves(view: StudyView) -> go.Figure:
    """Value by epoch: the ten best trials past half their epochs in colour, with their best epochs
    marked; the rest in grey.

    The value axis ends at the value of guessing.
    """
    figure = go.Figure()
    top = [trial for trial in view.trained_far if not trial.is_baseline][:TOP]
    baseline = [view.baseline] if view.baseline and style.points(view.baseline) else []
    numbers = {trial.number for trial in (*top, *baseline)}
    for state, (_, colour, dash) in reversed(style.STATES.items()):
        others = [t for t in view.in_state(state) if t.number not in numbers and style.points(t)]
        if not others:
            continue
        shown = style.thinned(others, MOST_CURVES)
        lines = ([(*point, trial.number) for point in style.points(trial)] for trial in shown)
        x, y, number = style.joined(lines)
        name = style.with_count("other complete" if state == "complete" else state, shown, others)
        look: dict[str, Any] = {"mode": "lines+markers", "marker": {"size": 3}, "opacity": 0.6}
        look |= {"line": {"color": colour, "dash": dash, "width": 1}, "legendrank": 1001}  # last
        hover = "#%{customdata}, epoch %{x}: %{y}"
        style.add(figure, x, y, name, hover, customdata=number, **look)
    for rank, trial in enumerate((*top, *baseline)):
        name, look = f"#{trial.number}", style.line_style(rank)
        if trial.state != "complete":
            name += f", {trial.state}"
        if trial.is_baseline:
            name, look = "baseline", {"color": style.GREY, "dash": "dash"}
        epochs, found = zip(*style.points(trial), strict=True)
        hover, line = f"#{trial.number}, epoch %{{x}}: %{{y}}", {**look, "width": 2}
        style.add(figure, epochs, found, f"{name}: {style.lowest(trial)}", hover, line=line)
    best = [(row.epoch, row.value) for trial in top if (row := trial.best)]
    if best:
        x, y = zip(*best, strict=True)
        circle = {"size": 9, "symbol": "circle-open", "line": {"width": 2}, "color": style.GREY}
        style.add(figure, x, y, "best epoch", marker=circle)
    remark = f"coloured: the best {len(top)} and their lowest; " if top else ""
    remark += "one run each"
    style.apply_style(figure, style.subtitle(view, remark))
    figure.update_xaxes(title_text="epoch", range=[0, view.spec.epochs + 0.3])
    return figure.update_yaxes(style.value_axis(view, style.y_values(figure)))


def loss_against_parameters(view: StudyView) -> go.Figure:
    """Lowest value by network size; a line joins the trials of the Pareto front."""
    figure, size = go.Figure(), size_name(view)

    def label(trial: TrialView) -> str:
        config = "" if trial.config is None else f": {short_config(trial.config)}"
        return style.in_figure(f"#{trial.number}{config}")

    sized = [trial for trial in view.trials if measured(trial, size)]
    style.add_trials(figure, view, sized, lambda trial: measured(trial, size), label)
    front = pareto_front(view)
    if front:
        x, y = [measured(trial, size) for trial in front], [style.lowest(trial) for trial in front]
        line = {"color": style.BLUE, "width": 1, "shape": "hv"}
        style.add(figure, x, y, "Pareto front", line=line)
        figure.update_layout(meta={"caption": front_in_words(view)})
    remark = f"lowest {view.spec.value.word}, one run each; bluer: trained longer"
    style.apply_style(figure, style.subtitle(view, remark))
    figure.update_xaxes(title_text=measure_of(size).words, type="log", nticks=FEW_TICKS)
    return figure.update_yaxes(style.value_axis(view, style.y_values(figure)))


def best_so_far(view: StudyView) -> go.Figure:
    """Lowest value by the total epochs of all trials when it was reached."""
    figure, word, spent = go.Figure(), view.spec.value.word, 0.0
    trained, found, steps = dict[int, float](), dict[tuple[int, int], float](), [(0.0, math.inf)]
    reports = [row for trial in view.trials for row in trial.reports]
    for row in sorted(reports, key=lambda row: row.reported_at):
        epochs = row.epoch or PARTIAL_EPOCH
        spent += epochs - trained.get(row.trial_number, 0.0)
        trained[row.trial_number] = epochs
        found[row.trial_number, row.epoch] = spent
        if row.epoch and row.value < steps[-1][1]:
            steps.append((spent, row.value))

    def reached(trial: TrialView) -> float | None:
        best = trial.best or trial.partial_epoch
        return None if best is None else found[trial.number, best.epoch]

    style.add_trials(figure, view, view.trials, reached)
    if len(steps) > 1:
        x, y = zip(*steps[1:], (spent, steps[-1][1]), strict=True)
        line = {"color": style.BLUE, "width": 2, "shape": "hv"}
        hover = f"lowest so far: {word} %{{y}} after %{{x}} epochs"
        style.add(figure, x, y, "lowest so far", hover, line=line)
    if view.baseline and (low := style.lowest(view.baseline)) is not None:
        line = {"color": style.VERMILION, "width": 1, "dash": "dash"}
        style.add(figure, [0.0, spent], [low] * 2, "baseline", line=line, showlegend=False)
    remark = "point: a trial's lowest; bluer: trained longer"
    style.apply_style(figure, style.subtitle(view, remark))
    figure.update_yaxes(style.value_axis(view, style.y_values(figure)))
    return figure.update_xaxes(title_text="epochs trained by all trials", rangemode="tozero")


def loss_by_arm(view: StudyView) -> go.Figure:
    """Lowest value of each complete training, and each arm's mean; the base arm on top."""
    figure, word = go.Figure(), view.spec.value.word
    arms, points, means = list(runs_by_arm(view).values()), list[Any](), list[Any]()
    for row, runs in enumerate(arms):
        points += [(style.lowest(t), row, (t.number, t.repeat)) for t in runs.complete]
        if losses := runs.values(view.spec.objective):
            means.append((mean(losses), row, style.short(spread(losses) or 0.0)))
    if points:
        x, y, owners = zip(*style.thinned(points, MOST_SEEDS), strict=True)
        hover = f"#%{{customdata[0]}}, repeat %{{customdata[1]}}: {word} %{{x}}"
        seed = {"color": style.GREY, "symbol": "circle-open", "size": 7}
        style.add(figure, x, y, "one seed", hover, marker=seed, customdata=owners)
        x, y, deviations = zip(*means, strict=True)
        diamond = {"color": style.BLUE, "symbol": "diamond", "size": 9}
        bars = {"array": deviations}
        style.add(figure, x, y, "mean", f"mean {word} %{{x}}", marker=diamond, error_x=bars)
    style.apply_style(figure, style.subtitle(view, "bar: one standard deviation over seeds"))
    values = [value for value, *_ in points]
    for middle, _, bar in means:
        values += [middle + bar, max(middle - bar, middle / 2)]  # its lower end may be below 0
    figure.update_xaxes(style.value_axis(view, values), nticks=FEW_TICKS)
    names = _names(view)
    labels = [
        f"{names[runs.arm.name]} ({len(runs.complete)}"
        + (f" + {len(runs.failed)} failed)" if runs.failed else ")")
        for runs in arms
    ]
    ticks, ends = list(range(len(labels))), [len(labels) - 0.5, -0.5]
    figure.update_yaxes(tickvals=ticks, ticktext=labels, range=ends, showgrid=False)
    return figure.update_layout(height=190 + 30 * len(labels))


def _arm_curves(view: StudyView, arms: Sequence[ArmRuns]) -> go.Figure:
    """Training loss and value by epoch: each seed thin, the arm's mean thick.

    A mean ends where its first seed stopped.
    """
    values = [value for trial in view.trials for _, value in style.points(trial)]
    axis = style.value_axis(view, values) | {"range": None}
    shared = axis["type"] == "log"  # by two losses
    figure = make_subplots(rows=1, cols=2, shared_yaxes=shared, horizontal_spacing=0.12)
    best = sorted(arms[1:], key=lambda runs: mean(runs.values(view.spec.objective)))
    drawn = {runs.arm.name for runs in (arms[0], *best[: MOST_ARMS - 1])}
    shown, names = [runs for runs in arms if runs.arm.name in drawn], _names(view)
    longest = max(len(trial.curve) for runs in shown for trial in runs.complete)
    seeds = max(2, MOST_EPOCHS // (2 * longest * len(shown)))
    for rank, runs in enumerate(shown):
        _add_arm(figure, runs, names[runs.arm.name], rank, seeds)
    rest = len(view.spec.arms) - len(shown)
    missing = f"; {counted(rest, 'arm')} not drawn" if rest else ""
    remark = f"thin: one seed, thick: their mean{missing}"
    style.apply_style(figure, style.subtitle(view, remark), "Learning curves of the arms")
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    # Beside the panels it would take most of the width that the dashboard gives a figure.
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "maxheight": 0.25})
    figure.update_yaxes(title_text="training loss (nats)", type="log", col=1)
    unit = " (nats)" if view.spec.value.unit else ""
    return figure.update_yaxes(axis, col=2, title_text=f"{view.spec.value.label}{unit}")


def _add_arm(figure: go.Figure, runs: ArmRuns, label: str, rank: int, most: int) -> None:
    """`most`: maximum number of seeds drawn individually."""
    seeds = style.thinned(runs.complete, most)
    shared = list(zip(*(trial.curve for trial in runs.complete), strict=False))
    look = style.line_style(rank)
    name, hover = f"{label} ({len(runs.complete)})", f"{label}, epoch %{{x}}: %{{y}}"
    for column, loss in ((1, "train_loss"), (2, "value")):
        place: dict[str, Any] = {"row": 1, "col": column, "legendgroup": str(rank)}
        x, y = style.joined(
            [(row.epoch, getattr(row, loss)) for row in trial.curve] for trial in seeds
        )
        thin: dict[str, Any] = {"line": {**look, "width": 1}, "showlegend": False, "opacity": 0.4}
        style.add(figure, x, y, "one seed", **thin, **place)
        epochs = [rows[0].epoch for rows in shared]
        means = [mean(getattr(row, loss) for row in rows) for rows in shared]
        thick: dict[str, Any] = {"line": {**look, "width": 3}, "showlegend": column == 2}
        style.add(figure, epochs, means, name, hover, **thick, **place)


def _names(view: StudyView) -> dict[str, str]:
    """How the figures call each arm."""
    names = told_apart([arm.name for arm in view.spec.arms], MOST_LETTERS)
    return {name: style.in_figure(label) for name, label in names.items()}
