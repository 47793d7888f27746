"""The training device, and the process settings for it."""

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

from models.checks import first_line
from search.spec.domains import SpecError
from search.training.epoch import DeviceLostError

PACKAGES = ("cnn-search", "optuna", "torch", "torchvision", "numpy")
M_TRIM_THRESHOLD = -1  # glibc's malloc.h
M_MMAP_THRESHOLD = -3
KEEP_BYTES = 1 << 30
HAS_GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def available_cores() -> int:
    """The number of cores that affinity and the container's quota allow this process."""
    return int(joblib.cpu_count())


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA if available), `cpu`, `cuda` or `cuda:1`.

    Raises SpecError: unknown name, or no such GPU.
    """
    gpus = 0
    # The driver counts GPUs that this build of torch may not be able to use, and without CUDA also
    # those divided by MIG, of which CUDA gives a process only one part.
    if name != "cpu" and torch.cuda.is_available():
        torch.cuda.init()  # type: ignore[no-untyped-call]  # from here on, CUDA counts
        gpus = torch.cuda.device_count()
    try:
        device = torch.device(("cuda" if gpus else "cpu") if name == "auto" else name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise SpecError("device", f"unknown device {name!r}; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        found = f"{gpus} found, from cuda:0 up"
        raise SpecError("device", f"no GPU {name!r}: {found}; give auto or cpu")
    return device


def check_device(device: torch.device) -> None:
    """Wait for the device. Raises DeviceLostError if it is a GPU that this process has lost.

    After some errors every call fails in the process that had them: when a laptop has slept, the
    driver was reset, or a kernel has failed, such as one of a user's network.
    """
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError as error:
            raise DeviceLostError(
                f"this process has lost {device} ({first_line(error)}); run the same command again "
                "to resume, in a notebook after restarting its kernel"
            ) from error


def prepare_process(threads: int | None = None) -> None:
    """Process-wide settings that make training fast; call once, before training.

    glibc returns each large freed tensor to the system and faults it in again at the next step;
    keeping freed memory trained a small CNN 1.4 times as fast.
    """
    if HAS_GLIBC:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
    torch.set_flush_denormal(True)  # Adam's state decays into denormals, which are slow on x86
    # torch's default respects affinity, but not a container's quota.
    allowed = threads or min(torch.get_num_threads(), available_cores())
    if allowed != torch.get_num_threads():
        torch.set_num_threads(allowed)
    torch.backends.cudnn.benchmark = True  # shapes never change within a trial


@contextmanager
def kept_threads() -> Iterator[None]:
    """Restore a notebook's number of threads at the end."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def return_memory(*, of_gpu: bool = True) -> None:
    """Release the memory of a finished training; otherwise the process grows with each trial.

    `of_gpu`: GPU memory, too. That waits for everything running on the GPU, so do not use it while
    others train; torch releases its cache by itself before it runs out of memory.
    """
    if HAS_GLIBC:
        ctypes.CDLL(None).malloc_trim(0)
    if of_gpu and torch.cuda.is_available():
        torch.cuda.empty_cache()


def describe_hardware(device: torch.device) -> str:
    """What this process trains or tests on, in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = (line.split(":", 1)[1].strip() for line in lines if "model name" in line)
        processor = next(names, processor)
    return f"{processor}, {torch.get_num_threads()} of {available_cores()} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # run from a checkout that was not installed
            found[package] = version(package)
    return found
