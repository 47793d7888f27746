"""Random augmentation of a batch of images, each sample independently, on the batch's device.

A policy limits how far samples may vary; `draw` decides what happens to each of them, and
`transform` does it. No loops over samples, no data-dependent shapes and no waiting for the
device, so that a CUDA graph can record all of it.

Shapes: N samples, C channels (1 or 3), H x W pixels. Order: crop, flip, rotation, shift (all in
one step), brightness, contrast, erasing. Pixels from outside an image are 0, as in torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from data.augmentations import AUGMENTATIONS, ERASE_AREA, ERASE_ASPECT, Policy, policy

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale


def make_augment(
    name: str, strength: float, *, mirror_changes_class: bool
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Like `augment`, by name; ValueError if a user's function changes the shape of the images."""
    apply = AUGMENTATIONS[name].apply
    if apply is None:
        found = policy(name, strength, mirror_changes_class=mirror_changes_class)
        return lambda images_NCHW, generator: augment(images_NCHW, found, generator)

    def own(images_NCHW: Tensor, generator: torch.Generator) -> Tensor:
        varied = apply(images_NCHW, generator, strength) if strength > 0 else images_NCHW
        if varied.shape != images_NCHW.shape:
            raise ValueError(
                f"augmentation {name!r} made images of shape {tuple(varied.shape)} from "
                f"{tuple(images_NCHW.shape)}; keep the shape"
            )
        return varied

    return own


def augment(images_NCHW: Tensor, policy: Policy, generator: torch.Generator) -> Tensor:
    """`images_NCHW` (float, 0 to 1), each sample varied by `policy`; the argument is unchanged.

    `generator` is on the images' device. The identity draws nothing and returns the argument; all
    other policies draw the same amount for N images and may return a contiguous layout.
    """
    if policy == Policy():
        return images_NCHW
    count, _, height, width = images_NCHW.shape
    return transform(images_NCHW, draw(policy, count, height, width, generator))


def draw(policy: Policy, count: int, height: int, width: int, generator: torch.Generator) -> Draws:
    """Draws for `count` images of `height` x `width` pixels, on the generator's device."""
    # All uniforms in one call, needed or not: one kernel, and the same numbers for every policy.
    uniform = torch.rand(15, count, generator=generator, device=generator.device)
    u_flip, u_right, u_down, u_angle, u_area, u_aspect, u_left, u_top = uniform[:8]
    u_brightness, u_contrast = uniform[8:10]
    right, down = (round(policy.shift_fraction * side) for side in (width, height))
    drawn: dict[str, Tensor] = {}
    if policy.flip_probability > 0:
        drawn["flip_N"] = u_flip < policy.flip_probability
    if right or down:
        shifts = (_whole(u_right, 2 * right + 1) - right, _whole(u_down, 2 * down + 1) - down)
        drawn["shift_N2"] = torch.stack(shifts, 1)
    if policy.rotate_degrees > 0:
        drawn["angle_N"] = (2 * u_angle - 1) * math.radians(policy.rotate_degrees)
    if policy.crop_area < 1 or policy.crop_aspect > 1:
        # torchvision's RandomResizedCrop with real-valued boxes, clipped where it draws again.
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
        drawn["erase_N4"] = _draw_boxes(policy.erase_probability, uniform[10:], height, width)
    return Draws(**drawn)


def _whole(uniform: Tensor, count: int | Tensor) -> Tensor:
    """0 to count - 1, equally likely, from float32 in [0, 1): the product stays below count."""
    return (uniform * count).floor().long()


