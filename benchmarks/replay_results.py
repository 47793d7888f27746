"""Results of replays: compute to get near the best, regret, comparisons with a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from benchmarks.replay_simulation import HeldOutScore, Incumbent
from search.figures.style import line_style

Array = NDArray[np.float64]
WITHIN = (0.1, 0.3)  # percentage points above the best
AFTER = (10, 20, 50, 100)  # whole trainings
GUESSING = Incumbent(
    0.0, 0.9, math.log(10)
)  # before a search's first report; all data sets have ten
GRID, KEPT = 200, 4  # computes of a curve; every fourth is recorded
RESAMPLES = 1000
SLACK = 1e-9  # errors are multiples of 1 / images


class _Replays:
    """The replays of one strategy with S seeds; G computes, in whole trainings.

    Attributes:
        first_S: points -> compute at which the incumbent's error was first that near the target's;
            infinite if it never was.
        regret_SG: error above the target's, in points.
        loss_SG: the same for the loss.
    """

    def __init__(
        self, runs: Sequence[Sequence[Incumbent]], target: HeldOutScore, grid_G: Array
    ) -> None:
        self.first_S = {
            points: np.array([_first_within(run, target.error + points / 100) for run in runs])
            for points in WITHIN
        }
        found_SG2 = np.array([_at(run, grid_G) for run in runs])
        self.regret_SG = 100 * (found_SG2[..., 0] - target.error)
        self.loss_SG = found_SG2[..., 1] - target.loss


def _at(points: Sequence[Incumbent], computes: Array) -> Array:
    """Error and loss of the incumbent at each compute, (C, 2)."""
    steps = [GUESSING, *points]
    found = np.searchsorted([step.compute for step in steps], computes, side="right") - 1
    return np.array([steps[index][1:] for index in found])


def _first_within(points: Sequence[Incumbent], error: float) -> float:
    return next((one.compute for one in points if one.error <= error + SLACK), math.inf)


def compare(
    replays: Mapping[str, Sequence[Sequence[Incumbent]]],
    target: HeldOutScore,
    baseline: str,
    horizon: float,
) -> dict[str, dict[str, Any]]:
    """Each strategy's results, and how they compare with the baseline's, seed by seed."""
    after = [compute for compute in AFTER if compute <= horizon]
    grid_G = np.unique([*np.geomspace(0.1, horizon, GRID), *after])
    made = {name: _Replays(runs, target, grid_G) for name, runs in replays.items()}
    other, seeds = made[baseline], len(replays[baseline])
    draws_BS = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))

    def against(
        statistic: Callable[[Array, Array], float], mine: Array, its: Array
    ) -> list[float | None]:
        """The statistic of both, and its 95 % interval over paired resamples of the seeds, without
        those that know nothing (NaN)."""
        drawn = [statistic(mine[draw_S], its[draw_S]) for draw_S in draws_BS]
        known = [value for value in drawn if not math.isnan(value)] or [math.nan]
        return [_round(x) for x in (statistic(mine, its), *np.percentile(known, (2.5, 97.5)))]

    def relative(mine: float, its: float) -> float:
        """Their ratio, at most that if `its` lies beyond the horizon; NaN if both do."""
        beyond = math.isinf(mine) and math.isinf(its)
        return math.nan if beyond else min(mine, horizon) / min(its, horizon)

    def ratio(mine_S: Array, its_S: Array) -> float:
        return relative(_quartile(mine_S, 50), _quartile(its_S, 50))

    def less(mine_S: Array, its_S: Array) -> float:
        return float((mine_S - its_S).mean())

    def described(one: _Replays) -> dict[str, Any]:
        def within(points: float) -> dict[str, Any]:
            def mean_ratio(mine_SG: Array, its_SG: Array) -> float:
                return relative(*(_mean_within(it, points, grid_G) for it in (mine_SG, its_SG)))

            return {
                **_quartiles(one.first_S[points]),
                "reached": float(np.isfinite(one.first_S[points]).mean()),
                "ratio": against(ratio, one.first_S[points], other.first_S[points]),
                "ratio_is_at_most": math.isinf(_quartile(other.first_S[points], 50)),
                "mean_regret": _round(_mean_within(one.regret_SG, points, grid_G)),
                "mean_regret_ratio": against(mean_ratio, one.regret_SG, other.regret_SG),
            }

        def regret(compute: float) -> dict[str, Any]:
            place = int(np.searchsorted(grid_G, compute))
            mine_S, loss_S = one.regret_SG[:, place], one.loss_SG[:, place]
            return {
                **_quartiles(mine_S),
                "mean": _round(mine_S.mean()),
                "less_baseline": against(less, mine_S, other.regret_SG[:, place]),
                "loss_mean": _round(loss_S.mean()),
                "loss_less_baseline": against(less, loss_S, other.loss_SG[:, place]),
            }

        return {
            "compute_to_within": {str(points): within(points) for points in WITHIN},
            "regret_after": {str(compute): regret(compute) for compute in after},
            "compute": [_round(compute) for compute in grid_G[::KEPT]],
            "mean_regret": [_round(value) for value in one.regret_SG.mean(axis=0)[::KEPT]],
        }

    return {name: described(one) for name, one in made.items()}


def _mean_within(regret_SG: Array, points: float, grid_G: Array) -> float:
    """Compute after which the mean regret stays within `points`; infinite if it ends above."""
    above = np.flatnonzero(regret_SG.mean(axis=0) > points + SLACK)
    if not len(above):
        return float(grid_G[0])
    return float(grid_G[above[-1] + 1]) if above[-1] + 1 < len(grid_G) else math.inf


def _quartile(values_S: Array, percent: float) -> float:
    return float(np.percentile(values_S, percent, method="inverted_cdf"))  # inf - inf would be NaN


def _quartiles(values_S: Array) -> dict[str, float | None]:
    places = {"lower": 25, "median": 50, "upper": 75}
    return {name: _round(_quartile(values_S, percent)) for name, percent in places.items()}


def _round(value: float) -> float | None:
    return round(float(f"{value:.4g}"), 9) if math.isfinite(value) else None


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A table for each world and number of workers."""
    parts = []
    for title, world in results.items():
        target = world["target"]
        for workers, strategies in world["workers"].items():
            parts.append(
                f"### {title}, {workers} worker{'s' * (workers != '1')}\n\n"
                f"{world['configurations']} configurations on record; the best has an error of "
                f"{100 * target['error']:.2f} %, a loss of {target['loss']:.4f}.\n"
            )
            parts.append(_table(strategies))
    return "\n".join(parts)


