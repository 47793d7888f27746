"""Ray Tune with ASHA around a trainer, set up as in its own documentation.

`ASHAScheduler(grace_period=1, reduction_factor=2)` comes from Ray's PyTorch tutorial ("How to use
Tune with PyTorch"); a trial's resources are a core, or its share of the cores and the GPU. Ray is
started for each measurement and stopped after it: its servers would disturb the other contenders.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.contenders import Contender, make_runner
from benchmarks.workload import Workload
from search.training.device import prepare_process

LOSS = "validation_loss"
EPOCHS = 2  # maximum per trial: one decision by ASHA
TRIALS_A_SLOT = 2  # so that finished trials are replaced


@contextmanager
def ray_running(cores: int, gpus: int) -> Iterator[None]:
    """Ray on this machine only, quiet, its files in a temporary folder."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no usage reports to Ray's developers
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new output prints even with verbose=0
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            num_cpus=cores,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()


def tune_trials(
    trainable: Callable[[dict[str, Any]], None],
    *,
    at_once: int,
    threads: int = 1,
    gpus: int = 0,
    space: dict[str, Any] | None = None,
    **config: Any,
) -> Any:
    """Run a study; returns Ray's `ResultGrid`.

    Args:
        trainable: reports `LOSS` once per epoch.
        at_once: trials that train at a time; few, so that a search algorithm knows earlier ones.
        threads: cores per trial.
        gpus: of the machine, shared evenly by the concurrent trials.
        config: further fields of Ray's `TuneConfig`.

    Raises:
        RuntimeError: a trial failed.
    """
    from ray import tune

    with ray_running(at_once * threads, gpus), tempfile.TemporaryDirectory() as results:
        found = tune.Tuner(
            tune.with_resources(trainable, {"cpu": threads, "gpu": gpus / at_once}),
            param_space=space or {},
            tune_config=tune.TuneConfig(
                metric=LOSS, mode="min", max_concurrent_trials=at_once, **config
            ),
            run_config=tune.RunConfig(storage_path=results, verbose=0),
        ).fit()
        if found.errors:
            raise RuntimeError(f"{len(found.errors)} of Ray's trials failed: {found.errors[0]}")
        return found


def tune_with_asha(
    trainable: Callable[[dict[str, Any]], None], *, trials: int, epochs: int, **config: Any
) -> Any:
    """`tune_trials` with ASHA."""
    from ray.tune.schedulers import ASHAScheduler

    asha = ASHAScheduler(max_t=epochs, grace_period=1, reduction_factor=2)
    return tune_trials(trainable, num_samples=trials, scheduler=asha, **config)


@dataclass(frozen=True, kw_only=True, slots=True)
class RayTiming:
    """One measurement.

    Attributes:
        images: trained on, by all trials.
        epochs: of all trials.
        training_seconds: of all trials, without the time between epochs and between trials.
        seconds: from the start of the first trial's first epoch to the end of the last epoch.
    """

    images: int
    epochs: int
    training_seconds: float
    seconds: float


def time_ray(contender: Contender, job: Workload) -> RayTiming:
    """Train the job in a small Ray Tune study."""
    # The same network many times: only the way it is run is compared.
    found = tune_with_asha(
        _Trainable(contender, job),
        trials=TRIALS_A_SLOT * contender.processes,
        epochs=EPOCHS,
        at_once=contender.processes,
        threads=contender.threads or 1,
        gpus=1 if torch.device(job.device).type == "cuda" else 0,
    )
    metrics = [result.metrics for result in found]
    return RayTiming(
        images=sum(trial["images"] for trial in metrics),
        epochs=sum(trial["training_iteration"] for trial in metrics),
        training_seconds=sum(trial["training_seconds"] for trial in metrics),
        seconds=max(trial["ended"] for trial in metrics)
        - min(trial["started"] for trial in metrics),
    )


class _Trainable:
    """What Ray's workers run; a trial's report holds the sums of its epochs so far."""

    def __init__(self, contender: Contender, job: Workload) -> None:
        self._contender, self._job = contender, job
        self.__name__ = contender.name

    def __call__(self, _: dict[str, Any]) -> None:
        from ray import tune

        contender, job = self._contender, self._job
        if contender.inner == "ours":
            prepare_process(contender.threads)
        runner = make_runner(replace(contender, style=contender.inner), job)
        started, images, training_seconds = time.monotonic(), 0, 0.0
        while True:  # until ASHA ends it
            begun = time.monotonic()
            images += runner.train_epoch()
            training_seconds += time.monotonic() - begun
            score = runner.validate()
            tune.report(
                {
                    LOSS: score.loss,
                    "images": images,
                    "training_seconds": training_seconds,
                    "started": started,
                    "ended": time.monotonic(),
                }
            )
