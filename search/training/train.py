"""Training as an iterator of epochs.

Whoever holds the iterator decides: take the next epoch, stop, keep `state()` and go on later
(also in another process), or take epochs of many trainings in turn.

Shapes: B images a batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from data.augment import augment, policy
from data.batches import batch_indices, gather, to_unit
from models import Architecture, build
from search.training.evaluate import Score, autocast, evaluate, normalise
from search.training.optim import (
    decay_weights,
    learning_rate_factor,
    make_optimizer,
    needs_decay_before_step,
    set_learning_rate,
)
from search.training.randomness import OwnRandomness
from search.training.recipe import Recipe
from search.training.task import Task

EARLY_LOOK = 1 / 3  # of the first epoch: bad configurations show by then


class StoppedError(Exception):
    """The training was asked to stop between two steps; its last `state()` still holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """What one epoch did.

    Attributes:
        number: 1 for the first; 0 is the early look, taken inside the first epoch.
        train_loss, train_error: means over the epoch's steps, as the weights changed, on
            augmented images and with dropout; cross entropy without label smoothing.
        validation_loss, validation_error: afterwards, on unaugmented images, without dropout.
        learning_rate: at the last step.
        seconds, images: spent and trained on since the last report (validation included).
    """

    number: int
    train_loss: float
    train_error: float
    validation_loss: float
    validation_error: float
    learning_rate: float
    seconds: float
    images: int


class Training(Iterator[Epoch]):
    """Iterator of epochs; made by `train`.

    Attributes:
        model: the network, on the task's device.
        epoch: how many epochs are done.
    """

    def __init__(
        self,
        architecture: Architecture,
        recipe: Recipe,
        task: Task,
        seed: int,
        stop: threading.Event | None,
        early_look: bool,
    ) -> None:
        self._recipe, self._task, self._stop = recipe, task, stop
        self._randomness = OwnRandomness(seed, task.device)
        with self._randomness:
            network = build(architecture, task.image_shape, task.classes)
        self.model = network.to(task.device).to(memory_format=torch.channels_last)
        self.epoch = 0
        self._optimizer = make_optimizer(self.model, recipe)
        self._policy = policy(
            recipe.augmentation,
            recipe.augmentation_strength,
            mirror_changes_class=task.info.mirror_changes_class,
        )
        self._best_loss = math.inf
        self._best_epoch = 0
        self._early_look = early_look
        self._epochs = self._run()

    def __next__(self) -> Epoch:
        with self._randomness:
            return next(self._epochs)

    def _run(self) -> Iterator[Epoch]:
        recipe, task = self._recipe, self._task
        steps = max(1, len(task.training) // recipe.batch_size)
        look_at = math.ceil(steps * EARLY_LOOK) if self._early_look else steps
        self.model.train()
        while self.epoch < recipe.epochs and not self._out_of_patience():
            totals = torch.zeros(2, device=task.device)
            clock = _Clock()
            order = batch_indices(
                len(task.training), recipe.batch_size, generator=self._randomness.order
            )
            for step, indices_B in enumerate(order):
                if self._stop is not None and self._stop.is_set():
                    raise StoppedError
                if self.epoch == 0 and step == look_at:
                    yield self._report(0, totals, step, clock)
                totals += self._step(indices_B, (self.epoch + step / steps) / recipe.epochs)
            self.epoch += 1
            epoch = self._report(self.epoch, totals, steps, clock)
            if epoch.validation_loss < self._best_loss:
                self._best_loss, self._best_epoch = epoch.validation_loss, self.epoch
            yield epoch

    def _step(self, indices_B: torch.Tensor, progress: float) -> torch.Tensor:
        """One update of the weights; returns (loss, error), still on the device."""
        recipe, task, optimizer = self._recipe, self._task, self._optimizer
        images_BCHW = to_unit(gather(task.training.images_NCHW, indices_B))
        images_BCHW = augment(images_BCHW, self._policy, self._randomness.augmentation)
        labels_B = task.training.labels_N[indices_B]

        with autocast(task.device):
            logits_BK = self.model(normalise(images_BCHW, task.mean_C, task.std_C))
            loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.gradient_clip)
        set_learning_rate(
            optimizer, recipe.learning_rate * learning_rate_factor(recipe.schedule, progress)
        )
        if needs_decay_before_step(recipe):
            decay_weights(optimizer, recipe.weight_decay)
        optimizer.step()

        with torch.no_grad():
            if recipe.label_smoothing > 0:
                loss = F.cross_entropy(logits_BK.float(), labels_B)
            wrong = (logits_BK.argmax(1) != labels_B).float().mean()
            return torch.stack((loss.detach().float(), wrong))

    def _report(self, number: int, totals: torch.Tensor, steps: int, clock: _Clock) -> Epoch:
        validation = self.evaluate()
        train_loss, train_error = (totals / steps).tolist()
        images = steps * min(self._recipe.batch_size, len(self._task.training))
        return Epoch(
            number=number,
            train_loss=train_loss,
            train_error=train_error,
            validation_loss=validation.loss,
            validation_error=validation.error,
            learning_rate=self._optimizer.param_groups[0]["lr"],
            seconds=clock.lap(),
            images=clock.since_last(images),
        )

    def evaluate(self) -> Score:
        """Score of the network as it is, on the validation examples."""
        task = self._task
        return evaluate(self.model, task.validation, task.mean_C, task.std_C)

    def _out_of_patience(self) -> bool:
        patience = self._recipe.patience
        return patience is not None and self.epoch - self._best_epoch >= patience

    def state(self) -> dict[str, Any]:
        """All that decides how the training goes on. Valid between two epochs only."""
        return {
            "epoch": self.epoch,
            "best_loss": self._best_loss,
            "best_epoch": self._best_epoch,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "randomness": self._randomness.state(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self._best_loss = state["best_loss"]
        self._best_epoch = state["best_epoch"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._randomness.load(state["randomness"])


def train(
    architecture: Architecture,
    recipe: Recipe,
    task: Task,
    *,
    seed: int,
    state: dict[str, Any] | None = None,
    stop: threading.Event | None = None,
    early_look: bool = False,
) -> Training:
    """Train one network on the task's device, an epoch for each `next()`.

    Args:
        seed: decides initial weights, order of the examples, augmentation and dropout. On one
            machine with one number of threads, the same seed gives the same curve to the bit
            on a CPU.
        state: from `Training.state()` of the same arguments: goes on from there, on a CPU to
            the bit as if it had never stopped.
        stop: once set, `next()` raises `StoppedError` at the next step.
        early_look: also report, as epoch 0, after a third of the first epoch.

    Raises:
        models.ArchitectureError: the architecture does not fit the task's images.
    """
    training = Training(architecture, recipe, task, seed, stop, early_look)
    if state is not None:
        training._load(state)
    return training


class _Clock:
    """Seconds and images since the last report within one epoch."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._images = 0

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        return seconds

    def since_last(self, images: int) -> int:
        new, self._images = images - self._images, images
        return new
