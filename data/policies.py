"""How far images may be varied in training; `augment` varies them. Loads no torch."""

import math
from dataclasses import dataclass

POLICY_NAMES: tuple[str, ...] = (
    "none",
    "flip-crop",
    "flip-rotate-crop",
    "rotate-jitter-erase",
    "zoom-translate-flip",
    "flip-crop-erase",
)
MAX_STRENGTH = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How far a sample may be varied; the defaults leave it as it is.

    flip_probability: of mirroring left and right, 0 to 1.
    shift_fraction: whole pixels along each axis, up to this fraction of the side, 0 to 0.5. The
        same as a random crop after padding by as much.
    rotate_degrees: either way, 0 to 180.
    crop_area: the smallest part of the area that a crop, enlarged to the full size, may have;
        0 (exclusive) to 1, which is no crop.
    crop_aspect: the largest ratio of the crop's sides to each other, relative to the image's; 1
        and up.
    brightness, contrast: factors from 1 - value to 1 + value, 0 to 1; torchvision's ColorJitter.
    erase_probability: of blanking one box, 0 to 1; torchvision's RandomErasing, value 0 (Zhong et
        al., Random Erasing Data Augmentation, arXiv:1708.04896).
    erase_area, erase_aspect: ranges of the box's part of the area and of its height over width.
    """

    flip_probability: float = 0.0
    shift_fraction: float = 0.0
    rotate_degrees: float = 0.0
    crop_area: float = 1.0
    crop_aspect: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase_probability: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.33)
    erase_aspect: tuple[float, float] = (0.3, 3.3)

    def __post_init__(self) -> None:
        for name, highest in (
            ("flip_probability", 1),
            ("shift_fraction", 0.5),
            ("rotate_degrees", 180),
            ("brightness", 1),
            ("contrast", 1),
            ("erase_probability", 1),
        ):
            if not 0 <= getattr(self, name) <= highest:
                raise ValueError(f"{name} must be 0 to {highest}, but is {getattr(self, name)}")
        if not 0 < self.crop_area <= 1:
            raise ValueError(f"crop_area must be over 0 and at most 1, but is {self.crop_area}")
        if not 1 <= self.crop_aspect < math.inf:
            raise ValueError(f"crop_aspect must be at least 1, but is {self.crop_aspect}")
        if not 0 < self.erase_area[0] <= self.erase_area[1] <= 1:
            raise ValueError(f"erase_area must be a range within 0 to 1, but is {self.erase_area}")
        if not 0 < self.erase_aspect[0] <= self.erase_aspect[1] < math.inf:
            raise ValueError(f"erase_aspect must be a range over 0, but is {self.erase_aspect}")


def policy(name: str, strength: float, *, mirror_changes_class: bool) -> Policy:
    """The policy called `name`, at 0 the identity, at 1 of the usual size, at most MAX_STRENGTH.

    At 1: flip half of the samples, shift up to 2 of 28 pixels, rotate up to 15 degrees, crop down
    to 0.6 of the area with sides up to 4:3, brightness and contrast within 0.2, erase in half of
    the samples. No policy flips where `mirror_changes_class`. Raises ValueError.
    """
    if name not in POLICY_NAMES:
        raise ValueError(
            f"unknown augmentation policy {name!r}; choose one of {', '.join(POLICY_NAMES)}"
        )
    if not 0 <= strength <= MAX_STRENGTH:
        raise ValueError(f"augmentation strength must be 0 to {MAX_STRENGTH:g}, but is {strength}")
    # More than half would flip less at random again.
    flip = 0.0 if mirror_changes_class else min(0.5, 0.5 * strength)
    shift = strength / 14
    rotate = 15 * strength
    erase = 0.5 * strength
    match name:
        case "flip-crop":
            return Policy(flip_probability=flip, shift_fraction=shift)
        case "flip-rotate-crop":
            return Policy(flip_probability=flip, shift_fraction=shift, rotate_degrees=rotate)
        case "rotate-jitter-erase":
            jitter = 0.2 * strength
            return Policy(
                rotate_degrees=rotate,
                brightness=jitter,
                contrast=jitter,
                erase_probability=erase,
            )
        case "zoom-translate-flip":
            return Policy(
                flip_probability=flip,
                shift_fraction=shift,
                crop_area=1 - 0.4 * strength,
                crop_aspect=(4 / 3) ** strength,
            )
        case "flip-crop-erase":
            return Policy(flip_probability=flip, shift_fraction=shift, erase_probability=erase)
        case _:
            return Policy()
