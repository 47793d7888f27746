"""The peer: training as in Optuna's PyTorch example and torchvision's documentation.

A `DataLoader` over a data set that returns pictures one by one, torchvision transforms on each,
a plain `torch.nn` network in the order of PyTorch's tutorials (convolution, batch norm,
activation, pooling) and optimisers with their default implementation. Network, recipe, images and
steps are those of the study; only the implementation is theirs.

Transforms are torchvision's v1 on PIL pictures, which is what its data sets return. In microseconds
per picture on one core, flip, crop and erasing take 86 with v1 on PIL, 141 with v2 on PIL and 65
with v1 on tensors; flip, rotation and crop 89 with v1 on PIL and 134 with v1 on tensors.

Shapes: B images per batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from data.augmentations import ERASE_AREA, ERASE_ASPECT, Policy, policy
from data.examples import Examples
from models import ConvNetConfig, build
from models.blocks import sequence
from models.mlp import activation
from search.spec.recipe import Recipe
from search.spec.schedules import SCHEDULES
from search.training.epoch import Score
from search.training.task import Task, autocast


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Examples as torchvision's data sets return them: a transformed PIL picture and its label.

    Args:
        transform: from a picture to a float tensor (C, H, W).
    """

    def __init__(
        self, examples: Examples, transform: Callable[[Image.Image], torch.Tensor]
    ) -> None:
        pictures_NHWC = examples.images_NCHW.cpu().permute(0, 2, 3, 1)
        # PIL takes grey pictures without a channel axis.
        self._pictures = pictures_NHWC.squeeze(3).contiguous().numpy()
        self._labels = examples.labels_N.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._pictures[index])), self._labels[index]


def torchvision_transforms(policy: Policy, task: Task) -> transforms.Compose:
    """The augmentations of `policy` as torchvision transforms, then normalisation."""
    _, height, width = task.image_shape
    down, right = round(policy.shift_fraction * height), round(policy.shift_fraction * width)
    steps: list[object] = []
    if policy.crop_area < 1 or policy.crop_aspect > 1:
        scale, ratio = (policy.crop_area, 1.0), (1 / policy.crop_aspect, policy.crop_aspect)
        steps.append(transforms.RandomResizedCrop((height, width), scale, ratio))
    if policy.flip_probability > 0:
        steps.append(transforms.RandomHorizontalFlip(policy.flip_probability))
    if policy.rotate_degrees > 0:
        bilinear = transforms.InterpolationMode.BILINEAR
        steps.append(transforms.RandomRotation(policy.rotate_degrees, bilinear))
    if right or down:
        steps.append(transforms.RandomCrop((height, width), padding=(right, down)))
    if policy.brightness > 0 or policy.contrast > 0:
        steps.append(transforms.ColorJitter(policy.brightness, policy.contrast))
    steps.append(transforms.ToTensor())
    if policy.erase_probability > 0:
        steps.append(transforms.RandomErasing(policy.erase_probability, ERASE_AREA, ERASE_ASPECT))
    steps.append(transforms.Normalize(task.mean_C.tolist(), task.std_C.tolist()))
    return transforms.Compose(steps)


def plain_network(
    architecture: ConvNetConfig, image_shape: tuple[int, int, int], classes: int
) -> nn.Sequential:
    """The network with each activation ahead of its pooling, as the tutorials write it.

    The modules have the names that `models.build` gives them, so that weights can be exchanged.
    """
    layers = list(build(architecture, image_shape, classes).named_children())
    kind = type(activation(architecture.activation))
    for place in range(len(layers) - 1):
        first, second = layers[place : place + 2]
        if isinstance(first[1], nn.MaxPool2d) and type(second[1]) is kind:
            layers[place : place + 2] = second, first
    return sequence(layers)


def plain_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser with torch's default implementation; only weights are decayed."""
    assert recipe.optimizer == "adam", f"the peer has no {recipe.optimizer}"
    strength = {
        "none": 0.0,
        "l2": 2 * recipe.weight_decay,
        "coupled": recipe.weight_decay,
        "decoupled": recipe.weight_decay,
    }[recipe.weight_decay_kind]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": strength},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if recipe.weight_decay_kind == "decoupled" else torch.optim.Adam
    return kind(groups, lr=recipe.learning_rate)


class LoaderTraining:
    """One network trained from a DataLoader.

    Args:
        task: with its images in main memory.
        device: where the network is trained.
        workers: processes of the DataLoader; 0: the training process loads.
        bfloat16: use torch's autocast if the device supports it; the example does not.
    """

    def __init__(
        self,
        architecture: ConvNetConfig,
        recipe: Recipe,
        task: Task,
        device: torch.device,
        *,
        seed: int,
        workers: int,
        bfloat16: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self._device, self._bfloat16 = device, bfloat16
        self.model = plain_network(architecture, task.image_shape, task.classes).to(device)
        self._optimizer = plain_optimizer(self.model, recipe)
        chosen = policy(
            recipe.augmentation,
            recipe.augmentation_strength,
            mirror_changes_class=task.info.mirror_changes_class,
        )
        load = partial(
            DataLoader,
            batch_size=recipe.batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        varied, plain = torchvision_transforms(chosen, task), torchvision_transforms(Policy(), task)
        self._training = load(Pictures(task.training, varied), shuffle=True, drop_last=True)
        self._validation = load(Pictures(task.validation, plain))
        steps = recipe.epochs * len(self._training)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: SCHEDULES[recipe.schedule].factor(step / steps)
        )

    def train_epoch(self, batches: int | None = None) -> int:
        """An epoch, or its first `batches`; returns how many images were trained on."""
        self.model.train()
        images = 0
        for number, (images_BCHW, labels_B) in enumerate(self._training):
            if number == batches:
                break
            images_BCHW = images_BCHW.to(self._device, non_blocking=True)
            labels_B = labels_B.to(self._device, non_blocking=True)
            self._optimizer.zero_grad()
            with self._precision():
                loss = F.cross_entropy(self.model(images_BCHW), labels_B)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()
            images += len(labels_B)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return images

    def _precision(self) -> AbstractContextManager[object]:
        return autocast(self._device) if self._bfloat16 else nullcontext()

    @torch.no_grad()
    def validate(self) -> Score:
        """Cross entropy and error on the validation images."""
        self.model.eval()
        loss = torch.zeros((), device=self._device)
        wrong = torch.zeros((), device=self._device)
        count = 0
        for images_BCHW, labels_B in self._validation:
            with self._precision():
                logits_BK = self.model(images_BCHW.to(self._device, non_blocking=True)).float()
            labels_B = labels_B.to(self._device, non_blocking=True)
            loss += F.cross_entropy(logits_BK, labels_B, reduction="sum")
            wrong += (logits_BK.argmax(1) != labels_B).sum()
            count += len(labels_B)
        return Score(loss=loss.item() / count, error=wrong.item() / count)
