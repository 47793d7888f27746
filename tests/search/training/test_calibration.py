"""The best temperature, against a search over a grid and against logits made with a known one."""

import numpy as np
import pytest
import torch

from search.training.calibration import TEMPERATURES, fit_temperature, loss_at


def logits_and_labels(scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels drawn from the softmax of some logits, which are then scaled."""
    generator = torch.Generator().manual_seed(seed)
    true_NK = 2 * torch.randn(20_000, 10, generator=generator)
    labels_N = torch.multinomial(true_NK.softmax(1), 1, generator=generator)[:, 0]
    return true_NK * scale, labels_N


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_finds_the_temperature_that_logits_were_made_with(scale: float) -> None:
    logits_NK, labels_N = logits_and_labels(scale)
    assert fit_temperature(logits_NK, labels_N) == pytest.approx(scale, rel=0.03)


def test_no_temperature_of_a_grid_is_better() -> None:
    logits_NK, labels_N = logits_and_labels(1.7)
    found = loss_at(logits_NK, labels_N, fit_temperature(logits_NK, labels_N))
    grid = np.geomspace(*TEMPERATURES, 200)
    assert found <= min(loss_at(logits_NK, labels_N, float(t)) for t in grid) + 1e-12


def test_order_of_the_classes_does_not_change() -> None:
    logits_NK, labels_N = logits_and_labels(1.7)
    scaled_NK = logits_NK / fit_temperature(logits_NK, labels_N)
    assert torch.equal(scaled_NK.argmax(1), logits_NK.argmax(1))


def test_extremes() -> None:
    labels_N = torch.arange(10).repeat(10)
    perfect_NK = torch.nn.functional.one_hot(labels_N).float()
    assert fit_temperature(perfect_NK, labels_N) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature(-perfect_NK, labels_N) == pytest.approx(TEMPERATURES[1], rel=1e-3)
    assert fit_temperature(torch.full((100, 10), torch.nan), labels_N) == 1.0
