from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from search.reporting.final_result import FinalResult, metrics, most_confused

MakeFinal = Callable[..., FinalResult]


def test_most_confused_is_what_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    confusion = rng.permutation(400)[: 12 * 12].reshape(12, 12)
    names = [f"class {i}" for i in range(12)]
    expected = sorted(
        (
            (int(confusion[i, j] + confusion[j, i]), {names[i], names[j]})
            for i in range(12)
            for j in range(i + 1, 12)
        ),
        key=lambda pair: -pair[0],
    )
    pairs = most_confused(confusion, names, n=200)
    assert [pair.total for pair in pairs] == [total for total, _ in expected]
    assert len(pairs) == 66
    for pair in pairs:
        first, second = names.index(pair.first), names.index(pair.second)
        assert pair.first_as_second == confusion[first, second] >= pair.second_as_first
        assert pair.second_as_first == confusion[second, first]


def test_pairs_that_are_never_confused_are_left_out() -> None:
    assert most_confused(np.array([[5, 0], [0, 5]]), ["a", "b"]) == []


def test_metrics_hold_what_scripts_rely_on(make_final: MakeFinal) -> None:
    found = json.loads(json.dumps(metrics(make_final(accuracies=(0.93, 0.94))), allow_nan=False))
    assert found["study"] == "fashion"
    assert found["trial"] == 1
    assert found["dataset"] == "fashion_mnist"
    test = found["test"]
    assert test["accuracy"] == pytest.approx(0.935)
    assert test["error"] == pytest.approx(0.065)
    assert test["loss"] == pytest.approx(0.205)
    assert test["std"] == pytest.approx(np.std([0.93, 0.94], ddof=1))
    assert test["seeds"] == 2
    assert [run["seed"] for run in test["per_seed"]] == [0, 1]
    assert [run["accuracy"] for run in test["per_seed"]] == pytest.approx([0.93, 0.94])
    assert np.array(found["confusion"]).sum() == 2 * test["images"]
    assert found["validation"]["loss"] == 0.25
    assert found["parameters"] == sum(layer.parameters for layer in make_final().layers)
    assert set(found) >= {"epochs", "hardware", "versions"}


def test_one_seed_has_no_spread(make_final: MakeFinal) -> None:
    assert metrics(make_final(accuracies=(0.93,)))["test"]["std"] is None


def test_a_confusion_matrix_of_other_images_is_refused(make_final: MakeFinal) -> None:
    with pytest.raises(AssertionError):
        make_final(accuracies=(0.9, 0.9), confusion=np.eye(5, dtype=int) * 3)
