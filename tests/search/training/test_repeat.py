"""One seed's training: its checkpoints, and that an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from data.fingerprint import Fingerprint
from models import ConvNetConfig, to_dict
from search.spec.config import StudySpec
from search.spec.recipe import Recipe
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.files import delete_checkpoint
from search.training.repeat import Job
from search.training.task import Task
from tests.search.blobs import train_seed


@pytest.fixture
def job(network: ConvNetConfig, tmp_path: Path) -> Job:
    return Job(
        spec=StudySpec(dataset="digits", seed=7),
        architecture=to_dict(network),
        recipe=Recipe(epochs=4, patience=1, batch_size=50, augmentation="flip-crop"),
        epochs=3,
        data_dir=tmp_path,
        checkpoints=tmp_path / "checkpoints",
    )


def with_spec(job: Job, **fields: Any) -> Job:
    return dataclasses.replace(job, spec=dataclasses.replace(job.spec, **fields))


def test_interrupted_it_ends_with_the_same_bits(job: Job, task: Task, tmp_path: Path) -> None:
    whole = train_seed(job, task, 0)
    other = dataclasses.replace(job, checkpoints=tmp_path / "other")
    stop = threading.Event()
    told: list[int] = []

    def tell(epoch: Epoch) -> None:
        told.append(epoch.epoch)
        stop.set()

    with pytest.raises(StoppedError):
        train_seed(other, task, 0, stop=stop, on_epoch=tell)
    assert len(other.saved(0)["curve"]) == 1
    stop.clear()
    again = train_seed(other, task, 0, on_epoch=tell)
    assert told == [1, 2, 3]
    assert again.training == whole.training
    assert whole.weights.keys() == again.weights.keys()
    assert all(torch.equal(whole.weights[name], again.weights[name]) for name in whole.weights)
    third = train_seed(other, task, 0, on_epoch=tell)  # finished: nothing is trained any more
    assert len(told) == 3
    assert third.training == whole.training
    delete_checkpoint(other.checkpoint(0))
    assert not other.saved(0)["curve"]


def test_seeds_differ_and_other_jobs_checkpoints_are_left(job: Job, task: Task) -> None:
    first, second = train_seed(job, task, 0), train_seed(job, task, 1)
    assert not torch.equal(first.weights["output.weight"], second.weights["output.weight"])
    for change in ({"seed": 8}, {"dataset": "mnist"}):
        assert not with_spec(job, **change).saved(0)["curve"]
    other = Fingerprint(image_shape=(1, 8, 8), training={}, test={}, validation=0)
    assert not dataclasses.replace(job, content=other).saved(0)["curve"]  # under the same name
    assert len(job.saved(0)["curve"]) == 3
    shorter = dataclasses.replace(job, epochs=1)
    train_seed(shorter, task, 0)
    assert [len(one.saved(0)["curve"]) for one in (job, shorter)] == [3, 1]


def test_candidates_share_their_seeds_and_have_files_of_their_own(job: Job, task: Task) -> None:
    two = [dataclasses.replace(with_spec(job, limit=100), candidate=it) for it in (4, 5)]
    names = [one.checkpoint(0).name for one in (*two, dataclasses.replace(two[0], epochs=2))]
    assert [name[:12] for name in names] == ["candidate-4-", "candidate-5-", "candidate-4-"]
    assert len({*names}) == 3
    first, second, final = (train_seed(it, task, 0) for it in (*two, job))
    assert first.training == second.training != final.training
    assert first.curve[-1].metrics["temperature"] > 0
    assert not with_spec(two[0], limit=50).saved(0)["curve"]  # another split
    assert len(two[0].saved(0)["curve"]) == 3


def test_divergence_is_an_error_with_a_remedy(job: Job, task: Task) -> None:
    wild = dataclasses.replace(
        job, recipe=Recipe(epochs=3, optimizer="sgd", learning_rate=1e30, schedule="constant")
    )
    with pytest.raises(RepeatError, match=r"seed 0 diverged.*--trial N"):
        train_seed(wild, task, 0)
    train_seed(dataclasses.replace(wild, candidate=4), task, 0)  # a candidate has lost, that is all
