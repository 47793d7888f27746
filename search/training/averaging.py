"""The running mean of a network's weights: at any time close to what an annealed rate would give.

At a high learning rate weights move around where they are going, and the loss says more of that
noise than of the configuration. Their mean over the last steps lies where they are going (Polyak &
Juditsky 1992; Izmailov et al. 2018, "Averaging weights leads to wider optima"), so trials can be
told apart long before their schedules end.

The mean reaches back over a share of the steps so far (Shamir & Zhang 2013), in proportion to the
learning rate. Where the rate goes to zero the mean becomes the network itself: whoever trains a
one-cycle or cosine schedule to its end has the same network with and without it.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


def newest_share(reach: float, steps_before: int, rate_factor: float) -> float:
    """What share of the mean the newest weights get, in (0, 1].

    Args:
        reach: over what share of the steps so far the mean reaches back at the peak rate, >= 0.
        rate_factor: the learning rate as a share of its peak.
    """
    return 1 / (1 + reach * steps_before * rate_factor)


class RunningMean:
    """A second network whose weights, and batch-norm statistics, follow the first one's.

    Attributes:
        model: the mean network. In evaluation mode, on the first one's device.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._newest, self._mean = _tensors(model), _tensors(self.model)

    @torch.no_grad()
    def update(self, share: torch.Tensor) -> None:
        """Move towards the first network; nothing waits, so that a CUDA graph can hold it.

        Args:
            share: from `newest_share`, float32 without dimensions, on the device.
        """
        way = torch._foreach_sub(self._newest, self._mean)
        torch._foreach_mul_(way, share)
        torch._foreach_add_(self._mean, way)


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    """All that is learned or measured; not the counters."""
    found = [*model.parameters(), *model.buffers()]
    return [tensor.detach() for tensor in found if tensor.is_floating_point()]
