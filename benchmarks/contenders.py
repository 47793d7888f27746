"""The contenders: our trainer and its peers, one or several trials at a time, one interface."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks.dataloader import LoaderTraining
from benchmarks.workload import NETWORKS, Workload, few_batches, recipe, without_validation
from search.running.pool import default_workers, threads_for
from search.training.device import available_cores
from search.training.epoch import Epoch, Score
from search.training.task import evaluate
from search.training.train import train

WARM_UP_BATCHES = 10
PACKED = (4, 16, 32)  # trials at a time on one GPU
Style = Literal["ours", "dataloader", "ray"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One way of training.

    Attributes:
        processes: number that train at the same time.
        threads: per process; None: PyTorch's default, all cores.
        packed: trials that each process advances in turn.
        loaders: worker processes of each DataLoader.
        bfloat16: whether the DataLoader style uses autocast, as ours does. The example is float32.
        inner: for Ray Tune, the style of the trainer that it runs.
    """

    name: str
    title: str
    style: Style
    processes: int = 1
    threads: int | None = None
    packed: int = 1
    loaders: int = 0
    bfloat16: bool = False
    inner: Style = "dataloader"

    @property
    def at_once(self) -> int:
        """Trials trained at a time."""
        return self.processes * self.packed


def contenders(device: torch.device) -> list[Contender]:
    """All contenders that make sense on this machine, ours first."""
    workers = default_workers("cpu")
    threads = threads_for(workers)
    found: list[Contender] = []

    def add(name: str, title: str, *, parallel: bool = False, **fields: Any) -> None:
        style: Any = name.partition("_")[0]
        if parallel:
            fields |= {"processes": workers, "threads": threads}
        found.append(Contender(name=name, title=title, style=style, **fields))

    add("ours_alone", "ours, one trial")
    if device.type == "cpu":
        add("ours", f"ours, {workers} workers of {threads} threads, the default", parallel=True)
    else:
        for packed in PACKED:
            add(f"ours_packed_{packed}", f"ours, {packed} trials packed", packed=packed)
    one = "DataLoader, one trial"
    for loaders in sorted({0, 2, available_cores()} - {1}):
        add(f"dataloader_{loaders}", f"{one}, {loaders} loader processes", loaders=loaders)
    title = f"{one}, 2 loader processes, bfloat16 as ours"
    add("dataloader_bfloat16", title, loaders=2, bfloat16=True)
    title = f"DataLoader, {workers} processes of {threads} threads"
    add("dataloader_parallel", title, parallel=True)
    ray, at_once = "Ray Tune, ASHA", f"{workers} trials at a time"
    add("ray_dataloader", f"{ray}, DataLoader, {at_once}", parallel=True)
    add("ray_ours", f"{ray}, our trainer, {at_once}", parallel=True, inner="ours")
    return found


def make_runner(contender: Contender, job: Workload) -> Runner:
    """Load the data, build the networks and warm up."""
    device = torch.device(job.device)
    if contender.style == "ours":
        return OurRunner(job, device, contender.packed)
    training = LoaderTraining(
        NETWORKS[job.network],
        recipe(augmented=job.augmented),
        job.task(torch.device("cpu")),
        device,
        seed=0,
        workers=contender.loaders,
        bfloat16=contender.bfloat16,
    )
    training.train_epoch(batches=WARM_UP_BATCHES)  # starts the loader processes too
    training.validate()
    return training


class OurRunner:
    """Trainings run as a study's worker runs them: advanced in turn, a slice each.

    Validation is timed separately and is not replayed from a CUDA graph, unlike in a study, so that
    ours is a little faster there than reported.
    """

    def __init__(self, job: Workload, device: torch.device, packed: int) -> None:
        self._task = job.task(device)
        bare = without_validation(self._task)
        architecture, how = NETWORKS[job.network], recipe(augmented=job.augmented)
        self._trainings = [train(architecture, how, bare, seed=seed) for seed in range(packed)]
        self._courses = [training.slices() for training in self._trainings]
        if device.type == "cuda":
            self.train_epoch()  # records each training's graphs
        else:
            few = few_batches(bare, WARM_UP_BATCHES, how.batch_size)
            next(train(architecture, how, few, seed=0))
        self.validate()

    def train_epoch(self) -> int:
        """Train every trial for an epoch, synchronously; returns the number of images."""
        return sum(epoch.images for epoch in advance_in_turn(self._courses))

    def validate(self) -> Score:
        """Score every trial on the validation images once; returns the last one's score."""
        task = self._task
        scores = [
            evaluate(training.model, task.validation, task.mean_C, task.std_C)
            for training in self._trainings
        ]
        return scores[-1]


Runner = OurRunner | LoaderTraining  # trials of one process, ready to be timed


def advance_in_turn(trainings: list[Iterator[Epoch | None]]) -> list[Epoch]:
    """Train one epoch of each, a slice at a time, as `search.running.worker` packs trials."""
    epochs = []
    waiting = deque(trainings)
    while waiting:
        training = waiting.popleft()
        epoch = next(training)
        if epoch is None:
            waiting.append(training)
        else:
            epochs.append(epoch)
    return epochs
