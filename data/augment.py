"""Random variation of a batch of images, each sample on its own, on the batch's device.

A policy says how far samples may be varied; `draw` decides what happens to each of them, and
`transforms.apply` does it. No loops over samples, no shapes that depend on data and no waiting
for the device: a CUDA graph can hold all of it.

Shapes: N samples, C channels (1 or 3), H x W pixels.
"""

import math

import torch
from torch import Tensor

from data.policies import Policy
from data.transforms import Draws, apply


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
