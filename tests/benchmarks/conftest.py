"""A small task and the benchmark's networks, for images as large as Fashion-MNIST's."""

import multiprocessing

import pytest
import torch

from benchmarks import replay_results, replay_surrogate
from data.examples import Examples
from search.training.task import Task, make_task
from tests.made_up_data import made_up_info

COUNT, VALIDATION = 64, 40


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """New processes come from one that has loaded the libraries, which takes seconds. There is only
    one for all tests of a process, so it also loads what workplaces need."""
    server = multiprocessing.get_context("forkserver")
    ours = ["benchmarks.contender_workers", "benchmarks.memory"]
    server.set_forkserver_preload([*ours, "tests.search.worker_processes"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: server)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer random draws for the target of a surrogate and for intervals: they take seconds."""
    monkeypatch.setattr(replay_surrogate, "TRIALS", 50)
    monkeypatch.setattr(replay_results, "RESAMPLES", 50)


@pytest.fixture
def task() -> Task:
    """Noise, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (COUNT + VALIDATION, 1, 28, 28), generator=generator)
    labels = torch.arange(COUNT + VALIDATION) % 10
    examples = Examples(images_NCHW=images.to(torch.uint8), labels_N=labels)
    info = made_up_info("noise", validation_count=VALIDATION, training_count=COUNT + VALIDATION)
    training = examples.select(torch.arange(COUNT))
    validation = examples.select(torch.arange(COUNT, COUNT + VALIDATION))
    return make_task(info, training, validation, torch.device("cpu"))
