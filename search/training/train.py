"""Training as an iterator of epochs. The caller decides: take the next epoch, stop, keep
`state()` and resume later (also in another process), or advance many trainings in turn.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import torch

from data.examples import Examples
from models import Architecture, build
from search.spec.objectives import CALIBRATED_LOSS, OBJECTIVES, RAW_LOSS, TEMPERATURE
from search.spec.recipe import PARTIAL_EPOCH, Recipe
from search.training.epoch import Epoch, StoppedError
from search.training.graphs import OwnRandomness, Pool, Replayed
from search.training.metrics import METRICS, fit_temperature, loss_at
from search.training.step import Step, load_optimizer
from search.training.task import Task, confusion, logits, loss_and_error
from search.training.weights import fitting_weights

# On a CPU a step takes long enough to be a slice; on a GPU it takes about 0.1 ms.
SLICE_STEPS = {"cpu": 1, "cuda": 32}
SLICES_AHEAD = 2  # enqueued at most: one running while the next one is prepared

_idle_streams: dict[torch.device, list[torch.cuda.Stream]] = defaultdict(list)


class Training(Iterator[Epoch]):
    """Trains one network on the task's device, one epoch per `next()`.

    Args:
        seed: determines initial weights, order of the examples, augmentation and dropout: on a CPU
            with the same number of threads, the curve is the same to the bit.
        state: from `Training.state()` with the same arguments: resumes from there, on a CPU to the
            bit as if it had never stopped.
        stop: once set, `next()` raises `StoppedError` at the next step.
        partial_epoch: also report a partial-epoch validation, as epoch 0, after the share
            `PARTIAL_EPOCH` of the first epoch.
        metrics: names in METRICS, computed for every report.
        objective: name in OBJECTIVES; the recipe's patience watches it.

    Raises ArchitectureError if the network does not fit the task's images, and WeightsError if the
    recipe's initial weights cannot be read, or do not fit it.
    """

    def __init__(
        self,
        architecture: Architecture,
        recipe: Recipe,
        task: Task,
        *,
        seed: int,
        state: dict[str, Any] | None = None,
        stop: threading.Event | None = None,
        partial_epoch: bool = False,
        metrics: Sequence[str] = (),
        objective: str = RAW_LOSS,
    ) -> None:
        self._recipe, self._task, self._stop = recipe, task, stop
        self._value = OBJECTIVES[objective].of
        self._metrics = [name for name in metrics if name != CALIBRATED_LOSS]  # always there
        self._randomness = OwnRandomness(seed, task.device)
        # Before `own_stream`, which waits for them: other trainings read them on their own streams.
        self._early = task.early_validation if partial_epoch else None
        self._on_stream = own_stream(self, task.device)
        with self._on_stream(), self._randomness:
            network = build(architecture, task.image_shape, task.classes)
            if (source := recipe.initial_weights) is not None:
                frozen = recipe.frozen_epochs > 0
                initial = fitting_weights(network, architecture, source, frozen=frozen)
                network.load_state_dict(initial, strict=False)
            self.learning = network.to(task.device).to(memory_format=torch.channels_last)
            pool = Pool()
            self._step = Step(self.learning, recipe, task, self._randomness, pool)
            mean = self._step.mean
            # The network that is validated and kept.
            self.model = self.learning if mean is None else mean.model
            self._score = torch.full((4,), math.nan, device=task.device)
            self._logits_NK = torch.zeros(len(task.validation), task.classes, device=task.device)
            self._validated = False  # the current network, on all examples
            self._validate = Replayed(self._randomness, task.device, pool)
        self.epoch = 0  # number of finished ones
        self._best, self._best_epoch = (math.inf, -math.inf), 0  # value, raw loss if values tie
        self._enqueued: deque[Callable[[], None]] = deque()  # each waits for its slice
        self._seconds = 0.0
        self._portions: Iterator[Epoch | None] = self._run()
        if state is not None:
            self._take_up(state)

    def __next__(self) -> Epoch:
        return next(filter(None, self.slices()))

    def slices(self) -> Iterator[Epoch | None]:
        """The same training in smaller slices: yields None after one with nothing to report.

        For many trainings that share a GPU and are advanced in turn. A slice is only enqueued
        there, so that the device has work from all of them, and the only waits are for this
        training's own slice before last, or for the numbers about to be reported.
        """
        with suppress(StopIteration):
            while True:
                began = time.perf_counter()  # only the time until `yield` is the training's
                with self._on_stream(), self._randomness:
                    epoch = next(self._portions)
                self._seconds += time.perf_counter() - began
                if epoch is not None:
                    epoch = dataclasses.replace(epoch, seconds=self._seconds)
                    self._seconds = 0.0
                yield epoch

    def _run(self) -> Generator[Epoch | None, None, None]:
        recipe, task, step = self._recipe, self._task, self._step
        look_at = math.ceil(step.steps * PARTIAL_EPOCH)
        length = SLICE_STEPS[task.device.type]
        slice_ends = sorted({*range(length, step.steps, length), look_at, step.steps})
        patience = recipe.epochs if recipe.patience is None else recipe.patience
        while self.epoch < recipe.epochs and self.epoch - self._best_epoch < patience:
            self.learning.train()
            step.begin_epoch(self.epoch)
            self._validated = False
            done = reported = 0  # steps
            for end in slice_ends:
                if self._stop is not None and self._stop.is_set():
                    raise StoppedError
                # A GPU always has work, and still stops within moments of a request.
                while len(self._enqueued) >= SLICES_AHEAD:
                    self._enqueued.popleft()()
                step.run(end - done)
                self._enqueued.append(mark(task.device))
                done = end
                yield None
                early = self._early if self.epoch == 0 else None
                if early is not None and done == look_at < step.steps:
                    self._score_on(early)
                    yield (yield from self._report(0, done, done, early))
                    reported = done
            self._validate_all()
            epoch = yield from self._report(self.epoch + 1, done, done - reported, task.validation)
            self.epoch += 1
            if (found := (self._value(epoch), epoch.validation_loss)) < self._best:
                self._best, self._best_epoch = found, self.epoch
            yield epoch

    def _validate_all(self) -> None:
        """Score the network on all validation examples; nothing waits for it."""
        if len(self._task.validation) > 0:  # a final training has none
            self._validate.call(partial(self._score_on, self._task.validation))
        self._validated = True

    def _score_on(self, examples: Examples) -> None:
        task = self._task
        found_NK = logits(self.model, examples.images_NCHW, task.mean_C, task.std_C)
        temperature = fit_temperature(found_NK, examples.labels_N)
        calibrated = loss_at(found_NK, examples.labels_N, temperature).float()
        plain = loss_and_error(found_NK, examples.labels_N)
        self._score.copy_(torch.cat((plain, torch.stack((temperature, calibrated)))))
        self._logits_NK[: len(examples)].copy_(found_NK)

    def _report(
        self, number: int, steps: int, new_steps: int, scored: Examples
    ) -> Generator[None, None, Epoch]:
        """The report on the epoch's first `steps`; others train while the numbers are copied."""
        sums = torch.cat((self._step.totals, self._score)).to("cpu", non_blocking=True)
        wait = mark(self._task.device)
        yield None
        wait()
        self._enqueued.clear()  # all done
        loss_sum, error_sum, validation_loss, validation_error, *calibrated = sums.tolist()
        metrics = {}
        if len(scored) > 0:
            metrics = dict(zip((TEMPERATURE, CALIBRATED_LOSS), calibrated, strict=True))
            for name in self._metrics:
                # Copies, since a user's function may write to them.
                given = self._logits_NK[: len(scored)], scored.labels_N
                copies = (tensor.to("cpu", copy=True) for tensor in given)
                metrics[name] = float(METRICS[name].compute(*copies))
        return Epoch(
            epoch=number,
            train_loss=loss_sum / steps,
            train_error=error_sum / steps,
            validation_loss=validation_loss,
            validation_error=validation_error,
            learning_rate=self._step.learning_rates[steps - 1],
            seconds=0.0,  # see `slices`
            images=new_steps * self._step.batch_size,
            metrics=metrics,
        )

    def confusion(self) -> torch.Tensor:
        """Validation examples by true and predicted class, (K, K), of the current network."""
        with self._on_stream(), self._randomness:
            if not self._validated:  # it was resumed, or last scored on fewer images
                self._validate_all()
            return confusion(self._logits_NK, self._task.validation.labels_N).cpu()

    def close(self) -> None:
        """End it here, so that all it holds is freed at once with the last reference to it."""
        self._portions = iter(())  # drops the generator, whose frame refers to this training

    def state(self) -> dict[str, Any]:
        """All that determines how the training continues. Valid only between two epochs."""
        return {
            "epoch": self.epoch,
            "best_loss": self._best[0],
            "best_raw_loss": self._best[1],
            "best_epoch": self._best_epoch,
            "model": self.learning.state_dict(),
            "mean": None if self._step.mean is None else self.model.state_dict(),
            "optimizer": self._step.optimizer.state_dict(),
            "randomness": self._randomness.state(),
        }

    def _take_up(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        # Earlier versions did not store the raw loss.
        self._best = state["best_loss"], state.get("best_raw_loss", -math.inf)
        self._best_epoch = state["best_epoch"]
        with self._on_stream():
            self.learning.load_state_dict(state["model"])
            if self._step.mean is not None:
                self.model.load_state_dict(state["mean"])
            if state["optimizer"] is not None:  # else it has ended
                load_optimizer(self._step.optimizer, state["optimizer"])
        self._randomness.load(state["randomness"])


def own_stream(owner: object, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """Makes contexts in which work goes to a CUDA stream lent to `owner` for its lifetime.

    Streams are reused, because torch keeps memory and workspaces for each of them. On a CPU the
    contexts do nothing.
    """
    if device.type != "cuda":
        return nullcontext
    idle = _idle_streams[device]
    stream = idle.pop() if idle else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    weakref.finalize(owner, idle.append, stream)
    stream.wait_stream(torch.cuda.current_stream(device))  # the data must have arrived
    return partial(on_stream, stream)


@contextmanager
def on_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    # With `torch.cuda.stream` alone, leaving the stream of another GPU selects GPU 0, on which
    # this process would then hold some 0.5 GB.
    with torch.cuda.device(stream.device), torch.cuda.stream(stream):
        yield


def mark(device: torch.device) -> Callable[[], None]:
    """A function that waits until the current stream has done all work enqueued so far."""
    if device.type != "cuda":
        return lambda: None
    # Blocking: it sleeps instead of spinning, because other processes may need the core.
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record()
    return event.synchronize


train = Training  # as it reads where it is called
