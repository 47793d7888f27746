"""From moments to speeds, and from speeds to ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.crew import Timing
from benchmarks.ray_tune import RayTiming
from benchmarks.record import spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Of one contender in one round.

    Attributes:
        images_per_second: in training, all trials together.
        epoch_trials_per_hour: epochs of trials, each with its validation, all trials together.
        peak_bytes: most of the GPU's memory that one process's tensors took; 0 on a CPU.
    """

    images_per_second: float
    epoch_trials_per_hour: float
    peak_bytes: int = 0


# Of the rounds of one column, by the contender's name.
Rounds = Mapping[str, Sequence[Speed]]


def speed(timings: Sequence[Timing], trials: int) -> Speed:
    """Of processes that trained side by side, `trials` in all.

    From the first one's start to the last one's end, so that none counts the time in which it had
    the machine to itself as its gain.
    """
    training = max(t.trained for t in timings) - min(t.started for t in timings)
    validation = max(t.validated - t.trained for t in timings)
    epochs = min(t.epochs for t in timings)
    return Speed(
        images_per_second=sum(t.images for t in timings) / training,
        epoch_trials_per_hour=3600 * trials / (training / epochs + validation),
        peak_bytes=max(t.peak_bytes for t in timings),
    )


def ray_speed(timing: RayTiming, at_once: int) -> Speed:
    """Images by the training time alone; epochs by all the time from the first to the last."""
    return Speed(
        images_per_second=at_once * timing.images / timing.training_seconds,
        epoch_trials_per_hour=3600 * timing.epochs / timing.seconds,
    )


def column_summary(rounds: Rounds) -> dict[str, Any]:
    """Both speeds and the memory of each contender, as they stand in the JSON."""
    return {
        "images_per_second": {
            name: spread([speed.images_per_second for speed in speeds])
            for name, speeds in rounds.items()
        },
        "epoch_trials_per_hour": {
            name: spread([speed.epoch_trials_per_hour for speed in speeds])
            for name, speeds in rounds.items()
        },
        "peak_bytes": {
            name: max(speed.peak_bytes for speed in speeds) for name, speeds in rounds.items()
        },
    }


def ratios(rounds: Rounds, contenders: Sequence[Contender]) -> dict[str, Any]:
    """Ours against the others, round by round.

    The denominator is in every round the fastest of its kind in that round.

    - vs_dataloader: ours as studies run (several trials at a time: workers on a CPU, packed on
      a GPU) / DataLoader, one trial.
    - vs_dataloader_bfloat16: the same where the DataLoader style computes in bfloat16 too, which
      is not in its documentation: what is left is the design alone.
    - alone_vs_dataloader: ours / DataLoader, one trial each.
    - vs_dataloader_parallel: ours as studies run / DataLoader, as many processes.
    - vs_ray: ours as studies run / the DataLoader style under Ray Tune.
    - epoch_trials_vs_dataloader, epoch_trials_vs_ray: the same in epoch-trials an hour.
    """
    present = [contender for contender in contenders if contender.name in rounds]
    studies = [c.name for c in present if c.style == "ours" and c.at_once > 1] or ["ours_alone"]
    one = [c.name for c in present if c.style == "dataloader" and c.at_once == 1 and not c.bfloat16]
    pairs = {
        "vs_dataloader": (studies, one),
        "vs_dataloader_bfloat16": (studies, ["dataloader_bfloat16"]),
        "alone_vs_dataloader": (["ours_alone"], one),
        "vs_dataloader_parallel": (studies, ["dataloader_parallel"]),
        "vs_ray": (studies, ["ray_dataloader"]),
    }
    found = {}
    for name, (ours, theirs) in pairs.items():
        if all(other in rounds for other in theirs):
            found[name] = spread(_ratios(rounds, ours, theirs, "images_per_second"))
    for name in ("vs_dataloader", "vs_ray"):
        if name in found:
            values = _ratios(rounds, *pairs[name], "epoch_trials_per_hour")
            found[f"epoch_trials_{name}"] = spread(values)
    return found


def _ratios(rounds: Rounds, ours: Sequence[str], theirs: Sequence[str], figure: str) -> list[float]:
    """The best of ours over the best of theirs, for each round.

    Which of ours is the best is settled once, by the medians: a study does not choose anew.
    """

    def values(name: str) -> list[float]:
        return [getattr(speed, figure) for speed in rounds[name]]

    best = max(ours, key=lambda name: spread(values(name))["median"])
    return [
        mine / max(others) for mine, *others in zip(values(best), *map(values, theirs), strict=True)
    ]
