"""The learning task: images on one device, and how well a network does on them.

Shapes: N examples, K classes, B examples per batch, C channels, H x W pixels, O units of a stage.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from data.datasets import find_dataset, load_training
from data.errors import DataError, grouped
from data.examples import DatasetInfo, Examples, normalisation, split, thinned, to_unit
from data.fingerprint import Fingerprint, count_shared, fingerprint, in_order
from search.spec.config import StudySpec
from search.spec.recipe import PARTIAL_EPOCH
from search.training.epoch import Score

# Of images up to 32x32. Small enough for the activations of a small CNN to stay in a CPU's caches;
# on a GPU large enough to fill it.
BATCH_SIZE = {"cpu": 256, "cuda": 2000}
MIN_BATCH_SIZE = 64  # of larger ones, whose number falls with their area


@dataclass(frozen=True, kw_only=True)
class Task:
    """Examples, on one device, and the facts that a network and a recipe need about them."""

    training: Examples
    validation: Examples
    mean_C: torch.Tensor  # of the training images, in [0, 1] units
    std_C: torch.Tensor
    info: DatasetInfo
    content: Fingerprint | None = None  # of the whole data set; None if it was made by hand

    @functools.cached_property
    def early_validation(self) -> Examples:
        """The part of `validation` that epoch 0 is scored on: a copy, shared by all trainings."""
        return thinned(self.validation, PARTIAL_EPOCH)

    @property
    def device(self) -> torch.device:
        return self.training.images_NCHW.device

    def to(self, device: torch.device) -> Task:
        """A copy on that device. Raises DataError if it does not fit there."""
        tensors = ("training", "validation", "mean_C", "std_C")
        try:
            return replace(self, **{name: getattr(self, name).to(device) for name in tensors})
        except torch.OutOfMemoryError as error:
            size = sum(it.images_NCHW.nbytes for it in (self.training, self.validation)) / 1e9
            raise DataError(
                f"{self.info.title}'s images take {size:.1f} GB, more than {device} has free; give "
                "--device cpu, or start a study with a smaller --image-size or --limit"
            ) from error

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.info.image_shape

    @property
    def classes(self) -> int:
        return len(self.info.class_names)


def load_study_task(
    spec: StudySpec,
    data_dir: Path,
    device: torch.device,
    *,
    place: str | None = None,
    final: bool = False,
) -> Task:
    """The images that a study trains on, and those held out by its seed, or by its data set.

    place: the data set's current name, if it has moved, see `search.store.data.find_place`. final:
    no images are held out or left out. Raises DataError if they are unavailable, or cannot be split
    like that.
    """
    dataset, wanted = place or spec.dataset, spec.validation_count
    info, examples = load_training(dataset, data_dir, reading=spec.reading)
    content = fingerprint(info, examples)
    own, usual = info.has_own_validation, info.validation_count
    found, version = find_dataset(dataset), spec.reading.version
    # Published data sets always come in one order.
    if version > 2 and (found.path is not None or (version > 5 and not found.is_ours)):
        examples = in_order(examples, usual if own else 0)
    if final:
        return make_task(info, examples, examples.select(torch.arange(0)), device, content)
    if own and wanted not in (None, usual):
        raise DataError(
            f"{info.title} has {usual} validation images of its own, but got validation_count = "
            f"{wanted}; leave it out"
        )
    count = usual if wanted is None else wanted
    training, validation = split(
        examples,
        validation_count=count,
        seed=spec.seed,
        limit=spec.limit,
        drawn=not own,
        of_each_class=version > 4,
    )
    return make_task(info, training, validation, device, content)


def noting_copies(task: Task) -> Task:
    """With a note if validation images are training images, too."""
    if not (shared := count_shared(task.validation, task.training)):
        return task
    of_all = f"{grouped(shared)} of {grouped(len(task.validation))} validation images"
    note = f"{of_all} are training images, too: results on them are too good; remove the copies"
    return replace(task, info=replace(task.info, notes=(*task.info.notes, note)))


def make_task(
    info: DatasetInfo,
    training: Examples,
    validation: Examples,
    device: torch.device,
    content: Fingerprint | None = None,
) -> Task:
    """Put the examples on the device once, as bytes: a quarter of the memory and the traffic.

    Mean and standard deviation are computed only from the training part.
    """
    mean_C, std_C = normalisation(training)
    return Task(
        training=training,
        validation=validation,
        mean_C=mean_C,
        std_C=std_C,
        info=info,
        content=content,
    ).to(device)


def validation_batch_size(model: nn.Module, images_NCHW: torch.Tensor) -> int:
    """How many at once: activations need memory for each pixel, also of enlarged images."""
    most = BATCH_SIZE[images_NCHW.device.type]
    scaled = (it.size for it in model.modules() if isinstance(it, nn.Upsample))
    sides = [images_NCHW.shape[2:], *(it for it in scaled if isinstance(it, tuple))]
    return min(most, max(MIN_BATCH_SIZE, most * 32**2 // max(map(math.prod, sides))))


@torch.inference_mode()
def logits(
    model: nn.Module, images_NCHW: torch.Tensor, mean_C: torch.Tensor, std_C: torch.Tensor
) -> torch.Tensor:
    """Logits (N, K), float32, of uint8 images on the model's device. Leaves the model as it was."""
    size = validation_batch_size(model, images_NCHW)
    was_training = model.training
    model.eval()
    with autocast(images_NCHW.device):
        parts = [
            model(normalise(to_unit(images), mean_C, std_C)).float()
            for images in torch.split(images_NCHW, size)
        ]
    model.train(was_training)
    return torch.cat(parts)


