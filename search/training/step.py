"""One training step, over tensors that stay where they are, so that a CUDA graph can hold it.

Shapes: B images a batch, S steps an epoch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from data.augment import make_augment
from data.examples import batch_indices, gather, to_unit
from search.spec.recipe import Recipe
from search.training.averaging import RunningMean, newest_share
from search.training.evaluate import autocast, normalise
from search.training.graphs import UNROLLED, Pool, Replayed
from search.training.initial_weights import freeze
from search.training.optim import (
    complete_momentum,
    decay_weights,
    learning_rate_factor,
    make_optimizer,
    needs_decay_before_step,
    recordable,
)
from search.training.randomness import OwnRandomness
from search.training.task import Task


class Step:
    """The update of a network's weights, told once an epoch what the epoch's steps need.

    Attributes:
        optimizer: the recipe's.
        steps: in an epoch.
        batch_size: of every step.
        learning_rates: of the epoch's steps.
        mean: of the weights, where the recipe wants one.
        totals: float32, on the device: loss and error, summed over the epoch's steps so far.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        task: Task,
        randomness: OwnRandomness,
        pool: Pool,
    ) -> None:
        self._model, self._recipe, self._task, self._randomness = model, recipe, task, randomness
        self.batch_size = min(recipe.batch_size, len(task.training))
        self.steps = len(task.training) // self.batch_size
        self.learning_rates: list[float] = []
        device = task.device
        self.totals = torch.zeros(2, device=device)
        self._order_SB = torch.zeros(self.steps, self.batch_size, dtype=torch.int64, device=device)
        self._rates_S = torch.zeros(self.steps, device=device)
        self.mean = RunningMean(model) if recipe.weight_averaging > 0 else None
        self._shares_S = torch.zeros(self.steps, device=device)
        self._number = torch.zeros(1, dtype=torch.int64, device=device)
        self._rate = torch.tensor(recipe.learning_rate, device=device)
        self.optimizer = make_optimizer(model, recipe, self._rate)
        self._augment = make_augment(
            recipe.augmentation,
            recipe.augmentation_strength,
            mirror_changes_class=task.info.mirror_changes_class,
        )
        self._frozen = False
        self._make_replayed = partial(
            Replayed,
            randomness,
            device,
            pool,
            unrolled=UNROLLED,
            recording=partial(recordable, self.optimizer),
        )
        self._replayed = self._make_replayed()

    def begin_epoch(self, epoch: int) -> None:
        """Shuffle, and set the learning rates, for the epoch after `epoch` whole ones."""
        recipe = self._recipe
        frozen = epoch < recipe.frozen_epochs
        if frozen != self._frozen:
            freeze(self._model, frozen)
            self._frozen = frozen
            self._replayed = self._make_replayed()  # what was recorded is another update
        if epoch == recipe.frozen_epochs > 0:
            complete_momentum(self.optimizer)
        self._order_SB.copy_(
            batch_indices(len(self._task.training), recipe.batch_size, self._randomness.order)
        )
        factors = [
            learning_rate_factor(recipe.schedule, (epoch + step / self.steps) / recipe.epochs)
            for step in range(self.steps)
        ]
        self.learning_rates = [recipe.learning_rate * factor for factor in factors]
        self._rates_S.copy_(torch.tensor(self.learning_rates))
        before = epoch * self.steps
        shares = [
            newest_share(recipe.weight_averaging, before + step, factor)
            for step, factor in enumerate(factors)
        ]
        self._shares_S.copy_(torch.tensor(shares))
        self._number.zero_()
        self.totals.zero_()

    def run(self, steps: int) -> None:
        """The epoch's next steps; on CUDA they have only been enqueued on return."""
        self._replayed.call(self._update, steps)

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
        if needs_decay_before_step(recipe):
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
