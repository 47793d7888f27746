from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from search.analysis.final_result import FinalResult, by_class, metrics, most_confused
from search.pages.final_page import final_page, final_text

MakeFinal = Callable[..., FinalResult]


def test_most_confused_is_what_brute_force_finds() -> None:
    confusion = np.random.default_rng(0).permutation(400)[: 12 * 12].reshape(12, 12)
    names = [f"class {i}" for i in range(12)]
    pairs = most_confused(confusion, names, n=200)
    both = confusion + confusion.T
    assert [pair.total for pair in pairs] == sorted(both[np.triu_indices(12, 1)], reverse=True)
    for pair in pairs:
        first, second = names.index(pair.first), names.index(pair.second)
        assert pair.first_as_second == confusion[first, second] >= pair.second_as_first
        assert pair.second_as_first == confusion[second, first]
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
    assert metrics(make_final(accuracies=(0.93,)))["test"]["std"] is None


def test_a_class_without_test_images_has_no_accuracy(make_final: MakeFinal) -> None:
    final = make_final(accuracies=(0.93, 0.94))
    confusion_KK = final.confusion_KK.copy()
    confusion_KK[0] += confusion_KK[2]
    confusion_KK[2] = 0
    final = dataclasses.replace(final, confusion_KK=confusion_KK)
    found = by_class(final)
    assert (found[2].images, found[2].accuracy) == (0, None)
    assert sum(one.images for one in found) == final.test_count
    assert found[1].accuracy == confusion_KK[1, 1] / confusion_KK[1].sum()
    assert metrics(final)["per_class"][2]["accuracy"] is None
    name = final.view.dataset.class_names[2]
    assert f"The test set has no pictures of {name}." in final_text(final)
    assert "no pictures" in final_page(final)
    assert "no pictures" not in final_page(make_final()) + final_text(make_final())
