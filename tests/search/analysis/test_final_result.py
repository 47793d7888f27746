from __future__ import annotations

import json

import numpy as np
import pytest

from search.analysis.final_result import by_class, collect_mistakes, confused_pairs, metrics
from search.pages.final_page import final_page, final_text
from tests.search.made_up_views import final_result


def test_the_most_confused_pairs_match_brute_force() -> None:
    confusion = np.random.default_rng(0).permutation(400)[: 12 * 12].reshape(12, 12)
    pairs, both = confused_pairs(confusion, 200), confusion + confusion.T
    assert [both[pair] for pair in pairs] == sorted(both[np.triu_indices(12, 1)], reverse=True)
    assert all(confusion[i, j] >= confusion[j, i] for i, j in pairs)
    assert confused_pairs(np.diag([5, 5]), 5) == []


def shares(predicted: list[int], sure: list[float], classes: int) -> np.ndarray:
    rows = np.zeros((len(predicted), classes), np.float32)
    for row, (label, share) in enumerate(zip(predicted, sure, strict=True)):
        rows[row] = (1 - share) / (classes - 1)
        rows[row, label] = share
    return rows


def test_the_most_confident_mistakes_of_the_commonest_pairs_come_first() -> None:
    true = np.array([0, 0, 1, 1, 2, 2, 3])
    predicted = [1, 0, 0, 0, 3, 2, 3]
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    confusion = np.zeros((4, 4), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    pairs = collect_mistakes(
        images, true, shares(predicted, [0.5, 0.9, 0.7, 0.9, 0.6, 0.9, 0.9], 4), confusion
    )
    found = [[(int(m.image_CHW[0, 0, 0]), m.true, m.predicted) for m in pair] for pair in pairs]
    assert found == [[(3, 1, 0), (2, 1, 0), (0, 0, 1)], [(4, 2, 3)]]
    assert pairs[0][0].probability == np.float32(0.9)
    faultless = np.eye(4, dtype=np.float32)
    assert collect_mistakes(images[:4], np.arange(4), faultless, np.eye(4, dtype=int)) == ()


def test_metrics_hold_what_scripts_rely_on() -> None:
    found = json.loads(json.dumps(metrics(final_result(accuracies=(0.93, 0.94))), allow_nan=False))
    assert (found["study"], found["trial"], found["dataset"]) == ("fashion", 1, "fashion_mnist")
    test, std = found["test"], np.std([0.93, 0.94], ddof=1)
    told = {"accuracy": 0.935, "error": 0.065, "loss": 0.205, "std": std, "seeds": 2}
    assert {name: test[name] for name in told} == pytest.approx(told)
    assert [run["seed"] for run in test["per_seed"]] == [0, 1]
    assert [run["accuracy"] for run in test["per_seed"]] == pytest.approx([0.93, 0.94])
    assert np.array(found["confusion"]).sum() == 2 * test["images"]
    assert found["validation"]["loss"] == 0.25
    assert found["params"]["learning_rate"] == final_result().trial.values["learning_rate"]
    assert found["parameters"] == sum(layer.parameters for layer in final_result().layers)
    assert set(found) >= {"epochs", "hardware", "versions"}
    assert metrics(final_result(accuracies=(0.93,)))["test"]["std"] is None


def test_a_class_without_test_images_has_no_accuracy() -> None:
    confusion_KK = np.diag([200] * 5)
    confusion_KK[0] += confusion_KK[2]
    confusion_KK[2] = 0
    final = final_result(confusion=confusion_KK.tolist())
    found = by_class(final)
    assert [found[2][name] for name in ("images", "accuracy", "f1")] == [0, None, None]
    assert sum(one["images"] for one in found) == final.test_count
    assert found[1]["accuracy"] == confusion_KK[1, 1] / confusion_KK[1].sum()
    assert found[1]["precision"] == confusion_KK[1, 1] / confusion_KK[:, 1].sum()
    assert metrics(final)["per_class"] == found
    name = final.view.dataset.class_names[2]
    assert f"The test set has no pictures of {name}." in final_text(final)
    assert "no pictures" in final_page(final, {})
    assert "no pictures" not in final_page(final_result(), {}) + final_text(final_result())
