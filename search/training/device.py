"""The device that trains, and how the process is set up for it."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import joblib
import torch

from search.training.epoch import DeviceError

PACKAGES = ("cnn-search", "optuna", "torch", "torchvision", "numpy")
M_TRIM_THRESHOLD = -1  # glibc's malloc.h
M_MMAP_THRESHOLD = -3
KEEP_BYTES = 1 << 30
HAS_GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def available_cores() -> int:
    """How many cores this process may use, by its affinity and its container's quota."""
    cores: int = joblib.cpu_count()
    return cores


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.

    Raises DeviceError: unknown name, or no such GPU.
    """
    # The driver counts GPUs that this build of torch may not be able to use.
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        device = torch.device(("cuda" if gpus else "cpu") if name == "auto" else name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise DeviceError(f"no GPU {name!r} of {gpus}, counted from cuda:0; give auto or cpu")
    return device


def prepare_process(threads: int | None = None) -> None:
    """Settings of the whole process that make training fast; call once, before training.

    glibc hands each large tensor back to the system and faults it in again at the next step;
    keeping freed memory gave 1.4 times the speed for a small CNN.
    """
    if HAS_GLIBC:
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
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def return_memory(*, of_gpu: bool = True) -> None:
    """Give back what a training that has ended held, or the process grows from trial to trial.

    `of_gpu`: a GPU's too. That waits for all that runs on it, so it is not for moments in which
    others train; before torch runs out, it gives it back by itself.
    """
    if HAS_GLIBC:
        ctypes.CDLL(None).malloc_trim(0)
    if of_gpu and torch.cuda.is_available():
        torch.cuda.empty_cache()


def describe_hardware(device: torch.device) -> str:
    """What trained, in a few words: for reports and `metrics.json`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = (line.split(":", 1)[1].strip() for line in lines if "model name" in line)
        processor = next(names, processor)
    return f"{processor}, {torch.get_num_threads()} of {available_cores()} cores"


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # run from a checkout that was not installed
            found[package] = version(package)
    return found