def evaluate(
    model: nn.Module, examples: Examples, mean_C: torch.Tensor, std_C: torch.Tensor
) -> Score:
    """Plain cross entropy and error on all examples; waits for the device once."""
    return score(logits(model, examples.images_NCHW, mean_C, std_C), examples.labels_N)


def score(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> Score:
    loss, error = loss_and_error(logits_NK, labels_N).tolist()
    return Score(loss=loss, error=error)


def loss_and_error(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """float32 (2,), on the examples' device: nothing waits for it."""
    loss = F.cross_entropy(logits_NK, labels_N)
    wrong = (logits_NK.argmax(1) != labels_N).float().mean()
    return torch.stack((loss, wrong))


def confusion(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """Examples by true class (rows) and predicted class, int64 (K, K)."""
    classes = logits_NK.shape[1]
    cells_N = labels_N * classes + logits_NK.argmax(1)
    return cells_N.bincount(minlength=classes**2).view(classes, classes)


def normalise(images_BCHW: torch.Tensor, mean_C: torch.Tensor, std_C: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance per channel, over the training set."""
    scale_C11 = 1 / std_C.view(-1, 1, 1)
    shift_C11 = -mean_C.view(-1, 1, 1) * scale_C11
    scaled_BCHW = torch.addcmul(shift_C11, images_BCHW, scale_C11)
    return scaled_BCHW.to(memory_format=torch.channels_last)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 if the device computes in it: GPUs from Ampere on, CPUs with AVX512-BF16 or AMX.

    Weights, their updates and the loss stay float32. One thread of an AMD EPYC (AVX512-BF16, n =
    3) trained 1.4 to 1.7 times as fast with it. Others only emulate it, slowly: on older GPUs cuDNN
    refuses it, and torch convolves one image after the other.
    """
    of_gpu = device.type == "cuda"
    enabled = _gpu_computes_in_bfloat16(device) if of_gpu else _cpu_computes_in_bfloat16()
    # No cache of cast weights: each is cast once per step anyway, and graphs must not keep them.
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


@functools.cache
def _gpu_computes_in_bfloat16(device: torch.device) -> bool:
    return bool(torch.cuda.get_device_properties(device).major >= 8)


@functools.cache
def _cpu_computes_in_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.12
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_tile"))


def stage_maps(
    model: nn.Module, image_CHW: torch.Tensor, mean_C: torch.Tensor, std_C: torch.Tensor
) -> dict[str, NDArray[np.float32]]:
    """Each stage's feature maps, (C, H, W), for one uint8 image on the model's device, in order.

    A stage is a convolution, or a block with a shortcut around it, plus what follows it; it is
    named after its first module. Those that give anything but maps are left out.
    """
    lasts: dict[str, nn.Module] = {}  # last module of each stage
    for name, module in model.named_children():
        if isinstance(module, nn.Conv2d) or any(True for _ in module.children()):
            lasts[name] = module
        elif isinstance(module, nn.Flatten | nn.Linear | nn.AdaptiveAvgPool2d | nn.Dropout):
            break
        elif lasts:
            lasts[next(reversed(lasts))] = module
    outputs: dict[str, object] = {}  # a stage of a user's own network may give a tuple
    handles = [
        module.register_forward_hook(lambda *call, name=name: outputs.update({name: call[-1]}))
        for name, module in lasts.items()
    ]
    logits(model, image_CHW[None], mean_C, std_C)
    for handle in handles:
        handle.remove()
    return {
        name: maps_1CHW[0].float().cpu().numpy()
        for name, maps_1CHW in outputs.items()
        if isinstance(maps_1CHW, torch.Tensor) and maps_1CHW.ndim == 4
    }
