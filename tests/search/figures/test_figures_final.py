from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from search.analysis.final_result import FinalResult
from search.figures.figures_final import (
    MOST_NUMBERS,
    confusion_matrix,
    first_layer_kernels,
    kernel_grid,
    row_shares,
    training_curves,
)

MakeFinal = Callable[..., FinalResult]


def test_training_curves_show_the_trial_and_every_run(make_final: MakeFinal) -> None:
    final = make_final(accuracies=(0.93, 0.94, 0.95))
    data = training_curves(final).data
    loss, error = data[: len(data) // 2], data[len(data) // 2 :]
    assert [trace.name for trace in loss] == [
        "trial #1: training",
        "trial #1: validation",
        *["final runs: training"] * 3,
        "best epoch: 2",
    ]
    assert loss[1].y == (0.4, 0.25, 0.26)
    assert error[1].y == pytest.approx((100 * 0.4 / 3, 100 * 0.25 / 3, 100 * 0.26 / 3), rel=1e-3)
    assert loss[-1].x == (2,)
    assert loss[-1].y == (0.25,)
    assert error[-1].y == (8.333,)


def test_the_runs_validation_figures_are_never_shown(make_final: MakeFinal) -> None:
    # They are of images that the runs were trained on; the factory makes them stick out.
    assert "99" not in [str(y) for trace in training_curves(make_final()).data for y in trace.y]


def test_confusion_matrix_has_counts_colours_and_words() -> None:
    confusion = np.array([[90, 10], [0, 100]])
    heatmap = confusion_matrix(confusion, ["a<b>", "c"], "subtitle").data[0]
    assert [list(row) for row in heatmap.text] == [["90", "10"], ["", "100"]]
    assert np.array(heatmap.z) == pytest.approx(np.sqrt([[0.9, 0.1], [0, 1]]), abs=1e-3)
    assert heatmap.hovertext[0][1] == "a&lt;b&gt; taken for c:<br>10 (10.0 % of a&lt;b&gt;)"


def test_many_classes_keep_their_counts_for_the_pointer() -> None:
    few, many = (
        confusion_matrix(np.eye(n, dtype=int), list(map(str, range(n))), "").data[0]
        for n in (MOST_NUMBERS, MOST_NUMBERS + 1)
    )
    assert few.texttemplate == "%{text}"
    assert many.texttemplate is None
    assert many.hovertext is not None


def test_a_class_without_images_has_no_share() -> None:
    assert row_shares(np.array([[0, 0], [1, 3]])).tolist() == [[0, 0], [0.25, 0.75]]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (32, 1, 3, 3), (5, 3, 5, 3), (7, 2, 3, 5)])
def test_the_grid_holds_each_kernel_once_and_framed(shape: tuple[int, int, int, int]) -> None:
    kernels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    grid, owners = kernel_grid(kernels)
    count, channels, height, width = shape
    for number in range(count):
        mine = grid[owners == number].reshape(channels, height, width)
        assert mine == pytest.approx(kernels[number])
    assert np.isnan(grid[owners == -1]).all()
    assert (owners[[0, -1]] == -1).all()
    assert (owners[:, [0, -1]] == -1).all()
    for axis in (0, 1):  # neighbours of different kernels are a gap apart
        a, b = np.moveaxis(owners, axis, 0)[:-1], np.moveaxis(owners, axis, 0)[1:]
        assert ((a == b) | (a == -1) | (b == -1)).all()


def test_grey_is_zero_for_every_kernel() -> None:
    kernels = np.array([-0.5, 0.1], np.float32).reshape(2, 1, 1, 1)
    heatmap = first_layer_kernels(kernels, "x").data[0]
    assert (heatmap.zmin, heatmap.zmax) == (-0.5, 0.5)
    assert heatmap.colorscale[1] == (0.5, "#808080")


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_kernels_without_a_scale_are_drawn_all_the_same(value: float) -> None:
    figure = first_layer_kernels(np.full((4, 1, 3, 3), value, np.float32), "x")
    json.loads(figure.to_json(), parse_constant=pytest.fail)
    assert figure.data[0].zmax == 1
