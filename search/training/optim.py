"""Optimisers, the kinds of weight decay, and the learning rate as a function of progress.

The kinds of weight decay, for a weight w, its gradient g of the plain loss and strength λ:

| kind        | what it does                                                              |
|-------------|---------------------------------------------------------------------------|
| `none`      | nothing                                                                   |
| `l2`        | the loss gains λ·Σw², so g becomes g + 2λw                                |
| `coupled`   | the optimiser adds λw to g, before momentum and Adam's scaling            |
| `decoupled` | each step shrinks w by lr·λ·w, beside the gradient (Loshchilov, Hutter 2019) |

`l2` and `coupled` differ by the factor 2 alone. Adam divides both by its running gradient size,
so strongly varying weights are decayed less; `decoupled` treats all weights alike. Only weights
are decayed: biases and batch-norm parameters (one dimension) are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from search.spec.recipe import Recipe, ScheduleName
from search.spec.schedules import SCHEDULES


def learning_rate_factor(schedule: ScheduleName, progress: float) -> float:
    """The learning rate as a share of its peak, after `progress` in [0, 1] of the training.

    constant: 1. step: 1, then 0.1, then 0.01. cosine: from 1 to 0 (Loshchilov & Hutter 2017).
    one-cycle: up from 0.05 over the first fifth, then down to 0, both straight
    (Smith & Topin 2018; the straight descent as in airbench).
    """
    return SCHEDULES[schedule].factor(progress)


def make_optimizer(
    model: nn.Module, recipe: Recipe, learning_rate: torch.Tensor
) -> torch.optim.Optimizer:
    """The recipe's optimiser over the model's parameters, decaying weights only.

    Fused implementations: one pass over the parameters instead of one kernel for each operation.

    Args:
        learning_rate: float32 with one element, on the model's device. It stays the optimiser's
            own, so writing to it sets the rate of the next step, also within a CUDA graph.
    """
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    kind, strength = recipe.weight_decay_kind, recipe.weight_decay
    in_gradient = {"none": 0.0, "l2": 2 * strength, "coupled": strength, "decoupled": 0.0}[kind]
    groups = [
        {"params": weights, "weight_decay": in_gradient},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        # torch has no decoupled SGD: `decay_weights` does that part before each step.
        return torch.optim.SGD(
            groups,
            lr=learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            fused=True,
        )
    if kind == "decoupled":
        groups[0]["weight_decay"] = strength
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    return torch.optim.Adam(groups, lr=learning_rate, fused=True)


def needs_decay_before_step(recipe: Recipe) -> bool:
    """Whether the training step must call `decay_weights` itself."""
    return (
        recipe.optimizer == "sgd"
        and recipe.weight_decay_kind == "decoupled"
        and recipe.weight_decay > 0
    )


@torch.no_grad()
def decay_weights(optimizer: torch.optim.Optimizer, strength: float) -> None:
    """Shrink the weights (the first group) by lr·strength: decoupled decay for SGD."""
    group = optimizer.param_groups[0]
    learning = [weight for weight in group["params"] if weight.requires_grad]
    torch._foreach_mul_(learning, 1 - group["lr"] * strength)


def complete_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give weights that were held fixed so far a momentum of zero.

    A fused SGD refuses weights with and without one together. Zero is what it starts from anyway.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        for weight in group["params"]:
            state = optimizer.state[weight]
            if group["momentum"] > 0 and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(weight)


@contextmanager
def recordable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within it, steps may be recorded into a CUDA graph.

    torch's Adam refuses to be recorded unless it is marked `capturable`, and warns when it is so
    marked and not recorded. A fused one works the same either way: its state is on the device.
    """
    marked = [group for group in optimizer.param_groups if "capturable" in group]
    for group in marked:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in marked:
            group["capturable"] = False


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimiser's `state_dict()`. The learning rate stays the tensor that it was."""
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
