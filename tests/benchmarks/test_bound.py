"""The bound of the small network, counted by hand."""

import pytest
import torch

from benchmarks.bound import measured_rates, training_cost
from benchmarks.workload import NETWORKS


def test_the_cost_of_the_small_network_by_hand() -> None:
    found = training_cost(NETWORKS["small"], (1, 28, 28), 10, batch_size=128)
    multiply_adds = 26 * 26 * 32 * 9 + 11 * 11 * 64 * 32 * 9 + 64 * 5 * 5 * 120 + 120 * 84 + 84 * 10
    values = 32 * 26 * 26 + 32 * 13 * 13 + 64 * 11 * 11 + 64 * 5 * 5 + 120 + 84 + 10
    assert found.flops == 6 * multiply_adds
    assert found.bytes == pytest.approx(5 * 2 * values + 8 * 4 * 221_950 / 128)


def test_rates_are_measured() -> None:
    found = measured_rates(torch.device("cpu"), side=64, block=2**16)
    assert 1e6 < found.flops < 1e15
    assert 1e6 < found.bytes < 1e15
