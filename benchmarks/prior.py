"""The prior of the forecast, learned from recorded curves; and how good forecasts are without it.

    python -m benchmarks.prior RECORD.jsonl.gz ... --write

Learns from each record how much the objective still falls after each epoch, by level and parameters
(see `search.sampling.forecast`), and prints how well final values are forecast on each data set
with a prior from the other data sets only. With --write, the package gets one prior for each data
set, from the others only, and one from all of them for data sets without a record.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.stats import spearmanr

from benchmarks.curves import data_set, read, title
from benchmarks.record import BenchmarkParser, write_figure
from search.figures.style import line_style
from search.sampling.forecast import Contender, fit
from search.sampling.priors import FEATURES, FOLDER, Array, features
from search.spec.recipe import PARTIAL_EPOCH
from search.terminal.commands import run

RIDGE = 3.0
PROMISE_RIDGE = 10.0
DRAWS = 8
KNOWN = 5  # whole trainings, in the figure
MOST, CHOSEN = 60, 8  # trials, and how many of them are trained to the end
LEAST = 10  # trainings; a record with fewer is not used
LEAST_DIFFERENCE = 0.1  # between data sets, in a coefficient
OBJECTIVE = "calibrated_validation_loss"


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_records()
    own.add("figure")
    own.add_argument("--write", action="store_true", help="write the priors of the package")
    return own


def load(file: Path, seed: int = 0) -> list[Contender]:
    """The whole recorded trainings with that seed, except those that diverged."""
    found = []
    for one in read(file):
        curve = {report["epoch"]: report[OBJECTIVE] for report in one["reports"]}
        if one["seed"] == seed and all(curve.values()) and max(curve) == one["epochs"]:
            number, params = one["number"], one["params"]
            found.append(
                Contender(
                    number=number, state="complete", params=params, recorded=params, curve=curve
                )
            )
    return found


def elsewhere(file: Path, files: Iterable[Path]) -> list[Path]:
    """The records of data sets other than this file's, each once."""
    return [one for one in dict.fromkeys(files) if data_set(one) != data_set(file)]


def learn(records: Sequence[Sequence[Contender]]) -> dict[str, Any]:
    """The prior: means over data sets, see `search.sampling.priors.Prior`."""
    epochs = max(records[0][0].curve)
    fitted = [[_regress(record, report) for record in records] for report in range(epochs)]
    found_RDF = np.array([[found for found, _ in row] for row in fitted])
    variances_RD = np.array([[variance for _, variance in row] for row in fitted])
    logs_D = np.log([_scale(record) for record in records])
    mean_RF, differ_RF, width = found_RDF.mean(1), np.ones_like(found_RDF[:, 0]), 1.0
    if len(records) > 1:  # a single one does not show how much data sets differ
        differ_RF, width = found_RDF.var(1, ddof=1), logs_D.std(ddof=1)
    columns = {
        "scale": np.array([logs_D.mean(), width]),
        "fractions": np.array([(report or PARTIAL_EPOCH) / epochs for report in range(epochs)]),
        "falls": mean_RF[:, 0],
        "level": mean_RF[:, 1],
        "promised": mean_RF[:, 2:],
        # From only a few data sets: the true difference may be larger than a small estimate.
        "falls_sd": np.maximum(np.sqrt(differ_RF[:, 0]), LEAST_DIFFERENCE),
        "level_sd": np.maximum(np.sqrt(differ_RF[:, 1]), LEAST_DIFFERENCE),
        "promised_sd": np.maximum(np.sqrt(differ_RF[:, 2:].mean(1)), LEAST_DIFFERENCE),
        "noise": np.sqrt(np.exp(np.log(variances_RD).mean(1))),
        "starts": promised(records, report=0),
        "ends": promised(records),
    }
    rounded = {name: np.round(column, 4).tolist() for name, column in columns.items()}
    return {"features": list(FEATURES), **rounded}


