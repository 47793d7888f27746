"""One training step, on tensors that stay in place, so that a CUDA graph can record it.

The kinds of weight decay, for a weight w, its gradient g of the plain loss and strength λ:

| kind        | what it does                                                              |
|-------------|---------------------------------------------------------------------------|
| `none`      | nothing                                                                   |
| `l2`        | the loss gains λ·Σw², so g becomes g + 2λw                                |
| `coupled`   | the optimiser adds λw to g, before momentum and Adam's scaling            |
| `decoupled` | each step shrinks w by lr·λ·w, beside the gradient (Loshchilov, Hutter 2019) |

`l2` and `coupled` differ only by the factor 2. Adam divides both by its running gradient size,
so strongly varying weights are decayed less; `decoupled` treats all weights alike. Only weights
are decayed: biases and batch-norm parameters (one dimension) are left alone.

Shapes: B images per batch, S steps per epoch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from data.augment import make_augment
from data.examples import batch_indices, gather, to_unit
from search.spec.recipe import Recipe
from search.spec.schedules import SCHEDULES
from search.training.graphs import UNROLLED, OwnRandomness, Pool, Replayed
from search.training.task import Task, autocast, normalise
from search.training.weights import NEW_LAYER


class Step:
    """Updates a network's weights; set up once per epoch for the epoch's steps."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, task: Task, randomness: OwnRandomness, pool: Pool
    ) -> None:
        self._model, self._recipe, self._task, self._randomness = model, recipe, task, randomness
        self.batch_size = min(recipe.batch_size, len(task.training))
        self.steps = len(task.training) // self.batch_size  # per epoch
        self.learning_rates: list[float] = []  # of the epoch's steps
        device = task.device
        self.totals = torch.zeros(2, device=device)  # loss and error, summed over the steps so far
        self._order_SB = torch.zeros(self.steps, self.batch_size, dtype=torch.int64, device=device)
        self._rates_S = torch.zeros(self.steps, device=device)
        self._shares_S = torch.zeros(self.steps, device=device)
        self._number = torch.zeros(1, dtype=torch.int64, device=device)
        self._rate = torch.tensor(recipe.learning_rate, device=device)
        self.optimizer = make_optimizer(model, recipe, self._rate)
        self.mean = RunningMean(model) if recipe.weight_averaging > 0 else None
        self._augment = make_augment(
            recipe.augmentation,
            recipe.augmentation_strength,
            mirror_changes_class=task.info.mirror_changes_class,
        )
        recording = partial(recordable, self.optimizer)
        self._make_replayed = partial(
            Replayed, randomness, device, pool, unrolled=UNROLLED, recording=recording
        )
        self._frozen = False
        self._replayed = self._make_replayed()

    def begin_epoch(self, epoch: int) -> None:
        """Shuffle and set the learning rates for the next epoch, after `epoch` complete ones."""
        recipe = self._recipe
        frozen = epoch < recipe.frozen_epochs
        if frozen != self._frozen:
            # Batch norm's running statistics keep following the images.
            for name, parameter in self._model.named_parameters():
                if not name.startswith(NEW_LAYER):
                    parameter.requires_grad_(not frozen)
                    parameter.grad = None
            self._frozen = frozen
            self._replayed = self._make_replayed()  # the recorded update no longer applies
        if epoch == recipe.frozen_epochs > 0:
            complete_momentum(self.optimizer)
        count, order = len(self._task.training), self._randomness.order
        self._order_SB.copy_(batch_indices(count, recipe.batch_size, order))
        schedule = SCHEDULES[recipe.schedule]
        factors = [
            schedule.factor((epoch + step / self.steps) / recipe.epochs)
            for step in range(self.steps)
        ]
        self.learning_rates = [recipe.learning_rate * factor for factor in factors]
        self._rates_S.copy_(torch.tensor(self.learning_rates))
        shares = [
            newest_share(recipe.weight_averaging, epoch * self.steps + step, factor)
            for step, factor in enumerate(factors)
        ]
        self._shares_S.copy_(torch.tensor(shares))
        self._number.zero_()
        self.totals.zero_()

    def run(self, steps: int) -> None:
        """Run the epoch's next steps; on CUDA they are only enqueued on return."""
        self._replayed.call(self._update, steps)
        if self.mean is not None:
            self.mean.follow()

    def _update(self) -> None:
        """One step. Nothing in it depends on a value that Python would have to wait for."""
        recipe, task, optimizer = self._recipe, self._task, self.optimizer
        indices_B = self._order_SB.index_select(0, self._number)[0]
        images_BCHW = to_unit(gather(task.training.images_NCHW, indices_B))
        images_BCHW = self._augment(images_BCHW, self._randomness.augmentation)
        labels_B = task.training.labels_N.index_select(0, indices_B)

        with autocast(task.device):
            logits_BK = self._model(normalise(images_BCHW, task.mean_C, task.std_C))
            loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), recipe.gradient_clip)
        self._rate.copy_(self._rates_S.index_select(0, self._number)[0])
        if recipe.optimizer == "sgd" and recipe.weight_decay_kind == "decoupled":
            decay_weights(optimizer, recipe.weight_decay)
        optimizer.step()
        if self.mean is not None:
            self.mean.update(self._shares_S.index_select(0, self._number)[0])

        with torch.no_grad():
            if recipe.label_smoothing > 0:
                loss = F.cross_entropy(logits_BK.float(), labels_B)
            wrong = (logits_BK.argmax(1) != labels_B).float().mean()
            self.totals += torch.stack((loss.detach().float(), wrong))
            self._number += 1


