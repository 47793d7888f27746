"""CUDA graphs: work is recorded once, then launched as a whole instead of kernel by kernel.

A step of a small network is some hundred kernels of a few microseconds each; launched one by one
from Python they take ten times as long. On a CPU the same functions run as they are.

Recording follows torch's notes (docs/notes/cuda, "CUDA Graphs"), but the required warm-up calls
are the training's own first steps, so nothing has to be undone.
"""

from __future__ import annotations

import functools
import gc
import logging
import random
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch

from models.checks import first_line
from search.training.epoch import derived_seed

WARM_UP_CALLS = 3
# Number of calls in one long graph: they share the cost of one launch, and of writing the random
# offsets before it.
UNROLLED = 8

_log = logging.getLogger(__name__)


class OwnRandomness:
    """One training's random states: three streams from one seed, separate from all others.

    Trainings that differ in augmentation or network see the same examples in the same order.

    Within `with randomness:`, torch's default generators (weights, dropout) continue this
    training's stream. The CPU's is swapped by value. CUDA's gets another state *object*: graphs
    read seed and offset from device memory that belongs to it, which several trainings would
    otherwise overwrite. Trainings in other threads wait meanwhile; what else another thread draws
    from torch's default generators is drawn from this stream.
    """

    _default_generators = threading.RLock()  # one for the process, as they are

    def __init__(self, seed: int, device: torch.device) -> None:
        def generator(stream: str) -> torch.Generator:
            return torch.Generator(device).manual_seed(derived_seed(seed, stream))

        self._device = device
        self.order, self.augmentation = generator("order"), generator("augmentation")
        global_seed = derived_seed(seed, "global")
        self._own_cpu = torch.Generator().manual_seed(global_seed).get_state()
        self._own_cuda = generator("global") if device.type == "cuda" else None

    def __enter__(self) -> None:
        self._default_generators.acquire()
        self._others_cpu = torch.get_rng_state()
        torch.set_rng_state(self._own_cpu)
        if self._own_cuda is not None:
            default = self._cuda_default()
            self._others_cuda = default.graphsafe_get_state()
            default.graphsafe_set_state(self._own_cuda)

    def __exit__(self, *_: object) -> None:
        self._own_cpu = torch.get_rng_state()
        torch.set_rng_state(self._others_cpu)
        if self._own_cuda is not None:
            self._cuda_default().graphsafe_set_state(self._others_cuda)
        self._default_generators.release()

    def _cuda_default(self) -> torch.Generator:
        index = self._device.index
        current = torch.cuda.current_device() if index is None else index
        return torch.cuda.default_generators[current]

    def recorded_generators(self) -> list[torch.Generator]:
        """The generators that a training step draws from on the device."""
        return [self.augmentation] + ([] if self._own_cuda is None else [self._own_cuda])

    def renew(self) -> None:
        """Switch to new generators in the same states; call it within the context.

        A generator that was being recorded when the recording failed may refuse to draw.
        """
        self.augmentation = self._copy(self.augmentation)
        if self._own_cuda is not None:
            self._own_cuda = self._copy(self._own_cuda)
            self._cuda_default().graphsafe_set_state(self._own_cuda)

    def _copy(self, generator: torch.Generator) -> torch.Generator:
        copy = torch.Generator(self._device)
        copy.set_state(generator.get_state())
        return copy

    def state(self) -> dict[str, Any]:
        own_cuda = [] if self._own_cuda is None else [self._own_cuda.get_state()]
        return {
            "global": [self._own_cpu, *own_cuda],
            "order": self.order.get_state(),
            "augmentation": self.augmentation.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore a `state()`, outside the context. From another kind of device: starts over."""
        own_cpu, *own_cuda = state["global"]
        if bool(own_cuda) != (self._own_cuda is not None):
            return
        self._own_cpu = own_cpu
        if self._own_cuda is not None:
            self._own_cuda.set_state(own_cuda[0])
        self.order.set_state(state["order"])
        self.augmentation.set_state(state["augmentation"])


class Pool:
    """Memory that the graphs of one training share; they never run at the same time.

    torch refuses its handle once the last of them is freed, so each recording asks for it anew.
    """

    def __init__(self) -> None:
        self.graphs = weakref.WeakSet[torch.cuda.CUDAGraph]()  # those that may be replayed

    def handle(self) -> Any:
        graph = next(iter(self.graphs), None)
        return torch.cuda.graph_pool_handle() if graph is None else graph.pool()


class Replayed:
    """Calls one function many times: as recorded graphs on CUDA, directly elsewhere.

    The function reads and writes tensors at fixed addresses, waits for nothing, and draws only
    from the generators of `randomness`; all calls are made within that context. If it cannot be
    recorded it is called directly, with one warning per process. `unrolled`: calls in a long graph;
    1: no long graphs. `recording`: a context entered while recording.
    """

    def __init__(
        self,
        randomness: OwnRandomness,
        device: torch.device,
        pool: Pool,
        *,
        unrolled: int = 1,
        recording: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._randomness, self._pool = randomness, pool
        self._unrolled, self._recording = unrolled, recording
        self._records = can_record(device)
        self._calls_ahead, self._waited = WARM_UP_CALLS, False
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def call(self, function: Callable[[], None], times: int = 1) -> None:
        """Call the function, always the same one; on CUDA it is only enqueued on return.

        No reference to it is kept: a cycle would delay freeing a finished training's memory.
        """
        while times > 0:
            if not self._records or self._calls_ahead > 0:
                self._calls_ahead -= 1
                if self._records and self._calls_ahead == 0:
                    if wait := _call_watched(function):
                        # Maybe of another thread; that of this function is seen at each call.
                        self._records = not self._waited
                        self._waited, self._calls_ahead = True, 1
                        if not self._records:
                            _warn_once(wait)
                else:
                    function()
                times -= 1
                continue
            calls = self._unrolled if times >= self._unrolled else 1
            if self._graphs.get(calls) not in self._pool.graphs:
                self._record(function, calls)
                continue
            self._graphs[calls].replay()
            times -= calls

    def _record(self, function: Callable[[], None], calls: int) -> None:
        """Record so many calls, at the second attempt with all the memory that torch can free.

        In a full memory a recording fails with errors of many kinds, not only "out of memory".
        """
        for _ in range(2):
            try:
                with self._recording():
                    self._graphs[calls] = record(function, calls, self._randomness, self._pool)
                return
            except RuntimeError as error:
                reason = first_line(error)
            # None of it ran, and no state has changed; but generators that were being recorded may
            # still think they are, and all graphs of this training hold the old ones.
            self._graphs.clear()
            self._pool.graphs.clear()
            self._randomness.renew()
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        self._records = False
        _warn_once(reason)


def can_record(device: torch.device) -> bool:
    return device.type == "cuda"


def _call_watched(function: Callable[[], None]) -> str | None:
    """Call it; says what waited for the device meanwhile: what does so cannot be recorded.

    Recording would fail, too, but torch 2.13 and older give back no memory after such a failure
    (pytorch/pytorch#180395).
    """
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True, action="always") as caught:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    waits = (it for it in caught if "called a synchronizing" in str(it.message))
    places = (f"{it.filename}, line {it.lineno}, waits for the device" for it in waits)
    return next(places, None)


def record(
    function: Callable[[], None], calls: int, randomness: OwnRandomness, pool: Pool
) -> torch.cuda.CUDAGraph:
    """A graph of `calls` calls, none of which runs now; RuntimeError if recording fails."""
    # Not `with torch.cuda.graph(...)`: that waits for the whole device and empties torch's memory
    # cache, so every trial that starts would hold up all others on the GPU.
    handle, graph = pool.handle(), torch.cuda.CUDAGraph()
    # Compared as versions, not as text: later graphs find the generators by themselves.
    if torch.__version__ < "2.14":
        for generator in randomness.recorded_generators():
            graph.register_generator_state(generator)
    collecting = gc.isenabled()
    gc.disable()  # another training's graph must not be freed while one is recorded
    try:
        graph.capture_begin(pool=handle, capture_error_mode="thread_local")
        try:
            with _no_draws_on_the_cpu():
                for _ in range(calls):
                    function()
        except BaseException:
            with suppress(RuntimeError):  # why recording failed matters more
                graph.capture_end()  # so that the stream is usable again
            raise
        graph.capture_end()
    finally:
        if collecting:
            gc.enable()
    pool.graphs.add(graph)
    return graph


@contextmanager
def _no_draws_on_the_cpu() -> Iterator[None]:
    """Restores the CPU's random states; RuntimeError if they moved: replays would repeat them."""
    torchs, pythons, numpys = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        moved = not (
            torch.equal(torch.get_rng_state(), torchs)
            and random.getstate() == pythons
            and all(map(np.array_equal, np.random.get_state(), numpys))
        )
        torch.set_rng_state(torchs)
        random.setstate(pythons)
        np.random.set_state(numpys)
    if moved:
        raise RuntimeError("the network, or the augmentation, draws random numbers on the CPU")


@functools.cache
def _warn_once(reason: str) -> None:
    _log.warning("cannot record CUDA graphs, so training is several times slower: %s", reason)
