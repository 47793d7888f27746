"""One training's random states, kept apart from every other training's in the process."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch

from search.training.epoch import derived_seed


class OwnRandomness:
    """Three streams from one seed, and a context in which torch's global one is ours too.

    Attributes:
        order: draws the order of the examples. A stream of its own, so that trainings that
            differ in augmentation or network see the same examples in the same order.
        augmentation: draws the augmentations.

    Within `with randomness:`, torch's default generators (weights, dropout) continue this
    training's stream; outside they are as they were.

    The CPU's default generator is swapped by value. CUDA's gets another state *object*, by
    reference: no kernel runs and nothing waits for the device, and above all, CUDA graphs read
    seed and offset from two numbers on the device that belong to the object. Were it shared, the
    graphs of several trainings, replayed on several streams, would overwrite each other's.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self.order = self._generator(derived_seed(seed, "order"))
        self.augmentation = self._generator(derived_seed(seed, "augmentation"))
        global_seed = derived_seed(seed, "global")
        self._own_cpu = torch.Generator().manual_seed(global_seed).get_state()
        self._own_cuda = self._generator(global_seed) if device.type == "cuda" else None

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self._device).manual_seed(seed)

    def __enter__(self) -> None:
        self._others_cpu = torch.get_rng_state()
        torch.set_rng_state(self._own_cpu)
        if self._own_cuda is not None:
            default = self._cuda_default()
            self._others_cuda = default.graphsafe_get_state()
            default.graphsafe_set_state(self._own_cuda)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._own_cpu = torch.get_rng_state()
        torch.set_rng_state(self._others_cpu)
        if self._own_cuda is not None:
            self._cuda_default().graphsafe_set_state(self._others_cuda)

    def _cuda_default(self) -> torch.Generator:
        index = self._device.index
        return torch.cuda.default_generators[
            torch.cuda.current_device() if index is None else index
        ]

    def recorded_generators(self) -> list[torch.Generator]:
        """The generators that a training step draws from on the device: a graph must know them."""
        return [self.augmentation] + ([] if self._own_cuda is None else [self._own_cuda])

    def renew(self) -> None:
        """Go on with new generators in the same states; to be called within the context.

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
        """Take up a `state()`; not within the context."""
        self._own_cpu, *own_cuda = state["global"]
        if self._own_cuda is not None and own_cuda:
            self._own_cuda.set_state(own_cuda[0])
        self.order.set_state(state["order"])
        self.augmentation.set_state(state["augmentation"])
