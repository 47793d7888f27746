"""Training as an iterator of epochs.

Whoever holds the iterator decides: take the next epoch, stop, keep `state()` and go on later
(also in another process), or advance many trainings in turn.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from data.examples import Examples
from models import Architecture, build
from search.spec.recipe import EARLY_LOOK, Recipe
from search.training.epoch import Epoch, Score, StoppedError
from search.training.evaluate import confusion, evaluate, logits, loss_and_error
from search.training.graphs import Replayed, graph_pool, mark, own_stream
from search.training.initial_weights import start_from
from search.training.optim import load_optimizer
from search.training.randomness import OwnRandomness
from search.training.step import Step
from search.training.task import Task

# On a CPU a step takes long enough to be a slice; on a GPU it takes about 0.1 ms.
SLICE_STEPS = {"cpu": 1, "cuda": 32}
SLICES_AHEAD = 2  # enqueued at most: one at work while the next one is prepared


class Training(Iterator[Epoch]):
    """Iterator of epochs; made by `train`.

    Attributes:
        learning: the network that learns, on the task's device.
        model: the one that is validated and kept: the same, or the mean of its weights where the
            recipe wants that.
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
        self._on_stream = own_stream(self, task.device)
        with self._on_stream, self._randomness:
            network = build(architecture, task.image_shape, task.classes)
            if recipe.initial_weights is not None:
                start_from(network, architecture, recipe.initial_weights)
            self.learning = network.to(task.device).to(memory_format=torch.channels_last)
            pool = graph_pool(task.device)
            self._step = Step(self.learning, recipe, task, self._randomness, pool)
            mean = self._step.mean
            self.model = self.learning if mean is None else mean.model
            self._score = torch.full((2,), math.nan, device=task.device)
            self._confusion_KK = task.training.labels_N.new_zeros(task.classes, task.classes)
            self._validated = False  # as the network is now, on all examples
            self._validate = Replayed(self._randomness, task.device, pool)
        self.epoch = 0
        self._best_loss = math.inf
        self._best_epoch = 0
        self._early_look = early_look
        self._enqueued: deque[Callable[[], None]] = deque()  # each waits for its slice
        self._clock = _Clock()
        self._portions = self._run()

    def __next__(self) -> Epoch:
        with self._on_stream, self._randomness, self._clock:
            while (epoch := next(self._portions)) is None:
                pass
        return epoch

    def slices(self) -> Iterator[Epoch | None]:
        """The same training in smaller portions: None after each that has nothing to report.

        For many trainings that share a GPU and are advanced in turn. A slice is only enqueued
        there, so that the device has work of all of them, and nothing waits but for this
        training's own slice before last, or for the figures about to be reported.

        Raises:
            StoppedError: as for `next()`.
        """
        while True:
            with self._on_stream, self._randomness, self._clock:
                try:
                    portion = next(self._portions)
                except StopIteration:
                    return
            yield portion

    def _run(self) -> Generator[Epoch | None, None, None]:
        recipe, step = self._recipe, self._step
        look_at = math.ceil(step.steps * EARLY_LOOK)
        while self.epoch < recipe.epochs and not self._out_of_patience():
            self._clock.begin_epoch()
            looks = self._early_look and self.epoch == 0 and look_at < step.steps
            self.learning.train()
            step.begin_epoch(self.epoch)
            self._validated = False
            done = 0
            for end in _slice_ends(step.steps, SLICE_STEPS[self._task.device.type], look_at):
                if self._stop is not None and self._stop.is_set():
                    raise StoppedError
                self._wait_for_earlier_slices()
                step.run(end - done)
                self._enqueued.append(mark(self._task.device))
                done = end
                yield None
                if looks and done == look_at:
                    self._score_on(self._task.early_validation)
                    figures = self._figures()
                    yield None
                    yield self._report(0, figures, done)
            self._measure()
            figures = self._figures()
            yield None
            self.epoch += 1
            epoch = self._report(self.epoch, figures, done)
            if epoch.validation_loss < self._best_loss:
                self._best_loss, self._best_epoch = epoch.validation_loss, self.epoch
            yield epoch

    def _wait_for_earlier_slices(self) -> None:
        """So that a GPU always has work, and yet is heard within moments of being told to stop."""
        while len(self._enqueued) >= SLICES_AHEAD:
            self._enqueued.popleft()()

    def _measure(self) -> None:
        """Score the network on all validation examples; nothing waits for it."""
        self._validate.call(partial(self._score_on, self._task.validation))
        self._validated = True

    def _score_on(self, examples: Examples) -> None:
        if len(examples) == 0:
            return  # a final training has none
        task = self._task
        found_NK = logits(self.model, examples.images_NCHW, task.mean_C, task.std_C)
        self._score.copy_(loss_and_error(found_NK, examples.labels_N))
        self._confusion_KK.copy_(confusion(found_NK, examples.labels_N))

    def _figures(self) -> _Figures:
        """Have the sums so far sent here; nothing waits for them."""
        figures = torch.cat((self._step.totals, self._score)).to("cpu", non_blocking=True)
        return _Figures(values=figures, wait=mark(self._task.device))

    def _report(self, number: int, figures: _Figures, steps: int) -> Epoch:
        figures.wait()
        self._enqueued.clear()  # all done
        loss_sum, error_sum, validation_loss, validation_error = figures.values.tolist()
        return Epoch(
            epoch=number,
            train_loss=loss_sum / steps,
            train_error=error_sum / steps,
            validation_loss=validation_loss,
            validation_error=validation_error,
            learning_rate=self._step.learning_rates[steps - 1],
            seconds=self._clock.lap(),
            images=self._clock.since_last(steps * self._step.batch_size),
        )

    def evaluate(self) -> Score:
        """Score of the network as it is, on the validation examples."""
        task = self._task
        with self._on_stream:
            return evaluate(self.model, task.validation, task.mean_C, task.std_C)

    def confusion(self) -> torch.Tensor:
        """Validation examples by true and predicted class, (K, K), of the network as it is."""
        with self._on_stream, self._randomness:
            if not self._validated:  # it was carried on from a checkpoint
                self._measure()
            return self._confusion_KK.to("cpu", copy=True)

    def _out_of_patience(self) -> bool:
        patience = self._recipe.patience
        return patience is not None and self.epoch - self._best_epoch >= patience

    def close(self) -> None:
        """End it here, so that all it holds is freed with the last reference to it, and at once."""
        self._portions.close()

    def state(self) -> dict[str, Any]:
        """All that decides how the training goes on. Valid between two epochs only."""
        return {
            "epoch": self.epoch,
            "best_loss": self._best_loss,
            "best_epoch": self._best_epoch,
            "model": self.learning.state_dict(),
            "mean": None if self._step.mean is None else self.model.state_dict(),
            "optimizer": self._step.optimizer.state_dict(),
            "randomness": self._randomness.state(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self._best_loss = state["best_loss"]
        self._best_epoch = state["best_epoch"]
        with self._on_stream:
            self.learning.load_state_dict(state["model"])
            if self._step.mean is not None:
                self.model.load_state_dict(state["mean"])
            load_optimizer(self._step.optimizer, state["optimizer"])
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
        state: from `Training.state()` of the same arguments: goes on from there, on a CPU with
            as many threads to the bit as if it had never stopped.
        stop: once set, `next()` raises `StoppedError` at the next step.
        early_look: also report, as epoch 0, after `EARLY_LOOK` of the first epoch.

    Raises:
        models.ArchitectureError: the architecture does not fit the task's images.
        WeightsError: the recipe's initial weights cannot be read, or do not fit.
    """
    training = Training(architecture, recipe, task, seed, stop, early_look)
    if state is not None:
        training._load(state)
    return training


def _slice_ends(steps: int, slice_steps: int, look_at: int) -> list[int]:
    """After which of the epoch's steps a slice ends; the early look is at the end of one."""
    return sorted({*range(slice_steps, steps, slice_steps), look_at, steps})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Figures:
    """Sums of training loss and error, validation loss and error: (4,), valid after `wait()`."""

    values: torch.Tensor
    wait: Callable[[], None]


class _Clock:
    """Seconds worked and images seen since the last report: a context manager around the work.

    What happens between two portions of the work, to other trainings perhaps, does not count: so
    the seconds of all trainings of a process add up to the time that it spent on them.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._images = 0

    def __enter__(self) -> None:
        self._entered = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds += time.perf_counter() - self._entered

    def begin_epoch(self) -> None:
        self._images = 0

    def lap(self) -> float:
        now = time.perf_counter()
        seconds = self._seconds + now - self._entered
        self._seconds, self._entered = 0.0, now
        return seconds

    def since_last(self, images: int) -> int:
        new, self._images = images - self._images, images
        return new
