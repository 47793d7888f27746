"""Shuffled mini-batches, drawn on the device from resident uint8 images.

Shapes: N images in all, B in a batch, C channels, H x W pixels.
"""

import torch
from torch import Tensor


def batch_indices(count: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """One epoch's batches of indices in a fresh random order: (batches, B), int64.

    On the generator's device. An incomplete last batch is left out, unless it is the only one:
    batches of one size suit batch norm and CUDA graphs, and each epoch leaves out others.
    """
    assert count >= 1
    assert batch_size >= 1
    order_N = torch.randperm(count, generator=generator, device=generator.device)
    size = min(batch_size, count)
    return order_N[: count - count % size].view(-1, size)


def gather(images_NCHW: Tensor, indices_B: Tensor) -> Tensor:
    """The images at `indices_B` in the memory format of `images_NCHW` (contiguous, channels_last).

    `index_select` copies whole images, about 20 times as fast as `images_NCHW[indices_B]` on a
    CPU, but on its own would lay channels_last images out anew.
    """
    if images_NCHW.is_contiguous(memory_format=torch.channels_last):
        return images_NCHW.permute(0, 2, 3, 1).index_select(0, indices_B).permute(0, 3, 1, 2)
    return images_NCHW.index_select(0, indices_B)


def to_unit(images_NCHW: Tensor) -> Tensor:
    """uint8 0 to 255 as float32 in [0, 1], in the same memory format."""
    return images_NCHW.float().div_(255)
