"""The registry's metrics by hand and against a grid; named ones come with every epoch."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from models import ConvNetConfig
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.recipe import Recipe
from search.spec.study_file import read_study_file
from search.training.metrics import (
    CALIBRATION_BINS,
    HIGHEST_TEMPERATURE,
    METRICS,
    Metric,
    calibration_error,
    fit_temperature,
    loss_at,
    reliability,
)
from search.training.task import Task, logits
from search.training.train import train
from search.training.weights import check_training


def test_extreme_temperatures() -> None:
    labels_N = torch.arange(10).repeat(10)
    perfect_NK = F.one_hot(labels_N).float()
    highest = HIGHEST_TEMPERATURE
    assert float(fit_temperature(perfect_NK, labels_N)) == pytest.approx(1 / highest, rel=1e-5)
    assert float(fit_temperature(-perfect_NK, labels_N)) == pytest.approx(highest, rel=1e-5)
    for value in (torch.nan, torch.inf, -torch.inf):
        assert float(fit_temperature(perfect_NK.index_fill(1, labels_N[:1], value), labels_N)) == 1
    assert float(fit_temperature(torch.zeros(100, 10), labels_N)) == 1  # all are equally good


def test_the_temperature_equals_scipys_on_a_trained_networks_logits(
    network: ConvNetConfig, task: Task
) -> None:
    """Some labels are wrong: if all predictions were right, no temperature would be best."""
    labels_N = task.validation.labels_N.clone()
    labels_N[::7] = 0
    noisy = dataclasses.replace(task.validation, labels_N=labels_N)
    task = dataclasses.replace(task, validation=noisy)
    training = train(network, Recipe(epochs=8, batch_size=32, learning_rate=3e-3), task, seed=1)
    for epoch in training:
        images_NCHW = task.validation.images_NCHW
        found_NK = logits(training.model, images_NCHW, task.mean_C, task.std_C)
        best = minimize_scalar(
            lambda exponent, found_NK=found_NK: float(
                F.cross_entropy(found_NK.double() / math.exp(exponent), labels_N)
            ),
            bounds=(-math.log(HIGHEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert epoch.metrics["temperature"] == pytest.approx(math.exp(best.x), rel=1e-4)
        assert epoch.metrics["calibrated_loss"] == pytest.approx(best.fun, rel=1e-6)
        assert epoch.metrics["calibrated_loss"] <= epoch.validation_loss


def test_calibration_error_equals_a_plain_loop() -> None:
    """A fitted temperature removes it, except for sampling noise."""
    generator = torch.Generator().manual_seed(0)
    true_NK = 2 * torch.randn(20_000, 10, generator=generator)
    labels_N = torch.multinomial(true_NK.softmax(1), 1, generator=generator)[:, 0]
    logits_NK = 3 * true_NK
    assert float(fit_temperature(logits_NK, labels_N)) == pytest.approx(3, rel=0.03)
    before, after = (
        calibration_error(reliability(it.softmax(1), labels_N)) for it in (logits_NK, logits_NK / 3)
    )
    assert before > 0.1 > 0.015 > after
    loss = F.cross_entropy(logits_NK.double() / 3, labels_N)
    assert float(loss_at(logits_NK, labels_N, 3.0)) == pytest.approx(float(loss))
    for error, scaled_NK in ((before, logits_NK), (after, logits_NK / 3)):
        confidences_N, predicted_N = scaled_NK.softmax(1).double().max(1)
        right_N, total = predicted_N == labels_N, 0.0
        for low in range(CALIBRATION_BINS):
            inside = (confidences_N >= low / CALIBRATION_BINS) & (
                confidences_N < (low + 1) / CALIBRATION_BINS + (low == CALIBRATION_BINS - 1)
            )
            gap = float((right_N[inside].double() - confidences_N[inside]).sum())
            total += abs(gap) / len(labels_N)
        assert error == pytest.approx(total, abs=1e-9)


def test_many_examples_are_doubled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_NK, labels_N = torch.randn(1003, 7), torch.arange(1003) % 7
    whole, seen, plain = loss_at(logits_NK, labels_N, 3.0), [], F.cross_entropy
    assert torch.equal(whole, plain(logits_NK.double() / 3, labels_N))

    def watched(some_NK: torch.Tensor, some_N: torch.Tensor) -> torch.Tensor:
        seen.append(some_NK.numel())
        return plain(some_NK, some_N)

    monkeypatch.setattr(F, "cross_entropy", watched)
    monkeypatch.setattr("search.training.metrics.MOST_DOUBLES", 700, raising=False)
    assert float(loss_at(logits_NK, labels_N, 3.0)) == pytest.approx(float(whole), rel=1e-12)
    assert (len(seen), max(seen)) == (11, 700)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_described_and_prefers_a_good_network(name: str) -> None:
    metric = METRICS[name]
    assert metric.description
    assert "\n" not in metric.description
    labels_N = torch.arange(10).repeat(10)
    right_NK = F.one_hot(labels_N, 10).float()
    good, bad = (metric.compute(found_NK, labels_N) for found_NK in (right_NK, -right_NK))
    assert (good > bad) == metric.higher_is_better


def test_named_metrics_come_with_every_report_and_change_nothing(
    network: ConvNetConfig, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that writes to what it gets."""

    def overwriting(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> float:
        logits_NK.zero_()
        labels_N.zero_()
        return math.pi

    own = Metric(description="a person's", higher_is_better=False, compute=overwriting)
    monkeypatch.setitem(METRICS, "own", own)
    recipe = Recipe(epochs=2, batch_size=32, weight_averaging=0.2)
    plain = list(train(network, recipe, task, seed=1, partial_epoch=True))
    names, labels_N = ("own", "accuracy", "macro_f1"), task.validation.labels_N.clone()
    training = train(network, recipe, task, seed=1, partial_epoch=True, metrics=names)
    for epoch, other in zip(training, plain, strict=True):
        assert tuple(epoch.metrics) == (*other.metrics, *names)
        assert epoch.metrics["own"] == math.pi
        assert epoch.metrics["accuracy"] == pytest.approx(1 - epoch.validation_error)
        assert epoch.validation_loss == other.validation_loss
        assert epoch.validation_error == other.validation_error
        assert tuple(other.metrics) == ("temperature", "calibrated_loss")
    found_NK = logits(training.model, task.validation.images_NCHW, task.mean_C, task.std_C)
    expected = METRICS["macro_f1"].compute(found_NK, task.validation.labels_N)
    assert epoch.metrics["macro_f1"] == pytest.approx(expected)
    assert torch.equal(task.validation.labels_N, labels_N)
    assert training.confusion().sum(1).tolist() == labels_N.bincount().tolist()


def test_a_study_file_names_metrics(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('[study]\ndataset = "digits"\nmetrics = ["macro_f1", "macro_f1", "recall"]\n')
    spec = StudySpec(**read_study_file(file))
    assert spec.metrics == ("macro_f1", "recall")
    assert StudySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(SpecError, match="unknown metric 'recall'; known are accuracy"):
        check_training(spec, (1, 8, 8), 10)
    with pytest.raises(SpecError, match="a list of names"):
        StudySpec(dataset="digits", metrics=(1,))  # type: ignore[arg-type]