def promised(records: Sequence[Sequence[Contender]], report: float = math.inf) -> Array:
    """Coefficients for a configuration's level at a report or its end, means over data sets, (F,).

    In standard deviations of all configurations' levels.
    """
    found = []
    for record in records:
        x = np.array([[1.0, *features(one.recorded)] for one in record])
        levels = np.array([one.level(report) for one in record])
        levels = (levels - levels.mean()) / levels.std()
        found.append(_ridge(x, levels, PROMISE_RIDGE)[1:])
    return np.asarray(np.mean(found, 0))


def judge_promise(file: Path, records: Mapping[Path, Sequence[Contender]]) -> str:
    """How well the other data sets' coefficients rank the configurations of this one."""
    others = [records[other] for other in elsewhere(file, records)]
    x = np.array([features(one.recorded) for one in records[file]])
    levels = [one.level() for one in records[file]]
    return f"{file.name}: {spearmanr(x @ promised(others), levels)[0]:.3f}"


def _ridge(x: Array, y: Array, penalty: float) -> Array:
    """Coefficients; the first, for the constant, is almost unpenalised."""
    weights = penalty * np.diag([1e-3, *[1.0] * (x.shape[1] - 1)])
    return np.asarray(np.linalg.solve(x.T @ x + weights, x.T @ y))


def _scale(record: Sequence[Contender]) -> float:
    return float(np.std([one.level() for one in record]))


def _regress(record: Sequence[Contender], report: int) -> tuple[Array, float]:
    """Coefficients of the fall from a report to the end, and the residual variance."""
    levels = np.array([one.level(report) for one in record])
    scale = _scale(record)
    falls = (np.array([one.level() for one in record]) - levels) / scale
    relative = (levels - levels.mean()) / scale
    x = np.array(
        [[1.0, it, *features(one.recorded)] for it, one in zip(relative, record, strict=True)]
    )
    found = _ridge(x, falls, RIDGE)
    left = falls - x @ found
    return found, float(left @ left / max(1, len(left) - x.shape[1] / 2))


def forecasts(
    record: Sequence[Contender],
    prior: Path | None,
    known: int,
    report: int,
    seed: int,
    *,
    chosen: bool = False,
) -> tuple[Array, Array, Array]:
    """Forecasts for the N trials that have got to `report` while `known` others have ended.

    Args:
        chosen: the others are the most promising of MOST at first, as in a search; else they are
            picked at random.

    Returns:
        Logarithms of their levels (N,), of their forecast final values with standard deviations
        (N, 2), and of their final values (N,).
    """
    epochs, order = max(record[0].curve), np.random.default_rng(seed).permutation(len(record))
    if chosen:
        young = [_cut(record[index], 0) for index in order[:MOST]]
        ends = fit(young, epochs, prior).estimates(young)
        order = np.array(sorted(order[:MOST], key=lambda index: ends[record[index].number]))
    ended = [record[index] for index in order[:known]]
    cut = [_cut(record[index], report) for index in order[known:]]
    estimates = fit([*ended, *cut], epochs, prior).estimates(cut)
    found = np.array([estimates[one.number] for one in cut])
    truth = np.array([record[index].level() for index in order[known:]])
    return np.array([one.level() for one in cut]), found, truth


def _cut(whole: Contender, report: int) -> Contender:
    """The training as it was at that report."""
    curve = {at: it for at, it in whole.curve.items() if at <= report}
    return replace(whole, state="paused", curve=curve)