def _draw_boxes(probability: float, uniform_5N: Tensor, height: int, width: int) -> Tensor:
    u_erase, u_area, u_aspect, u_left, u_top = uniform_5N
    low, high = ERASE_AREA
    area = (low + (high - low) * u_area) * (height * width)
    low, high = (math.log(ratio) for ratio in ERASE_ASPECT)
    aspect = (low + (high - low) * u_aspect).exp()
    # A box as high or as wide as the image is clipped; torchvision draws again.
    box_height = (area * aspect).sqrt().round().clamp(max=height - 1)
    box_width = (area / aspect).sqrt().round().clamp(max=width - 1)
    left = _whole(u_left, width - box_width + 1)
    top = _whole(u_top, height - box_height + 1)
    chosen = u_erase < probability
    return torch.stack((left, top, (box_width * chosen).long(), (box_height * chosen).long()), 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draws:
    """What happens to each of N samples; None if that change applies to none of them."""

    flip_N: Tensor | None = None  # bool
    shift_N2: Tensor | None = None  # int64, pixels to the right and down
    angle_N: Tensor | None = None  # radians, clockwise
    crop_N4: Tensor | None = None  # left, top, width, height in pixels, enlarged to the full image
    brightness_N: Tensor | None = None  # factors
    contrast_N: Tensor | None = None
    erase_N4: Tensor | None = None  # int64 left, top, width, height in pixels


def transform(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """`images_NCHW` (float, 0 to 1), varied as `draws` says."""
    images = images_NCHW
    if draws.angle_N is not None or draws.crop_N4 is not None:
        images = _resampled(images, draws)
    elif draws.flip_N is not None or draws.shift_N2 is not None:
        images = _moved(images, draws)
    # ColorJitter's order is random; except for clamping, both orders give the same result.
    if draws.brightness_N is not None:
        images = (images * draws.brightness_N[:, None, None, None]).clamp_(0, 1)
    if draws.contrast_N is not None:
        factor_N = draws.contrast_N
        grey_N = ((1 - factor_N) * _mean_luma(images))[:, None, None, None]
        images = (images * factor_N[:, None, None, None]).add_(grey_N).clamp_(0, 1)
    if draws.erase_N4 is not None:
        left, top, box_width, box_height = draws.erase_N4[:, :, None].unbind(1)
        rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
        in_rows_NH = (rows >= top) & (rows < top + box_height)
        in_columns_NW = (columns >= left) & (columns < left + box_width)
        inside_NHW = in_rows_NH.float()[:, :, None] * in_columns_NW.float()[:, None, :]
        images = images * (1 - inside_NHW)[:, None]
    return images


def _mean_luma(images_NCHW: Tensor) -> Tensor:
    means_NC = images_NCHW.mean((2, 3))
    if means_NC.shape[1] == 1:
        return means_NC[:, 0]
    red_N, green_N, blue_N = means_NC.unbind(1)
    return _LUMA[0] * red_N + _LUMA[1] * green_N + _LUMA[2] * blue_N


def _moved(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """Flips and shifts by whole pixels: exact, and 1.5 to 3 times as fast (CPU) as resampling."""
    count, channels, height, width = images_NCHW.shape
    device = images_NCHW.device
    # Indices into images with a border of one zero pixel, the source of everything outside.
    rows_NH = torch.arange(1, height + 1, device=device).expand(count, height)
    columns_NW = torch.arange(1, width + 1, device=device).expand(count, width)
    if draws.shift_N2 is not None:
        columns_NW = (columns_NW - draws.shift_N2[:, :1]).clamp_(0, width + 1)
        rows_NH = (rows_NH - draws.shift_N2[:, 1:]).clamp_(0, height + 1)
    if draws.flip_N is not None:
        columns_NW = torch.where(draws.flip_N[:, None], width + 1 - columns_NW, columns_NW)
    bordered = pad(images_NCHW.contiguous(), (1, 1, 1, 1))
    planes_NC = torch.arange(count * channels, device=device).view(count, channels)
    rows_NCH = planes_NC[:, :, None] * (height + 2) + rows_NH[:, None, :]
    indices_NCHW = rows_NCH[..., None] * (width + 2) + columns_NW[:, None, None, :]
    return bordered.view(-1).index_select(0, indices_NCHW.view(-1)).view(images_NCHW.shape)


def _resampled(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """All geometry in one bilinear sampling.

    The result's pixel at p, relative to the image's centre, comes from c + S F R (p - t): t is the
    shift, R the inverse rotation, F the flip, S and c the crop's relative size and centre.
    """
    count, _, height, width = images_NCHW.shape
    zeros_N = images_NCHW.new_zeros(count)
    angle_N = zeros_N if draws.angle_N is None else draws.angle_N
    mirror_N = 1 - 2 * (zeros_N if draws.flip_N is None else draws.flip_N.float())
    right_N = down_N = left_N = top_N = zeros_N
    box_width_N, box_height_N = zeros_N + width, zeros_N + height
    if draws.shift_N2 is not None:
        right_N, down_N = draws.shift_N2.unbind(1)
    if draws.crop_N4 is not None:
        left_N, top_N, box_width_N, box_height_N = draws.crop_N4.unbind(1)
    cosine_N, sine_N = angle_N.cos(), angle_N.sin()
    centre_x_N = left_N + (box_width_N - width) / 2
    centre_y_N = top_N + (box_height_N - height) / 2

    # Rows of S F R and c in units of half the image's side: grid_sample's range is -1 to 1.
    unit_x_N = box_width_N / width * (2 / width)
    unit_y_N = box_height_N / height * (2 / height)
    by_x_N2 = torch.stack((unit_x_N * mirror_N * cosine_N, -unit_y_N * sine_N), 1)
    by_y_N2 = torch.stack((unit_x_N * mirror_N * sine_N, unit_y_N * cosine_N), 1)
    start_N2 = torch.stack((centre_x_N * (2 / width), centre_y_N * (2 / height)), 1)
    start_N2 = start_N2 - by_x_N2 * right_N[:, None] - by_y_N2 * down_N[:, None]
    x_W = torch.arange(width, device=images_NCHW.device) - (width - 1) / 2
    y_H = torch.arange(height, device=images_NCHW.device) - (height - 1) / 2
    # Outer sums, not affine_grid, whose small matrix products take longer than the sampling.
    along_x_N2W = by_x_N2[:, :, None] * x_W + start_N2[:, :, None]
    along_y_N2H = by_y_N2[:, :, None] * y_H
    grid_N2HW = along_x_N2W[:, :, None, :] + along_y_N2H[:, :, :, None]
    return grid_sample(images_NCHW, grid_N2HW.permute(0, 2, 3, 1), align_corners=False)
