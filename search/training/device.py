"""The device that trains, and how the process is set up for it. Imports torch only to use it."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from search.training.epoch import DeviceError

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD = -1  # glibc's malloc.h
M_MMAP_THRESHOLD = -3
KEEP_BYTES = 1 << 30


def available_cores() -> int:
    """How many cores this process may use, by its affinity and its container's quota."""
    import joblib  # comes with scikit-learn; a tenth of a second to import

    cores: int = joblib.cpu_count()
    return cores


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.

    Raises:
        DeviceError: unknown name, or no such GPU.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"no CUDA device here, but --device is {name!r}; give cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise DeviceError(f"no GPU {name!r}; there are {there}, counted from cuda:0")
    return device


def prepare_process(threads: int | None = None) -> None:
    """Settings of the whole process that make training fast; call once, before training.

    glibc hands each large tensor back to the system and faults it in again at the next step;
    keeping freed memory gave 1.4 times the speed for a small CNN.
    """
    import torch

    if _has_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
    torch.set_flush_denormal(True)  # Adam's state decays into them, and they are slow on x86
    # What torch takes by default knows of affinity, not of a container's quota.
    allowed = threads or min(torch.get_num_threads(), available_cores())
    if allowed != torch.get_num_threads():
        torch.set_num_threads(allowed)
    torch.backends.cudnn.benchmark = True  # shapes never change within a trial


@contextmanager
def kept_threads() -> Iterator[None]:
    """Give a notebook's number of threads back at the end."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def return_memory(*, of_gpu: bool = True) -> None:
    """Give back what a training that has ended held, or the process grows from trial to trial.

    Args:
        of_gpu: a GPU's too. That waits for all that runs on it, so it is not for moments in which
            others train; before torch runs out, it gives it back by itself.
    """
    import torch

    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)
    if of_gpu and torch.cuda.is_available():
        torch.cuda.empty_cache()


class MemoryGauge:
    """Tells how many trainings have room on a device; made when the data is there and none is."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._data_bytes = self._held_bytes()

    def _held_bytes(self) -> int:
        """What torch has taken of the GPU: its peak, rather than what is in use just now."""
        import torch

        return torch.cuda.memory_reserved(self._device) if self._device.type == "cuda" else 0

    def fits(self, trainings: int, running: int) -> bool:
        """Whether `trainings` have room; `running` (one or more) have been at work for a while.

        Networks differ: each one more is given 1.5 times what those there have taken on average.
        """
        if self._device.type != "cuda":
            return True
        import torch

        free_bytes, _ = torch.cuda.mem_get_info(self._device)
        each = (self._held_bytes() - self._data_bytes) / running
        return 1.5 * each * (trainings - running) <= free_bytes


def _has_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def describe_hardware(device: torch.device) -> str:
    """What trained, in a few words: for reports and `metrics.json`."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            names = (line.split(":", 1)[1].strip() for line in lines if "model name" in line)
            processor = next(names, processor)
    except OSError:
        pass
    return f"{processor}, {torch.get_num_threads()} of {available_cores()} cores"
