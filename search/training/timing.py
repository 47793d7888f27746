"""How long an epoch takes, found by training a few steps."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from models import Architecture
from search.spec.recipe import Recipe
from search.training.task import Task
from search.training.train import train

NO_END = 1_000_000_000  # epochs


def epoch_seconds(
    architecture: Architecture, recipe: Recipe, task: Task, *, seconds: float
) -> float:
    """Seconds of one epoch with its validation, extrapolated from single steps.

    Args:
        seconds: how long to measure. One step is measured in any case, after one that is not: it
            takes memory from the system and chooses kernels.

    Raises:
        models.ArchitectureError: the architecture does not fit the task's images.
    """
    batch = min(recipe.batch_size, len(task.training))
    scored = max(1, round(batch * len(task.validation) / len(task.training)))
    first = torch.arange(max(batch, scored), device=task.device)
    one_step = replace(
        task,
        training=task.training.select(first[:batch]),
        validation=task.validation.select(first[:scored]),
    )
    training = train(architecture, replace(recipe, epochs=NO_END, patience=None), one_step, seed=0)
    next(training)
    began, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - began < seconds:
        next(training)
        steps += 1
    of_one = (time.perf_counter() - began) / steps
    return of_one * max(1, len(task.training) // recipe.batch_size)
