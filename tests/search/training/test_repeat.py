"""One seed's training and its checkpoints; an interruption changes nothing."""

from __future__ import annotations

import errno
import math
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save, save_file
from torch import nn

from data.fingerprint import Fingerprint
from models import FAMILIES, ArchitectureError, ConvNetConfig, build, family_from_function, to_dict
from search.spec.config import StudySpec
from search.spec.recipe import Recipe
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.files import (
    CheckpointError,
    CheckpointUnwritableError,
    delete_checkpoint,
)
from search.training.repeat import Job
from search.training.task import Task
from search.training.weights import digests
from tests.search.blobs import train_job


@pytest.fixture
def job(network: ConvNetConfig, tmp_path: Path) -> Job:
    return Job(
        spec=StudySpec(dataset="digits", seed=7),
        architecture=to_dict(network),
        recipe=Recipe(epochs=4, patience=1, batch_size=50, augmentation="flip-crop"),
        epochs=3,
        seed=0,
        data_dir=tmp_path,
        checkpoints=tmp_path / "checkpoints",
    )


def with_spec(job: Job, **fields: Any) -> Job:
    return replace(job, spec=replace(job.spec, **fields))


def test_a_network_that_saved_weights_would_not_restore_is_not_trained(
    job: Job, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a study that an earlier version made."""

    class Random(nn.Module):
        def __init__(self, pixels: int, classes: int) -> None:
            super().__init__()
            self.features, self.output = torch.randn(pixels, 5), nn.Linear(5, classes)

        def forward(self, images: torch.Tensor) -> Any:
            return self.output(images.flatten(1) @ self.features)

    def make(image_shape: Any, classes: int) -> nn.Module:
        return Random(math.prod(image_shape), classes)

    family = family_from_function("random", make)
    monkeypatch.setitem(FAMILIES, "random", family)
    own = replace(job, architecture=to_dict(family.configured({})))
    with pytest.raises(ArchitectureError, match="register_buffer"):
        train_job(own, task)
    assert not own.checkpoint.exists()


def test_an_interruption_changes_no_bit(job: Job, task: Task, tmp_path: Path) -> None:
    whole = train_job(job, task)
    other = replace(job, checkpoints=tmp_path / "other")
    stop = threading.Event()
    told: list[int] = []

    def tell(epoch: Epoch) -> None:
        told.append(epoch.epoch)
        stop.set()

    with pytest.raises(StoppedError):
        train_job(other, task, stop=stop, on_epoch=tell)
    assert len(other.saved()["curve"]) == 1
    stop.clear()
    again = train_job(other, task, on_epoch=tell)
    assert told == [1, 2, 3]
    assert again.training == whole.training
    assert whole.weights.keys() == again.weights.keys()
    assert all(torch.equal(whole.weights[name], again.weights[name]) for name in whole.weights)
    third = train_job(other, task, on_epoch=tell)  # finished: nothing more is trained
    assert len(told) == 3
    assert third.training == whole.training
    delete_checkpoint(other.checkpoint)
    assert not other.saved()["curve"]


def test_seeds_differ_and_other_jobs_checkpoints_are_left_alone(job: Job, task: Task) -> None:
    first, second = (train_job(replace(job, seed=seed), task) for seed in (0, 1))
    assert not torch.equal(first.weights["output.weight"], second.weights["output.weight"])
    for change in ({"seed": 8}, {"dataset": "mnist"}):
        assert not with_spec(job, **change).saved()["curve"]
    other = Fingerprint(image_shape=(1, 8, 8), training={}, test={}, validation=0)
    assert not replace(job, content=other).saved()["curve"]  # under the same name
    assert len(job.saved()["curve"]) == 3
    shorter = replace(job, epochs=1)
    train_job(shorter, task)
    assert [len(one.saved()["curve"]) for one in (job, shorter)] == [3, 1]


def test_candidates_share_their_seeds_and_have_files_of_their_own(job: Job, task: Task) -> None:
    two = [replace(with_spec(job, limit=100), candidate=it) for it in (4, 5)]
    names = [one.checkpoint.name for one in (*two, replace(two[0], epochs=2))]
    assert [name[:12] for name in names] == ["candidate-4-", "candidate-5-", "candidate-4-"]
    assert len({*names}) == 3
    first, second, final = (train_job(it, task) for it in (*two, job))
    assert first.training == second.training != final.training
    assert first.curve[-1].metrics["temperature"] > 0
    assert not with_spec(two[0], limit=50).saved()["curve"]  # another split
    assert len(two[0].saved()["curve"]) == 3


def test_weights_that_changed_since_the_first_seed_are_refused(
    job: Job, task: Task, network: ConvNetConfig, tmp_path: Path
) -> None:
    file = str(tmp_path / "weights.safetensors")
    save_file(build(network, task.image_shape, task.classes).state_dict(), file)
    recipe = replace(job.recipe, initial_weights=file)
    job = replace(job, recipe=recipe, weights=digests([file]), epochs=1)
    train_job(job, task)
    save_file(build(network, task.image_shape, task.classes).state_dict(), file)
    with pytest.raises(RepeatError, match="have changed in the meantime; put the original ones"):
        train_job(replace(job, seed=1), task)


def with_shared_layer(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    bend = nn.PReLU()
    hidden = nn.Linear(math.prod(image_shape), 8)
    return nn.Sequential(nn.Flatten(), hidden, bend, nn.Linear(8, 8), bend, nn.Linear(8, classes))


def test_a_layer_under_two_names_is_kept_under_both(
    job: Job, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = family_from_function("shared", with_shared_layer)
    monkeypatch.setitem(FAMILIES, "shared", family)
    own = replace(job, architecture=to_dict(family.configured({})), epochs=1)
    stored = load(save(train_job(own, task).weights))
    assert torch.equal(stored["2.weight"], stored["4.weight"])


def test_a_checkpoint_that_cannot_be_written_is_an_error_with_a_remedy(
    job: Job, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (job.checkpoints.parent / "file").write_text("")
    with pytest.raises(CheckpointUnwritableError, match="cannot write "):
        train_job(replace(job, checkpoints=job.checkpoints.parent / "file" / "below"), task)
    monkeypatch.setattr(os, "fsync", full)
    said = rf"cannot write {job.checkpoint} \(No space left on device\); nothing is lost: make room"
    with pytest.raises(CheckpointUnwritableError, match=said):
        train_job(job, task)


def test_a_checkpoint_that_cannot_be_read_is_an_error_and_is_kept(job: Job) -> None:
    job.checkpoint.mkdir(parents=True)  # as root may read any file
    with pytest.raises(CheckpointError, match=r"cannot read .*; nothing is lost: make it readable"):
        job.saved()


def test_a_previous_checkpoint_that_cannot_be_deleted_is_no_error(
    job: Job, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows while a virus scanner holds it."""
    unlink = Path.unlink

    def held(self: Path, missing_ok: bool = False) -> None:
        if self.name.endswith(".previous.pt"):
            raise PermissionError(errno.EACCES, "Access is denied")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", held)
    assert len(train_job(job, task).curve) == 3
    assert job.checkpoint.with_suffix(".previous.pt").exists()


def test_divergence_is_an_error_with_a_remedy(job: Job, task: Task) -> None:
    wild = replace(
        job, recipe=Recipe(epochs=3, optimizer="sgd", learning_rate=1e30, schedule="constant")
    )
    with pytest.raises(RepeatError, match=r"seed 0 diverged.*--trial N"):
        train_job(wild, task)
    train_job(replace(wild, candidate=4), task)  # a diverged candidate merely loses
