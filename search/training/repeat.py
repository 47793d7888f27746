"""Trains a configuration again with a fresh seed: on all training images, or to compare it.

It saves a checkpoint after every epoch and resumes from it, in this or another process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import threading
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data.fingerprint import Fingerprint, differences
from models import from_dict
from models.own_network import check_network
from search.spec.config import StudySpec
from search.spec.recipe import Recipe
from search.training.epoch import Epoch, RepeatError, Score, derived_seed
from search.training.files import PREVIOUS, latest_checkpoint, save_checkpoint
from search.training.task import Task, evaluate, load_study_task
from search.training.train import train
from search.training.weights import digests


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What to train."""

    spec: StudySpec  # another process must load its extensions first
    architecture: Mapping[str, Any]  # as `models.to_dict` returns it
    recipe: Recipe  # its whole schedule applies, but training stops after `epochs`, and not before
    epochs: int
    seed: int  # determines, with the study's, everything random
    data_dir: Path
    checkpoints: Path
    content: Fingerprint | None = None  # that the images must match; None: not checked
    place: str | None = None  # the data set's current name, if it has moved
    # SHA-256 of files of initial weights by source; they must still be the same.
    weights: Mapping[str, str] = field(default_factory=dict)
    # Number of a trial to compare with others, on the study's own split; None: a final training.
    candidate: int | None = None

    def load(self, device: torch.device) -> Task:
        """The images to train on. Raises DataError."""
        return load_study_task(
            self.spec, self.data_dir, device, place=self.place, final=self.candidate is None
        )

    @property
    def checkpoint(self) -> Path:
        """A separate file for each trial and number of epochs, in whatever order they train."""
        kind = "final" if self.candidate is None else f"candidate-{self.candidate}"
        made_for = [self.architecture, self.recipe.to_dict(), self.epochs]
        digest = hashlib.sha256(json.dumps(made_for, sort_keys=True).encode()).hexdigest()[:8]
        return self.checkpoints / f"{kind}-{digest}-{self.seed}.pt"

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must match for the training to resume from it."""
        spec = self.spec
        split = [self.candidate, spec.validation_count, spec.limit]
        return {
            **({} if self.candidate is None else {"candidate": split}),
            "architecture": dict(self.architecture),
            "recipe": self.recipe.to_dict(),
            "dataset": spec.dataset,
            "image_size": spec.image_size,
            "epochs": self.epochs,
            "content": None if self.content is None else self.content.to_dict(),
            "seed": [spec.seed, self.seed],
        }

    def saved(self) -> dict[str, Any]:
        """The checkpoint's content: its `curve` holds the epochs of earlier, interrupted runs.

        Raises CheckpointError, see `latest_checkpoint`.
        """
        nothing: dict[str, Any] = {"curve": [], "training": None, "score": None}
        return latest_checkpoint(self.checkpoint, self.identity) or nothing


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainedRun:
    """A network trained with one seed, not tested."""

    seed: int
    curve: tuple[Epoch, ...]  # validation metrics are NaN if no image was held out
    training: Score  # on all of its training images, in evaluation mode
    weights: dict[str, torch.Tensor]  # in main memory, each with storage of its own


def train_slices(
    job: Job, task: Task, *, stop: threading.Event | None = None
) -> Generator[Epoch | None, None, TrainedRun]:
    """Trains one slice per `next()`, which returns the epoch it completed, once saved, or None.

    On a CPU the result depends on the number of threads, but on nothing else that runs. Raises
    StoppedError if `stop` was set (all epochs but the current one are kept); RepeatError if the
    original images or initial weights are gone or changed, or the loss of a final training is not
    finite at the end; CheckpointError if a checkpoint cannot be read or written.
    """
    architecture = from_dict(job.architecture)
    check_network(architecture, task.image_shape, task.classes)  # a study may be older than that
    held, found = job.content, task.content
    if held is not None and found is not None and held.digest != found.digest:
        raise RepeatError(
            f"{task.info.name} has changed in the meantime ({differences(held, found)}); put the "
            "images back and run the same command to resume"
        )
    for source, digest in digests([job.recipe.initial_weights]).items():
        if job.weights.get(source, digest) != digest:
            raise RepeatError(
                f"the weights in {source!r} have changed in the meantime; put the original ones "
                "back and run the same command to resume"
            )
    saved = job.saved()
    names = {"number": "epoch"}  # as earlier versions called it
    curve = [Epoch(**{names.get(k, k): v for k, v in it.items()}) for it in saved["curve"]]
    kind = "final" if job.candidate is None else "candidate"  # candidates share their seeds
    training = train(
        architecture,
        dataclasses.replace(job.recipe, patience=None),
        task,
        seed=derived_seed(job.spec.seed, kind, job.seed),
        state=saved["training"],
        stop=stop,
    )

    def save(score: Score | None = None) -> None:
        current, measured = training.state(), None
        if score is not None:  # it is kept, so without what only further training would need
            current["optimizer"], measured = None, dataclasses.asdict(score)
        state = {
            "identity": job.identity,
            "curve": [dataclasses.asdict(epoch) for epoch in curve],
            "training": current,
            "score": measured,
        }
        save_checkpoint(job.checkpoint, state)

    with closing(training):
        slices = training.slices()
        while training.epoch < job.epochs:
            epoch = next(slices)
            if epoch is not None:
                curve.append(epoch)
                save()
            yield epoch
        if saved["score"] is None:
            score = evaluate(training.model, task.training, task.mean_C, task.std_C)
            save(score)
            with suppress(OSError):  # a virus scanner may hold it
                job.checkpoint.with_suffix(PREVIOUS).unlink()
        else:
            score = Score(**saved["score"])
            os.utime(job.checkpoint)  # it was of use: not one to delete
    if not math.isfinite(score.loss) and job.candidate is None:
        raise RepeatError(
            f"seed {job.seed} diverged on the full training set: its loss is {score.loss}; choose "
            "another trial with --trial N"
        )
    # Copies, because a module under two names shares its tensors, which safetensors refuses.
    weights = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in training.model.state_dict().items()
    }
    return TrainedRun(seed=job.seed, curve=tuple(curve), training=score, weights=weights)
