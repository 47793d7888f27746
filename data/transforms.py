"""What augmentation does to a batch of images, each sample by its own parameters.

Shapes: N samples, C channels (1 or 3), H x W pixels. Order: crop, flip, rotation, shift (all in
one step), brightness, contrast, erasing. What comes from outside an image is 0, as torchvision
has it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draws:
    """What is to happen to each of N samples; None: nothing of the kind to any.

    flip_N: bool. shift_N2: int64 pixels to the right and down. angle_N: radians, clockwise.
    crop_N4: left, top, width and height in pixels, to be enlarged to the full image.
    brightness_N, contrast_N: factors. erase_N4: int64 left, top, width, height in pixels.
    """

    flip_N: Tensor | None = None
    shift_N2: Tensor | None = None
    angle_N: Tensor | None = None
    crop_N4: Tensor | None = None
    brightness_N: Tensor | None = None
    contrast_N: Tensor | None = None
    erase_N4: Tensor | None = None


def apply(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """`images_NCHW` (float, 0 to 1) as `draws` has it."""
    images = images_NCHW
    if draws.angle_N is not None or draws.crop_N4 is not None:
        images = _resampled(images, draws)
    elif draws.flip_N is not None or draws.shift_N2 is not None:
        images = _moved(images, draws)
    # ColorJitter's order is random; but for the clamping, both orders give the same.
    if draws.brightness_N is not None:
        images = (images * draws.brightness_N[:, None, None, None]).clamp_(0, 1)
    if draws.contrast_N is not None:
        factor_N = draws.contrast_N
        grey_N = ((1 - factor_N) * _mean_luma(images))[:, None, None, None]
        images = (images * factor_N[:, None, None, None]).add_(grey_N).clamp_(0, 1)
    if draws.erase_N4 is not None:
        images = images * _kept(draws.erase_N4, *images.shape[2:])
    return images


def _mean_luma(images_NCHW: Tensor) -> Tensor:
    means_NC = images_NCHW.mean((2, 3))
    if means_NC.shape[1] == 1:
        return means_NC[:, 0]
    red_N, green_N, blue_N = means_NC.unbind(1)
    return _LUMA[0] * red_N + _LUMA[1] * green_N + _LUMA[2] * blue_N


def _kept(box_N4: Tensor, height: int, width: int) -> Tensor:
    """float N1HW: 0 in each sample's box, 1 elsewhere."""
    left, top, box_width, box_height = box_N4[:, :, None].unbind(1)
    rows = torch.arange(height, device=box_N4.device)
    columns = torch.arange(width, device=box_N4.device)
    in_rows_NH = (rows >= top) & (rows < top + box_height)
    in_columns_NW = (columns >= left) & (columns < left + box_width)
    return 1 - in_rows_NH.float()[:, None, :, None] * in_columns_NW.float()[:, None, None, :]


def _moved(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """Flips and shifts by whole pixels: exact, and 1.5 to 3 times as fast (CPU) as resampling."""
    count, channels, height, width = images_NCHW.shape
    device = images_NCHW.device
    # Indices into images with a border of one zero pixel, which all that lies outside comes from.
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

    The pixel at p of the result, seen from the image's centre, comes from c + S F R (p - t): t the
    shift, R the turn back, F the flip, S and c the crop's relative size and its centre.
    """
    count, _, height, width = images_NCHW.shape
    ones_N = images_NCHW.new_ones(count)
    zeros_N = images_NCHW.new_zeros(count)
    cosine_N, sine_N, mirror_N = ones_N, zeros_N, ones_N
    right_N = down_N = centre_x_N = centre_y_N = zeros_N
    scale_x_N = scale_y_N = ones_N
    if draws.angle_N is not None:
        cosine_N, sine_N = draws.angle_N.cos(), draws.angle_N.sin()
    if draws.flip_N is not None:
        mirror_N = 1 - 2 * draws.flip_N.float()
    if draws.shift_N2 is not None:
        right_N, down_N = draws.shift_N2.unbind(1)
    if draws.crop_N4 is not None:
        left_N, top_N, box_width_N, box_height_N = draws.crop_N4.unbind(1)
        scale_x_N, scale_y_N = box_width_N / width, box_height_N / height
        centre_x_N = left_N + (box_width_N - width) / 2
        centre_y_N = top_N + (box_height_N - height) / 2

    # Rows of S F R and c, as parts of half the image's side: grid_sample counts from -1 to 1.
    unit_x_N, unit_y_N = scale_x_N * (2 / width), scale_y_N * (2 / height)
    by_x_N2 = torch.stack((unit_x_N * mirror_N * cosine_N, -unit_y_N * sine_N), 1)
    by_y_N2 = torch.stack((unit_x_N * mirror_N * sine_N, unit_y_N * cosine_N), 1)
    start_N2 = torch.stack((centre_x_N * (2 / width), centre_y_N * (2 / height)), 1)
    start_N2 = start_N2 - by_x_N2 * right_N[:, None] - by_y_N2 * down_N[:, None]
    x_W = torch.arange(width, device=images_NCHW.device) - (width - 1) / 2
    y_H = torch.arange(height, device=images_NCHW.device) - (height - 1) / 2
    # Outer sums, not affine_grid: that one's small matrix products take longer than the sampling.
    along_x_N2W = by_x_N2[:, :, None] * x_W + start_N2[:, :, None]
    along_y_N2H = by_y_N2[:, :, None] * y_H
    grid_N2HW = along_x_N2W[:, :, None, :] + along_y_N2H[:, :, :, None]
    return grid_sample(
        images_NCHW,
        grid_N2HW.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
