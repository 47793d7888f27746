"""Labelled images as resident tensors: splitting, normalisation and batching.

Shapes: N images, B per batch, M selected ones; C channels, H x W pixels; K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.errors import DataError
from data.folders.preparation import Preparation


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Examples:
    """Images and their labels, in the order of the source, on one device."""

    images_NCHW: Tensor  # uint8, 0 to 255
    labels_N: Tensor  # int64, 0 to K - 1

    def __len__(self) -> int:
        return len(self.labels_N)

    def to(self, device: torch.device | str) -> Examples:
        return Examples(images_NCHW=self.images_NCHW.to(device), labels_N=self.labels_N.to(device))

    def select(self, indices_M: Tensor) -> Examples:
        """The examples at `indices_M` (int64, on the same device), copied, in that order."""
        return Examples(
            images_NCHW=self.images_NCHW.index_select(0, indices_M),
            labels_N=self.labels_N.index_select(0, indices_M),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """What is fixed about a data set. Names and notes may be untrusted: escape them."""

    name: str  # canonical, as `load_training` takes it: "mnist", "folder:/absolute/path"
    title: str  # for display: "Fashion-MNIST"
    class_names: tuple[str, ...]  # label k is class_names[k]
    image_shape: tuple[int, int, int]  # C, H, W
    mirror_changes_class: bool  # a mirrored image may belong to another class (digits, letters)
    validation_count: int  # how many training examples are used for validation by default
    training_count: int  # all of them, including those for validation
    # Digests of a folder's test images, by "<split>/<class>/<file>", or of an archive's test
    # arrays; empty for data sets whose test images are verified in another way.
    test_digests: Mapping[str, str] = field(default_factory=dict)
    test_is_drawn: bool = False  # the test images were held out of the training images
    has_own_validation: bool = False  # the last `validation_count`; otherwise they are drawn
    preparation: Preparation = field(default_factory=Preparation)  # also of pictures to classify
    notes: tuple[str, ...] = ()  # how the data set was made, one sentence each


def split(
    examples: Examples,
    *,
    validation_count: int,
    seed: int,
    limit: int | None = None,
    drawn: bool = True,
    of_each_class: bool = True,
) -> tuple[Examples, Examples]:
    """Splits `examples` into (training, validation), both with the classes' proportions.

    The same arguments give the same split on every machine. `seed`: 0 to 2**32 - 1. `limit` keeps
    that many training examples, again by class, for quick trials; the validation part does not
    depend on it. If not `drawn`, the last examples are for validation, whatever the seed.
    `of_each_class`: see `stratified`. Raises DataError if a part could not hold each class once.
    """
    labels_N = examples.labels_N.cpu()
    draw = partial(stratified, seed=seed, of_each_class=of_each_class)
    if drawn:
        training_M, validation_M = draw(labels_N.tolist(), validation_count, part="validation")
    else:
        training_M, validation_M = torch.arange(len(examples)).tensor_split([-validation_count])
    if limit is not None and limit < len(training_M):
        labels_M = labels_N[training_M]
        is_alone_M = labels_M.bincount()[labels_M] == 1  # in its class: kept, not drawn
        alone_M, others_M = training_M[is_alone_M], training_M[~is_alone_M]
        labels, count = labels_N[others_M].tolist(), limit - len(alone_M)
        _, kept = draw(labels, count, part="limited training")
        training_M = torch.cat((alone_M, others_M[kept])).sort().values
    device = examples.labels_N.device
    return examples.select(training_M.to(device)), examples.select(validation_M.to(device))


def require_memory(size: int, has: str) -> None:
    """Raises DataError if arrays of `size` bytes do not fit twice: loading them copies them once.

    `has`: which data set, and a verb.
    """
    if 2 * size > (free := psutil.virtual_memory().available):
        size_gib, free_gib = (f"{count / 2**30:.3g} GiB" for count in (size, free))
        raise DataError(
            f"{has} {size_gib} of arrays, but only {free_gib} of memory is free, and loading takes "
            "twice their size; give fewer or smaller images, or use a machine with more memory"
        )


def share(count: int, classes: int) -> int:
    """How many of `count` examples to hold out: a fifth, but at least one per class."""
    return max(round(0.2 * count), classes)


def stratified(
    labels: Sequence[object], count: int, seed: int, part: str, *, of_each_class: bool = True
) -> tuple[Tensor, Tensor]:
    """Ascending indices of (the rest, `count` drawn by class for `part`). Raises like `split`.

    A rare class whose share rounds to none gets one example, unless not `of_each_class`. The draw
    is that of scikit-learn 1.9's `train_test_split`, without taking the seconds to load it.
    """
    _, labels_N, sizes_K = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    classes, most = len(sizes_K), len(labels) - len(sizes_K)
    if not classes <= count <= most or sizes_K.min() < 2:
        asked = f"ask for {classes} to {most}, and " if classes <= most else ""
        raise DataError(
            f"{count} {part} examples out of {len(labels)} cannot be drawn by class; {asked}give "
            "each class two examples or more"
        )
    draws = np.random.RandomState(seed)  # numpy promises that this one never changes
    rests_K = _apportion(sizes_K, len(labels) - count, draws)
    _apportion(sizes_K - rests_K, count, draws)  # scikit-learn's second draw moves the stream on
    members_K = np.split(np.argsort(labels_N, kind="stable"), np.cumsum(sizes_K)[:-1])
    mixed_K = [members_M[draws.permutation(len(members_M))] for members_M in members_K]
    halves = [np.split(mixed_M, [rest]) for mixed_M, rest in zip(mixed_K, rests_K, strict=True)]
    rest, chosen = (draws.permutation(np.concatenate(part)) for part in zip(*halves, strict=True))
    for lacking, other in ((rest, chosen), (chosen, rest)) if of_each_class else ():
        for label in np.setdiff1d(labels_N, labels_N[lacking]):
            commonest = np.bincount(labels_N[lacking]).argmax()
            given = np.argmax(labels_N[lacking] == commonest)  # the first of them
            taken = np.argmax(labels_N[other] == label)
            lacking[given], other[taken] = other[taken], lacking[given]
    return torch.from_numpy(rest).sort().values, torch.from_numpy(chosen).sort().values


def _apportion(sizes_K: NDArray[Any], count: int, draws: np.random.RandomState) -> NDArray[Any]:
    """How many of `count` to take from each class: its share, for the largest remainders rounded
    up, and for equal ones by lot."""
    shares_K = sizes_K / sizes_K.sum() * count
    counts_K: NDArray[Any] = np.floor(shares_K).astype(int)
    remainders_K = shares_K - counts_K
    for remainder in np.unique(remainders_K)[::-1]:
        lacking = count - counts_K.sum()
        if lacking <= 0:
            break
        tied = np.flatnonzero(remainders_K == remainder)
        counts_K[draws.choice(tied, min(len(tied), lacking), replace=False)] += 1
    return counts_K


def thinned(examples: Examples, share: float) -> Examples:
    """That share of the examples, rounded up, evenly spaced in each class and always the same.

    With the first example of each class that would lack one: a metric may need them all.
    """
    by_class_N = examples.labels_N.argsort(stable=True)
    count = math.ceil(len(examples) * share)
    spaced_M = torch.arange(count, device=by_class_N.device) * len(examples) // max(count, 1)
    chosen_M, labels_N = by_class_N[spaced_M], examples.labels_N
    first_K = by_class_N[labels_N[by_class_N].diff(prepend=labels_N.new_tensor([-1])) > 0]
    lacking = first_K[~torch.isin(labels_N[first_K], labels_N[chosen_M])]
    return examples.select(torch.cat((chosen_M, lacking)).sort().values)


def normalisation(examples: Examples) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, for pixels in [0, 1]: float32 tensors of shape C.

    Computed from counts of each channel's 256 levels: exact, and needs no float copy of the images.
    A constant channel gets the deviation 1, so that dividing by it stays finite.
    """
    levels = torch.linspace(0, 1, 256, dtype=torch.float64, device=examples.images_NCHW.device)
    means, deviations = [], []
    for channel_NHW in examples.images_NCHW.unbind(1):
        share = channel_NHW.flatten().bincount(minlength=256).double() / channel_NHW.numel()
        mean = (share * levels).sum()
        variance = (share * (levels - mean) ** 2).sum()
        means.append(mean)
        deviations.append(torch.where(variance > 1e-12, variance.sqrt(), 1.0))
    return torch.stack(means).float(), torch.stack(deviations).float()


def batch_indices(count: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """One epoch's batches of indices in a fresh random order: (batches, B), int64.

    On the generator's device. An incomplete last batch is dropped unless it is the only one:
    equal batch sizes suit batch norm and CUDA graphs, and each epoch drops different images.
    """
    order_N = torch.randperm(count, generator=generator, device=generator.device)
    size = min(batch_size, count)
    return order_N[: count - count % size].view(-1, size)


def gather(images_NCHW: Tensor, indices_B: Tensor) -> Tensor:
    """The images at `indices_B` in the memory format of `images_NCHW` (contiguous, channels_last).

    `index_select` is about 20 times as fast as `images_NCHW[indices_B]` on a CPU, but on its own
    would lose the channels_last layout.
    """
    if images_NCHW.is_contiguous(memory_format=torch.channels_last):
        return images_NCHW.permute(0, 2, 3, 1).index_select(0, indices_B).permute(0, 3, 1, 2)
    return images_NCHW.index_select(0, indices_B)


def to_unit(images_NCHW: Tensor) -> Tensor:
    """uint8 0 to 255 as float32 in [0, 1], in the same memory format."""
    return images_NCHW.float().div_(255)
