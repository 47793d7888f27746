"""Which device a name means."""

import pytest
import torch

from search.training.device import choose_device
from search.training.epoch import DeviceError


def test_a_gpu_that_torch_cannot_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver too old for torch, `device_count` still counts it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match="no GPU 'cuda' of 0"):
        choose_device("cuda")
