"""How much memory packed trials take: 1, 4 and 16 of them in one process.

Each number of trials runs in a new process, which loads the images once, whatever the number. On a
CPU the peak is that of the process's resident set; on a GPU that of torch's tensors, and in
addition that of the memory that torch had reserved for them.

    python -m benchmarks.memory --json benchmarks/results/memory.json
    python -m benchmarks.memory --packed 1 2 8 --network small
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import OurRunner
from benchmarks.record import BenchmarkParser, environment, write_json
from benchmarks.workload import NETWORKS, Workload
from search.terminal.commands import run
from search.training.device import choose_device, prepare_process

MEBIBYTE = 2**20
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of getrusage(2)


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_counts(("packed", [1, 4, 16], "trials"))
    own.add_argument("--network", choices=NETWORKS, default="typical", help="default: typical")
    own.add("dataset", "limit", "json", "device", "data-dir")
    return own


def measure(job: Workload, packed: int) -> dict[str, int]:
    """Bytes, measured in a new process: of the images, before training, and at the peak."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measure, job, packed).result()


def _measure(job: Workload, packed: int) -> dict[str, int]:
    prepare_process(threads=1)
    device = torch.device(job.device)
    task = job.task(device)
    parts = (task.training, task.validation)
    found = {
        "images": sum(part.images_NCHW.numel() + part.labels_N.nbytes for part in parts),
        "before_training": _peak(device),
    }
    del task, parts
    runner = OurRunner(job, device, packed)
    runner.train_epoch()
    runner.validate()
    found["peak"] = _peak(device)
    if device.type == "cuda":
        found["peak_reserved"] = torch.cuda.max_memory_reserved(device)
    return found


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    # Preferred to getrusage, whose peak includes the process that started this one.
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def line(packed: int, found: Mapping[str, int]) -> str:
    sizes = ", ".join(
        f"{name.replace('_', ' ')} {size / MEBIBYTE:,.0f} MiB" for name, size in found.items()
    )
    return f"{packed:>3} trials: {sizes}"


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = parser().parse_args(argv)
    device = choose_device(args.device)
    job = Workload.of(args, device, args.network)
    bytes_of: dict[str, Any] = {}
    for packed in args.packed:
        bytes_of[str(packed)] = found = measure(job, packed)
        print(line(packed, found))
    made = environment("memory", device)
    write_json(args.json, {"bytes": bytes_of, "network": args.network, **made})
    return 0


if __name__ == "__main__":
    run(main)