def make_optimizer(
    model: nn.Module, recipe: Recipe, learning_rate: torch.Tensor
) -> torch.optim.Optimizer:
    """The recipe's optimiser over the model's parameters, fused: one kernel for all of them.

    Writing to `learning_rate`, float32 with one element on the model's device, sets the rate of
    the next step, also within a CUDA graph.
    """
    learning = [p for p in model.parameters() if p.requires_grad]
    kind, strength = recipe.weight_decay_kind, recipe.weight_decay
    # torch has no decoupled SGD: `decay_weights` does that part before each step.
    apart = 0.0 if recipe.optimizer == "sgd" else strength
    decay = {"none": 0.0, "l2": 2 * strength, "coupled": strength, "decoupled": apart}[kind]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        momentum = recipe.momentum
        return torch.optim.SGD(
            groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True
        )
    adam = torch.optim.AdamW if kind == "decoupled" else torch.optim.Adam
    return adam(groups, lr=learning_rate, fused=True)


@torch.no_grad()
def decay_weights(optimizer: torch.optim.Optimizer, strength: float) -> None:
    """Shrink the weights (the first group) by lr·strength: decoupled decay for SGD."""
    group = optimizer.param_groups[0]
    factor = 1 - group["lr"] * strength
    for weight in group["params"]:
        if weight.requires_grad:
            weight.mul_(factor)


def complete_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give weights that were frozen a momentum of zero: a fused SGD refuses a mixture."""
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        for weight in group["params"]:
            state = optimizer.state[weight]
            if group["momentum"] > 0 and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(weight)


@contextmanager
def recordable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within this context, steps may be recorded into a CUDA graph.

    torch's Adam refuses to be recorded unless it is marked `capturable`, and warns if it is marked
    but not recorded. A fused one works the same either way: its state is on the device.
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
    """Load an optimiser's `state_dict()`. The learning rate remains the same tensor."""
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def newest_share(reach: float, steps_before: int, rate_factor: float) -> float:
    """The share of the newest weights in the running mean, in (0, 1].

    At the peak rate the mean reaches back over the share `reach` of the steps so far. As the rate
    falls to 0, it becomes the network itself: a one-cycle schedule ends as without averaging.
    """
    return 1 / (1 + reach * steps_before * rate_factor)


class RunningMean:
    """A second network whose weights, and batch-norm statistics, follow the first one's.

    What has no mean, such as counters, and masks that hold infinity, it has from the first network.

    At a high learning rate the weights move around the point that they are heading for, and the
    loss reflects that noise more than the configuration. Their mean over the last steps, a share
    of those so far (Shamir & Zhang 2013), is close to that point (Polyak & Juditsky 1992; Izmailov
    et al. 2018), so trials can be told apart long before their schedules end.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)  # the mean network
        mean: list[torch.Tensor] = []
        self._copied: list[tuple[torch.Tensor, torch.Tensor]] = []
        # One fused kernel: with these arguments SGD moves the mean by share · (newest - mean).
        tensors = (
            [it.detach() for it in (*of.parameters(), *of.buffers())] for of in (self.model, model)
        )
        for mean_tensor, newest_tensor in zip(*tensors, strict=True):
            if newest_tensor.is_floating_point() and newest_tensor.isfinite().all():
                mean_tensor.grad = newest_tensor
                mean.append(mean_tensor)
            else:
                self._copied.append((mean_tensor, newest_tensor))
        self._share = torch.ones((), device=mean[0].device)
        self._optimizer = torch.optim.SGD(
            mean, lr=self._share, weight_decay=1.0, maximize=True, fused=True
        )

    def update(self, share: torch.Tensor) -> None:
        """Move by `share`, float32 on the device, towards the first network, without waiting."""
        self._share.copy_(share)
        self._optimizer.step()

    def follow(self) -> None:
        """Take what has no mean as the first network has it now."""
        for mean_tensor, newest_tensor in self._copied:
            mean_tensor.copy_(newest_tensor)