def draw_figure(records: Mapping[Path, Sequence[Contender]], report: int) -> go.Figure:
    """A panel per data set: a trial's final loss by its loss at a report, and by the forecast."""
    figure = make_subplots(rows=2, cols=2)
    for place, (file, record) in enumerate(list(records.items())[:4]):
        others = [records[other] for other in elsewhere(file, records)]
        with written(learn(others)) as prior:
            levels, found, ends = forecasts(record, prior, KNOWN, report, seed=0)
        row, column = divmod(place, 2)
        looks = (("loss then", levels, "circle-open"), ("forecast", found[:, 0], "circle"))
        for rank, (label, values, symbol) in enumerate(looks):
            figure.add_scatter(
                x=np.exp(values).tolist(),
                y=np.exp(ends).tolist(),
                name=label,
                mode="markers",
                marker={"symbol": symbol, "size": 6, "color": line_style(rank)["color"]},
                showlegend=place == 0,
                row=row + 1,
                col=column + 1,
            )
        axis = f"{title(file)}: loss then, or forecast"
        figure.update_xaxes(type="log", title=axis, row=row + 1, col=column + 1)
    figure.update_yaxes(type="log", title="lowest calibrated loss at the end")
    subtitle = f"after a third of the first epoch; {KNOWN} others were trained to the end"
    heading = {
        "text": "Actual and forecast final losses of trials",
        "subtitle": {"text": subtitle},
    }
    figure.update_layout(height=800, template="simple_white", title=heading)
    return figure


@contextmanager
def written(prior: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary file with the prior."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(prior, file)
        file.flush()
        yield Path(file.name)


def judge(
    record: Sequence[Contender],
    prior: Path | None,
    known: int,
    report: int,
    *,
    chosen: bool = False,
) -> list[float]:
    """Over DRAWS draws: rank correlation and error of forecasts, share inside 80 % intervals.

    Args:
        known: how many of the trials have ended; the others have got to `report`.
        chosen: see `forecasts`.
    """
    scores = []
    for seed in range(DRAWS):
        _, found, truth = forecasts(record, prior, known, report, seed, chosen=chosen)
        inside = np.abs(truth - found[:, 0]) < 1.2816 * found[:, 1]
        scores.append(
            [
                spearmanr(found[:, 0], truth)[0],
                math.sqrt(np.mean((found[:, 0] - truth) ** 2)),
                inside.mean(),
            ]
        )
    return list(np.mean(scores, 0))


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    loaded = {file: load(file) for file in args.files}
    records = {file: record for file, record in loaded.items() if len(record) >= LEAST}
    print("rank correlation / error of the logarithm / share within 80 % intervals")
    for file, record in records.items():
        others = [records[other] for other in elsewhere(file, records)]
        if not others:
            continue
        with written(learn(others)) as learned:
            for report in (0, 1, 2, 4, 8):
                levels = [one.level(report) for one in record]
                alone = spearmanr(levels, [one.level() for one in record])[0]
                row = [f"{file.name} ({len(record)}) epoch {report}: level alone "]
                row.append(f"{alone:.3f}")
                for known in (count for count in (0, 5, 15, 25) if count < len(record) / 2):
                    for label, prior in (("prior", learned), ("none", None)):
                        found = judge(record, prior, known, report)
                        row.append(
                            f"| {known} known, {label}: {found[0]:.3f} {found[1]:.3f} "
                            f"{found[2]:.2f}"
                        )
                if len(record) > 2 * CHOSEN:
                    found = judge(record, learned, CHOSEN, report, chosen=True)
                    row.append("| {} chosen: {:.3f} {:.3f} {:.2f}".format(CHOSEN, *found))
                print(*row)
    judged = [file for file in records if elsewhere(file, records)]
    if judged:
        print("rank correlation of predictions from other data sets with final values")
        print(*(judge_promise(file, records) for file in judged), sep="\n")
    if args.figure:
        write_figure(args.figure, draw_figure(records, report=0))
    if args.write:
        for dataset in (None, *dict.fromkeys(map(data_set, records))):
            name = "all" if dataset is None else f"without_{dataset}"
            if others := [it for file, it in records.items() if data_set(file) != dataset]:
                (FOLDER / f"{name}.json").write_text(json.dumps(learn(others)) + "\n")
        print(f"wrote {FOLDER}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run(main)
