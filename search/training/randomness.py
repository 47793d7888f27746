"""One training's random states, kept apart from every other training's in the process."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Any

import torch


def derived_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that is a function of the parts alone, and differs between them."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class OwnRandomness:
    """Three streams from one seed, and a context in which torch's global one is ours too.

    Attributes:
        order: draws the order of the examples. A stream of its own, so that trainings that
            differ in augmentation or network see the same examples in the same order.
        augmentation: draws the augmentations.

    Within `with randomness:`, torch's default generators (weights, dropout) continue this
    training's stream; outside they are as they were.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self.order = self._generator(derived_seed(seed, "order"))
        self.augmentation = self._generator(derived_seed(seed, "augmentation"))
        global_seed = derived_seed(seed, "global")
        self._own = [torch.Generator().manual_seed(global_seed).get_state()]
        if device.type == "cuda":
            self._own.append(self._generator(global_seed).get_state())

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self._device).manual_seed(seed)

    def _swap(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        previous = [torch.get_rng_state()]
        torch.set_rng_state(states[0])
        if self._device.type == "cuda":
            previous.append(torch.cuda.get_rng_state(self._device))
            torch.cuda.set_rng_state(states[1], self._device)
        return previous

    def __enter__(self) -> None:
        self._others = self._swap(self._own)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._own = self._swap(self._others)

    def state(self) -> dict[str, Any]:
        return {
            "global": self._own,
            "order": self.order.get_state(),
            "augmentation": self.augmentation.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._own = list(state["global"])
        self.order.set_state(state["order"])
        self.augmentation.set_state(state["augmentation"])
