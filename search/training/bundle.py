"""A finished network as two files: all that is needed to use it, without data set or database.

`model.safetensors` holds the weights, `config.json` the rest and the weights' SHA-256. The weights
are written first, so that a folder whose two files do not belong together can be told.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import nn

from data.composition import Composition
from data.preparation import FIRST, Preparation
from models import Architecture, ArchitectureError, build, from_dict, to_dict
from search.training.checkpoint import write_atomically
from search.training.evaluate import logits

FORMAT = 2
WEIGHTS, CONFIG = "model.safetensors", "config.json"


class BundleError(ValueError):
    """A folder that holds no network that can be used; names the file and the remedy."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bundle:
    """A trained network and what is known of it.

    Attributes:
        study, trial, seed, epochs: where it comes from.
        dataset, title: of the data it was trained on: canonical name, and for people.
        class_names: label k is class_names[k]. A folder's names are its owner's: escape them.
        image_shape: C, H, W.
        mean_C, std_C: of the training images in [0, 1].
        composition: what grey training images have in common; None of natural ones.
        architecture: of the network.
        recipe: how it was trained, as `Recipe.to_dict` gives it; for the record.
        weights: the network's state, in main memory.
        preparation: how pictures were made images for it.
    """

    study: str
    trial: int
    seed: int
    epochs: int
    dataset: str
    title: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean_C: torch.Tensor
    std_C: torch.Tensor
    composition: Composition | None
    architecture: Architecture
    recipe: Mapping[str, Any] = field(repr=False)
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    preparation: Preparation = field(default_factory=Preparation)

    def network(self) -> nn.Module:
        """The network in evaluation mode, on the CPU: normalised images to logits (N, K).

        Raises:
            BundleError: the weights do not fit the architecture.
        """
        try:
            model = build(self.architecture, self.image_shape, len(self.class_names))
            model.load_state_dict(dict(self.weights))
        except (ArchitectureError, RuntimeError) as error:
            raise BundleError(
                f"the weights of study {self.study!r} do not fit its network "
                f"({str(error).splitlines()[0]}); run python -m search.finalize again"
            ) from error
        return model.eval().to(memory_format=torch.channels_last)

    def probabilities(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Of each class, (N, K) float32, for uint8 images of `image_shape`."""
        return logits(self.network(), images_NCHW, self.mean_C, self.std_C).softmax(1)


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Both files, each whole or not at all, into `folder`, which need not exist."""
    payload = to_safetensors(dict(bundle.weights))
    write_atomically(folder / WEIGHTS, payload)
    composition = bundle.composition
    content = {
        "format": FORMAT,
        "study": bundle.study,
        "trial": bundle.trial,
        "seed": bundle.seed,
        "epochs": bundle.epochs,
        "dataset": bundle.dataset,
        "title": bundle.title,
        "class_names": list(bundle.class_names),
        "image_shape": list(bundle.image_shape),
        "mean": bundle.mean_C.tolist(),
        "std": bundle.std_C.tolist(),
        "preparation": bundle.preparation.to_dict(),
        "composition": None if composition is None else composition.to_dict(),
        "architecture": to_dict(bundle.architecture),
        "recipe": dict(bundle.recipe),
        "weights_sha256": hashlib.sha256(payload).hexdigest(),
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(folder / CONFIG, text.encode())


def read_bundle(folder: Path) -> Bundle:
    """The network in `folder`.

    Raises:
        BundleError: files missing, damaged, of two different networks or of another version.
    """
    payload, text = _read(folder / WEIGHTS), _read(folder / CONFIG)
    again = "run python -m search.finalize again"
    try:
        stored = json.loads(text)
    except ValueError as error:
        raise BundleError(f"{folder / CONFIG} is damaged (no JSON); {again}") from error
    version = stored.get("format") if isinstance(stored, dict) else None
    if version != FORMAT:
        raise BundleError(
            f"{folder / CONFIG} has format {version!r}, but this version of cnn-search reads "
            f"{FORMAT}; {again}"
        )
    if hashlib.sha256(payload).hexdigest() != stored.get("weights_sha256"):
        raise BundleError(
            f"{folder / WEIGHTS} is damaged or not the one that {CONFIG} describes; {again}"
        )
    try:
        return _bundle(stored, from_safetensors(payload))
    except (KeyError, TypeError, ValueError, ArchitectureError, SafetensorError) as error:
        raise BundleError(
            f"{folder / CONFIG} is damaged ({type(error).__name__}: {error}); {again}"
        ) from error


def _bundle(stored: Mapping[str, Any], weights: dict[str, torch.Tensor]) -> Bundle:
    channels, height, width = map(int, stored["image_shape"])
    mean, std = ([float(value) for value in stored[name]] for name in ("mean", "std"))
    if not len(mean) == len(std) == channels or not all(map(math.isfinite, mean + std)):
        raise ValueError("mean and std must have a number for each channel")
    composition, preparation = stored["composition"], stored.get("preparation")
    return Bundle(
        study=str(stored["study"]),
        trial=int(stored["trial"]),
        seed=int(stored["seed"]),
        epochs=int(stored["epochs"]),
        dataset=str(stored["dataset"]),
        title=str(stored["title"]),
        class_names=tuple(map(str, stored["class_names"])),
        image_shape=(channels, height, width),
        mean_C=torch.tensor(mean),
        std_C=torch.tensor(std),
        # Of a network that is older than the choice, it is what all had then.
        preparation=FIRST if preparation is None else Preparation.from_dict(preparation),
        composition=None if composition is None else Composition(**composition),
        architecture=from_dict(stored["architecture"]),
        recipe=dict(stored["recipe"]),
        weights=weights,
    )


def latest_bundle(runs: Path) -> Path:
    """The folder `<runs>/<study>/final` that was written last.

    Raises:
        BundleError: there is none.
    """
    configs = list(runs.glob(f"*/final/{CONFIG}"))
    if not configs:
        raise BundleError(
            f"no finished network under {runs.absolute()}; run python -m search.finalize first, "
            "or give --bundle FOLDER"
        )
    return max(configs, key=lambda path: path.stat().st_mtime_ns).parent


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(
            f"there is no {path}; run python -m search.finalize first, or name another bundle"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise BundleError(f"cannot read {path}: {reason}; check the path and its rights") from error
