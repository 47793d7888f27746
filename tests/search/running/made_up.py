"""Trainings that compute nothing or are stopped, their reports, and a pruner that pauses trials."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from search.running.run import Run
from search.running.trial import trial_seed
from search.sampling.forecast import Contender
from search.sampling.registry import PRUNERS, Pruner
from search.store.views import StudyView
from search.training.epoch import Epoch, StoppedError

TINY: dict[str, Any] = {  # what `run_study` trains in a moment
    "dataset": "digits",
    "limit": 100,
    "epochs": 1,
    "seed": 0,
    "space": {"depth": 1, "width": {"low": 4, "high": 8}, "hidden": []},
    "progress": False,
}


class FedTraining:
    """In place of `search.training.train.Training`: yields an epoch per loss, or raises it."""

    def __init__(self, losses: Sequence[Any]) -> None:
        self._losses = losses
        self.epoch = -1

    def slices(self) -> Iterator[Epoch | None]:
        for epoch, loss in enumerate(self._losses):
            self.epoch = epoch
            if isinstance(loss, BaseException):
                raise loss
            yield self.report(epoch, loss)

    def report(self, epoch: int, loss: float) -> Epoch:
        values = {"learning_rate": 1e-3, "seconds": 0.1, "images": 100}
        return Epoch(
            epoch=epoch, train_loss=loss, train_error=0.2, validation_loss=loss,
            validation_error=0.1, metrics={"calibrated_loss": loss}, **values,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def confusion(self) -> torch.Tensor:
        return torch.eye(10, dtype=torch.int64)

    def close(self) -> None:
        pass


def fed(*curves: list[Any]) -> Callable[..., FedTraining]:
    """`train` of a Run: its n-th call goes through the n-th curve; entry 0 is the partial epoch."""
    remaining = iter(curves)
    return lambda *_, **__: FedTraining(next(remaining))


def stopping_after(run: Run, reports: int) -> Run:
    """The same run, asked to stop once so many epochs were reported."""
    left = reports

    def watched(*arguments: Any, **options: Any) -> Any:
        training = run.train(*arguments, **options)
        slices = training.slices

        def count() -> Iterator[Epoch | None]:
            nonlocal left
            for epoch in slices():
                yield epoch
                left -= epoch is not None
                if left == 0:
                    run.stop.set()

        training.slices = count
        return training

    return replace(run, train=watched)


class MadeUpTraining(FedTraining):
    """Its curve depends only on its seed; resumed from a wrong state, it differs."""

    def __init__(
        self, _architecture: object, recipe: Any, _task: object, *, seed: int, **options: Any
    ) -> None:
        self.seed, self._stop, self._epochs = seed, options["stop"], recipe.epochs
        state = options.get("state")
        self.epoch = 0 if state is None else state["epoch"]
        self._loss = random.Random(seed).uniform(1.0, 3.0) if state is None else state["loss"]

    def slices(self) -> Iterator[Epoch | None]:
        if self.epoch == 0:
            yield self.report(0, 1.5 * self._loss)
        while self.epoch < self._epochs:
            yield None
            if self._stop.is_set():
                raise StoppedError
            self._loss *= random.Random(self.seed + self.epoch).uniform(0.6, 1.01)
            self.epoch += 1
            yield self.report(self.epoch, self._loss)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "loss": self._loss}


def curve(seed: int, epochs: int) -> dict[int, float]:
    """What an uninterrupted training with that seed reports."""
    recipe = type("Recipe", (), {"epochs": epochs})
    training = MadeUpTraining(None, recipe, None, seed=seed, stop=threading.Event())
    return {row.epoch: row.validation_loss for row in training.slices() if row is not None}


def check_curves(view: StudyView) -> None:
    """Every trial's curve is that of an uninterrupted training, without a gap."""
    for trial in view.trials:
        whole = curve(trial_seed(view.spec.seed, trial.number), view.spec.epochs)
        reported = {row.epoch: row.validation_loss for row in trial.reports}
        assert reported == {epoch: whole[epoch] for epoch in sorted(whole)[: len(reported)]}


def choose(
    contenders: Sequence[Contender], *, trials: int, budget: float, **_: object
) -> int | str | None:
    """A simple pruner, "laying-aside": at least one of every four trials is trained to its end."""
    paused = [one for one in contenders if one.state == "paused"]
    complete = sum(one.state == "complete" for one in contenders)
    room = len(contenders) < trials
    if room and len(contenders) < 4 * (complete + 1):
        return "new"
    if not paused or (not room and sum(one.epochs for one in contenders) >= budget):
        return None
    return min(paused, key=lambda one: min(one.curve.values()) + one.epochs).number


def register() -> None:
    PRUNERS["laying-aside"] = Pruner(
        description="a test's",
        rungs=PRUNERS["promotion"].rungs,
        choose=choose,  # type: ignore[arg-type]
    )
