"""Random variation of a batch of images, each sample on its own, on the batch's device.

A policy says how far samples may be varied; `draw` decides what happens to each of them, and
`transforms.apply` does it. No loops over samples, no shapes that depend on data and no waiting
for the device: a CUDA graph can hold all of it.

Shapes: N samples, C channels (1 or 3), H x W pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from data.transforms import Draws, apply

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


def augment(images_NCHW: Tensor, policy: Policy, generator: torch.Generator) -> Tensor:
    """`images_NCHW` (float, 0 to 1), each sample varied by `policy`; the argument stays as it is.

    `generator` is on the images' device; how much is drawn from it depends on the policy and N
    alone. The identity returns the argument itself, else the layout may be a contiguous one.
    """
    if policy == Policy():
        return images_NCHW
    count, _, height, width = images_NCHW.shape
    return apply(images_NCHW, draw(policy, count, height, width, generator))


def draw(policy: Policy, count: int, height: int, width: int, generator: torch.Generator) -> Draws:
    """Draws for `count` images of `height` x `width` pixels, on the generator's device."""
    # All uniforms in one call, needed or not: one kernel, and the same numbers for every policy.
    uniform = torch.rand(15, count, generator=generator, device=generator.device)
    u_flip, u_right, u_down, u_angle = uniform[:4]
    u_area, u_aspect, u_left, u_top = uniform[4:8]
    u_brightness, u_contrast = uniform[8:10]
    u_erase = uniform[10:]

    right = round(policy.shift_fraction * width)
    down = round(policy.shift_fraction * height)
    drawn: dict[str, Tensor] = {}
    if policy.flip_probability > 0:
        drawn["flip_N"] = u_flip < policy.flip_probability
    if right or down:
        shifts = (_whole(u_right, 2 * right + 1) - right, _whole(u_down, 2 * down + 1) - down)
        drawn["shift_N2"] = torch.stack(shifts, 1)
    if policy.rotate_degrees > 0:
        drawn["angle_N"] = (2 * u_angle - 1) * math.radians(policy.rotate_degrees)
    if policy.crop_area < 1 or policy.crop_aspect > 1:
        # torchvision's RandomResizedCrop, but with real-valued boxes, and cut to the image where
        # it would draw again.
        area = 1 - (1 - policy.crop_area) * u_area
        stretch = ((2 * u_aspect - 1) * (math.log(policy.crop_aspect) / 2)).exp()
        box_width = (area.sqrt() * stretch).clamp(max=1) * width
        box_height = (area.sqrt() / stretch).clamp(max=1) * height
        left, top = u_left * (width - box_width), u_top * (height - box_height)
        drawn["crop_N4"] = torch.stack((left, top, box_width, box_height), 1)
    if policy.brightness > 0:
        drawn["brightness_N"] = 1 + (2 * u_brightness - 1) * policy.brightness
    if policy.contrast > 0:
        drawn["contrast_N"] = 1 + (2 * u_contrast - 1) * policy.contrast
    if policy.erase_probability > 0:
        drawn["erase_N4"] = _draw_boxes(policy, u_erase, height, width)
    return Draws(**drawn)


def _whole(uniform: Tensor, count: int | Tensor) -> Tensor:
    """0 to count - 1, equally likely, out of float32 in [0, 1): the product stays below count."""
    return (uniform * count).floor().long()


def _draw_boxes(policy: Policy, uniform_5N: Tensor, height: int, width: int) -> Tensor:
    u_erase, u_area, u_aspect, u_left, u_top = uniform_5N
    low, high = policy.erase_area
    area = (low + (high - low) * u_area) * (height * width)
    low, high = (math.log(ratio) for ratio in policy.erase_aspect)
    aspect = (low + (high - low) * u_aspect).exp()
    # A box as high or as wide as the image is cut; torchvision draws again.
    box_height = (area * aspect).sqrt().round().clamp(max=height - 1)
    box_width = (area / aspect).sqrt().round().clamp(max=width - 1)
    left = _whole(u_left, width - box_width + 1)
    top = _whole(u_top, height - box_height + 1)
    chosen = u_erase < policy.erase_probability
    return torch.stack((left, top, (box_width * chosen).long(), (box_height * chosen).long()), 1)
