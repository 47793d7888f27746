"""Which device a name selects, and how many cores a process counts as its own."""

import os
import sys
from unittest.mock import Mock

import pytest
import torch

from search.running.pool import default_workers
from search.spec.domains import SpecError
from search.training.device import (
    available_cores,
    check_device,
    choose_device,
    kept_threads,
    prepare_process,
)
from search.training.epoch import DeviceLostError


def test_a_gpu_that_torch_cannot_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver too old for torch, `device_count` still counts it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(SpecError, match="no GPU 'cuda': 0 found"):
        choose_device("cuda")


def test_cuda_counts_gpus_not_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that are divided by MIG, it gives a process one part; the driver counts both."""
    counts = [2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: counts.append(1))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: counts[-1])
    assert choose_device("cpu") == torch.device("cpu")
    assert counts == [2]  # CUDA is left alone
    assert choose_device("auto") == torch.device("cuda")
    with pytest.raises(SpecError, match="no GPU 'cuda:1': 1 found"):
        choose_device("cuda:1")


def test_a_lost_gpu_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Mock()
    monkeypatch.setattr(torch.cuda, "synchronize", answers)
    check_device(torch.device("cuda:1"))
    answers.side_effect = RuntimeError("CUDA error: unknown error\nCompile with TORCH_USE_CUDA_DSA")
    with pytest.raises(DeviceLostError, match=r"lost cuda:1 \(CUDA error: unknown error\); run"):
        check_device(torch.device("cuda:1"))
    check_device(torch.device("cpu"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tie no process to a core")
def test_a_process_counts_the_cores_that_it_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        with kept_threads():
            torch.set_num_threads(2)
            prepare_process()
            assert (available_cores(), default_workers("cpu"), torch.get_num_threads()) == (1, 1, 1)
    finally:
        os.sched_setaffinity(0, allowed)
