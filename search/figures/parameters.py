"""What a search found about its parameters, from Optuna's fANOVA (Hutter, Hoos and Leyton-Brown
2014, "An efficient approach for assessing hyperparameter importance") and trial by trial."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from statistics import stdev
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial
from plotly.subplots import make_subplots

from search.analysis.measures import guessing_value
from search.analysis.wording import percent, told_apart
from search.figures import style
from search.spec.config import StudySpec
from search.spec.domains import Range
from search.spec.recipe import PARTIAL_EPOCH
from search.spec.space import distributions, searched
from search.store.database import optuna_warnings_only
from search.store.records import best_epoch
from search.store.views import StudyView, TrialView

FEWEST = 5  # minimum number of trials for any estimate
FEW = 12  # trials; below it, importances are little more than a hint
MOST = 150  # trials that the forest is fitted to: its cost grows faster than linearly
RESAMPLES = 10
COLUMNS = 3
PANEL, GAP = 150, 140  # height of panels and of the gaps between them, which have the labels
MOST_LETTERS = 22  # of a panel's choices side by side; with more, they are written downwards
MOST_NAME = 20  # characters of a choice
SPREAD = 0.3  # maximum distance of a choice's points from its place; choices are 1 apart
NEEDED = (
    f"Importances need {FEWEST} trials that have trained equally long, without the baseline, and "
    "losses that differ"
)
GOLDEN = 0.618033988749895  # its multiples, modulo 1, are evenly spread


def comparable_trials(view: StudyView) -> tuple[int, list[FrozenTrial]]:
    """An epoch, and the trials that have trained that long, with their lowest losses up to it.

    It is the last epoch that a third of all have reached; but if that leaves fewer than FEW because
    many trials pause at rung 0, it is the partial-epoch validation, as epoch 0. Losses above that
    of guessing count as guessing. No trials if there are too few of them; of more than MOST, some
    from the whole study, because a sampler crowds its last ones together.
    """
    space, guessing = search_axes(view.spec), guessing_value(view)
    of_space = [  # not the baseline
        trial
        for trial in view.trials
        if not trial.is_baseline and trial.reports and space.keys() <= trial.params.keys()
    ]
    trained = [trial for trial in of_space if trial.curve]
    looked = [trial for trial in of_space if trial.partial_epoch is not None]
    lengths = sorted((len(trial.curve) for trial in trained), reverse=True)
    needed = max(FEWEST, math.ceil(len(trained) / 3))
    epoch = lengths[needed - 1] if len(trained) >= needed else 0
    reached = [trial for trial in trained if len(trial.curve) >= epoch] if epoch else []
    if len(reached) < FEW <= len(looked):
        epoch, reached = 0, looked
    trials = []
    for trial in style.thinned(reached, MOST):
        best = best_epoch(trial.curve[:epoch]) if epoch else trial.partial_epoch
        low = math.inf if best is None else best.value
        loss = low if low < guessing else guessing  # NaN, too
        params = {name: trial.params[name] for name in space}
        trials.append(create_trial(params=params, distributions=space, value=loss))
    return epoch, trials


def search_axes(spec: StudySpec) -> dict[str, BaseDistribution]:
    """The searched parameters, those with more than one value, in the order of the space."""
    return {name: one for name, one in distributions(spec).items() if not one.single()}


def shares_of(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Each parameter's share of the variance by itself, highest first; empty if there is none."""
    if len({trial.value for trial in trials}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            evaluator = FanovaImportanceEvaluator(n_trees=32, seed=0)
            return get_param_importances(_study_of(trials), evaluator=evaluator, normalize=False)
        except RuntimeError:  # the forest finds no variance
            return {}


def _study_of(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study in memory, which nobody sees."""
    with optuna_warnings_only():
        study = optuna.create_study()
    study.add_trials(trials)
    return study


def _when(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else f"after {PARTIAL_EPOCH:.2g} epochs"


def importances_bars(view: StudyView) -> go.Figure:
    """Each parameter's share of the losses' variance, highest on top, and its standard deviation
    over bootstrap samples of the trials. Deterministic for the same trials."""
    epoch, trials = comparable_trials(view)
    shares = shares_of(trials)
    if not shares:
        return go.Figure(layout={"height": 260, "meta": {"caption": f"{NEEDED}."}})
    draws = np.random.default_rng(0).integers(len(trials), size=(RESAMPLES, len(trials)))
    again = [shares_of([trials[place] for place in draw]) for draw in draws]
    deviations = [stdev(found.get(name, 0.0) for found in again) for name in shares]
    figure, leading = go.Figure(), next(iter(shares))
    figure.add_bar(
        y=[style.in_figure(name) for name in shares],
        x=[round(share, 3) for share in shares.values()],
        error_x={"type": "data", "array": [round(x, 3) for x in deviations], "thickness": 1.5},
        orientation="h",
        marker={"color": style.BLUE},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    remark = f"fANOVA of {len(trials)} {_when(epoch)}; bar: one bootstrap deviation"
    style.apply_style(figure, style.subtitle(view, remark))
    hint = " So few trials give little more than a hint." if len(trials) < FEW else ""
    if not epoch:
        hint = " Too few trained on to compare them later: what learns fast at first looks better."
    caption = (
        f"From the losses of {len(trials)} trials {_when(epoch)}: {leading} explains "
        f"{percent(shares[leading], 0)} of their variance (fANOVA; {percent(deviations[0], 0)} is "
        f"one bootstrap deviation).{hint} What only several parameters together explain is in no "
        "bar. A good sampler crowds trials together, which makes a parameter look less important "
        "than it is."
    )
    figure.update_layout(height=190 + 26 * len(shares), meta={"caption": caption})
    figure.update_xaxes(title_text="share of the losses' variance", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def contour(view: StudyView) -> go.Figure:
    """Lowest value by the two parameters that matter most, all trials after the same epoch."""
    (epoch, trials), figure = comparable_trials(view), go.Figure()
    shares = shares_of(trials)
    names = [name for name in shares if len({trial.params[name] for trial in trials}) > 1][:2]
    if len(names) == 2:
        figure = optuna.visualization.plot_contour(_study_of(trials), params=names)
        bar = {"title": {"text": view.spec.value.word}}
        figure.update_layout(title=None).update_traces(selector={"type": "contour"}, colorbar=bar)
        figure.data[0].z = [[style.short(value) for value in row] for row in figure.data[0].z]
        for letter in "xy":
            _number_choices(figure, letter)
    else:
        few = f"{NEEDED}; this figure also needs two parameters that do."
        figure.update_layout(height=260, meta={"caption": few})
    if trials:
        style.apply_style(figure, style.subtitle(view, f"{len(trials)} trials {_when(epoch)}"))
    return figure


def _number_choices(figure: go.Figure, letter: str) -> None:
    """Put choices at 0, 1, 2, as in our other figures and their files; names are escaped."""
    axis, (surface, *points) = figure.layout[f"{letter}axis"], figure.data
    axis.title.text = style.in_figure(axis.title.text.replace("_", " "))
    if axis.type == "category":
        names = list(surface[letter])
        for trace in (surface, *points):
            trace[letter] = [names.index(name) for name in trace[letter] or ()]
        axis.update(type="linear", tickvals=list(range(len(names))))
        axis.ticktext = list(map(style.in_figure, names))


def slices(view: StudyView) -> go.Figure:
    """Lowest value of each trial by the value of each searched parameter, choices side by side."""
    space, known = searched(view.spec), [trial.params for trial in view.trials if trial.best]
    axes = search_axes(view.spec)
    axes = {name: it for name, it in axes.items() if any(name in one for one in known)} or axes
    rows, columns = math.ceil(len(axes) / COLUMNS), min(COLUMNS, len(axes))
    panels: list[Any] = [{}] * len(axes) + [None] * (rows * columns - len(axes))
    grid = [panels[columns * row : columns * (row + 1)] for row in range(rows)]
    spacing = GAP / (PANEL + GAP) / rows
    figure = make_subplots(rows, columns, shared_yaxes=True, specs=grid, vertical_spacing=spacing)
    for index, (name, axis) in enumerate(axes.items()):
        place: dict[str, Any] = {"row": index // COLUMNS + 1, "col": index % COLUMNS + 1}
        choices = axis.choices if isinstance(axis, CategoricalDistribution) else ()
        having = [trial for trial in view.trials if name in trial.params]
        across = partial(_across, name, choices)
        style.add_trials(figure, view, having, across, showlegend=index == 0, **place)
        figure.update_xaxes(title_text=style.in_figure(name.replace("_", " ")), **place)
        if choices:
            cut = told_apart(list(map(str, choices)), MOST_NAME).values()
            labels = list(map(style.in_figure, cut))
            marked: dict[str, Any] = {"tickvals": list(range(len(labels))), "ticktext": labels}
            if sum(len(label) + 2 for label in cut) > MOST_LETTERS:
                marked |= {"tickangle": 90, "tickfont": {"size": 10}}
            figure.update_xaxes(range=[-0.5, len(labels) - 0.5], **marked, **place)
        elif isinstance(domain := space[name], Range) and domain.log:
            # Labels only at powers of ten; a range of less than a decade may have none.
            decades = {"dtick": 1} if domain.high >= 10 * domain.low else {}
            figure.update_xaxes(type="log", exponentformat="power", **decades, **place)
    remark = "one run each; bluer: trained longer"
    style.apply_style(figure, style.subtitle(view, remark))
    figure.update_layout(height=150 + (PANEL + GAP) * rows)
    figure.update_yaxes(style.value_axis(view, style.y_values(figure)) | {"title_text": None})
    return figure.update_yaxes(title_text=view.spec.value.label, col=1)


def _across(parameter: str, choices: Sequence[Any], trial: TrialView) -> float | None:
    """The trial's position on the panel's axis; for a choice, spread evenly around its place."""
    value = trial.params[parameter]
    if not choices:
        return float(value)
    aside = SPREAD * (2 * (trial.number * GOLDEN % 1) - 1)
    return round(choices.index(value) + aside, 3) if value in choices else None
