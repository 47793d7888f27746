"""Registry of augmentations: how far images may vary in training. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_STRENGTH = 2.0
# Ranges of an erased box's share of the image's area, and of its height over its width.
ERASE_AREA, ERASE_ASPECT = (0.02, 0.33), (0.3, 3.3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How far a sample may be varied; the defaults leave it unchanged."""

    flip_probability: float = 0.0  # of mirroring left and right, 0 to 1
    # Whole pixels along each axis, up to this fraction of the side, 0 to 0.5. Equivalent to a
    # random crop after padding by as much.
    shift_fraction: float = 0.0
    rotate_degrees: float = 0.0  # in either direction, 0 to 180
    crop_area: float = 1.0  # smallest share of the area that a crop keeps, then enlarged; above 0
    crop_aspect: float = 1.0  # largest ratio of the crop's sides, relative to the image's; 1 and up
    # Factors from 1 - value to 1 + value, 0 to 1; torchvision's ColorJitter.
    brightness: float = 0.0
    contrast: float = 0.0
    # Of blanking one box, 0 to 1; torchvision's RandomErasing with value 0 (Zhong et al., Random
    # Erasing Data Augmentation, arXiv:1708.04896).
    erase_probability: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """One entry of AUGMENTATIONS. At strength 0 images stay unchanged and `apply` is not called.

    apply: a function instead of a policy, `apply(images_NCHW, generator, strength)`, from float
        images in [0, 1] to as many of the same shape. It draws only from `generator`, which is on
        the images' device, and uses no data-dependent shapes, because CUDA graphs record it.
    """

    description: str  # one line for --help
    policy: Callable[[float], Policy] | None = None  # from a strength, usually 1
    apply: Callable[[Tensor, torch.Generator, float], Tensor] | None = None

    def __post_init__(self) -> None:
        if (self.policy is None) == (self.apply is None):
            raise ValueError("an augmentation has either a policy or a function `apply`")


# The changes to an image, and how far each goes at a strength.
_CHANGES: dict[str, Callable[[float], dict[str, float]]] = {
    # Mirroring more than half of the samples would reduce the variety again.
    "mirrored": lambda it: {"flip_probability": min(0.5, 0.5 * it)},
    "shifted": lambda it: {"shift_fraction": it / 14},
    "rotated": lambda it: {"rotate_degrees": 15 * it},
    "zoomed": lambda it: {"crop_area": 1 - 0.4 * it, "crop_aspect": (4 / 3) ** it},
    "jittered": lambda it: {"brightness": 0.2 * it, "contrast": 0.2 * it},
    "a box erased": lambda it: {"erase_probability": 0.5 * it},
}


def _combine(*changes: str) -> Augmentation:
    def policy(strength: float) -> Policy:
        return Policy(**dict(it for one in changes for it in _CHANGES[one](strength).items()))

    return Augmentation(description=", ".join(changes) or "images as they are", policy=policy)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": _combine(),
    "flip-crop": _combine("mirrored", "shifted"),
    "flip-rotate-crop": _combine("mirrored", "shifted", "rotated"),
    "rotate-jitter-erase": _combine("rotated", "jittered", "a box erased"),
    "zoom-translate-flip": _combine("mirrored", "shifted", "zoomed"),
    "flip-crop-erase": _combine("mirrored", "shifted", "a box erased"),
}


def policy(name: str, strength: float, *, mirror_changes_class: bool) -> Policy:
    """The policy called `name` at that strength; it never flips if `mirror_changes_class`."""
    made = AUGMENTATIONS[name].policy
    assert made is not None
    found = made(strength)
    return replace(found, flip_probability=0.0) if mirror_changes_class else found