def _table(strategies: Mapping[str, Mapping[str, Any]]) -> str:
    after = list(next(iter(strategies.values()))["regret_after"])
    heads = ["strategy", *(f"to within {p}" for p in WITHIN), *(f"ratio {p}" for p in WITHIN)]
    heads += [f"mean within {p}" for p in WITHIN]
    heads += [f"regret {c}" for c in after] + [f"against random {c}" for c in after]
    heads += [f"loss {c}" for c in after]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, found in strategies.items():
        firsts = [found["compute_to_within"][str(points)] for points in WITHIN]
        regrets = [found["regret_after"][compute] for compute in after]
        cells = [name, *(_spread(one) for one in firsts)]
        cells += ["≤ " * one["ratio_is_at_most"] + _interval(one["ratio"]) for one in firsts]
        cells += [_short(one["mean_regret"]) for one in firsts]
        cells += [f"{_spread(one)}; {one['mean']:.2f}" for one in regrets]
        cells += [_interval(one["less_baseline"]) for one in regrets]
        cells += [f"{one['loss_mean']:.4f}" for one in regrets]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _short(value: float | None) -> str:
    return "never" if value is None else f"{value:.3g}"


def _spread(found: Mapping[str, Any]) -> str:
    return f"{_short(found['median'])} ({_short(found['lower'])} to {_short(found['upper'])})"


def _interval(found: Sequence[float | None]) -> str:
    """`0.14 [0.13, 0.16]`; `?` for what is unknown."""
    middle, low, high = ("?" if value is None else f"{value:.2f}" for value in found)
    return f"{middle} [{low}, {high}]"


def draw_figure(results: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Mean regret by compute: a line per strategy, a panel per world and number of workers."""
    panels = [
        (f"{title}, W = {workers}", strategies)
        for title, world in results.items()
        for workers, strategies in world["workers"].items()
    ]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = make_subplots(rows=rows, cols=columns)
    for place, (panel, strategies) in enumerate(panels):
        row, column = divmod(place, columns)
        for rank, (name, found) in enumerate(strategies.items()):
            figure.add_scatter(
                x=found["compute"],
                y=found["mean_regret"],
                name=name,
                mode="lines",
                line=line_style(rank),
                legendgroup=name,
                showlegend=place == 0,
                row=row + 1,
                col=column + 1,
            )
        at = {"row": row + 1, "col": column + 1}
        figure.update_xaxes(type="log", title=f"{panel}: whole trainings", **at)
    figure.update_yaxes(title="mean regret (points of error)", range=[-0.2, 4])
    title = {"text": "Regret of search strategies", "subtitle": {"text": "on recorded trainings"}}
    figure.update_layout(height=420 * rows, template="simple_white", title=title)
    return figure
