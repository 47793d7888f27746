"""A finished network as two files: all that is needed to use it, without data set or database.

`model.safetensors` holds the weights, `config.json` the rest and the weights' SHA-256. The weights
are written first, so that a folder whose two files do not belong together can be told.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from data.folders.composition import Composition
from data.folders.preparation import FIRST, Preparation
from data.reading import parse_json, read_regular
from models import Architecture, ArchitectureError, build, family_of, from_dict, to_dict
from models.checks import first_line, shown
from models.summary import count_parameters
from search.spec.extensions import restore_family
from search.training.epoch import BundleError
from search.training.files import WEIGHTS, load_tensors, write_atomically
from search.training.task import logits

FORMAT = 2
PLAIN = {"study": str, "dataset": str, "title": str, "trial": int, "seed": int, "epochs": int}
CONFIG = "config.json"
FINAL = "final"  # in a study's folder: leads to the network that was finished first
MOST_CONFIG_BYTES = 4 * 2**20  # ten thousand class names
MOST_HEADER_BYTES = 2**20  # of the weights' names and shapes
LEAST_TEMPERATURE = 1e-3
LEAST_STD = 1e-7  # `data.examples.normalisation` gives none below 1e-6
_LONGEST_REASON = 200


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bundle:
    """A trained network and what is known of it.

    Attributes:
        dataset, title: of the data it was trained on: canonical name, and for people.
        class_names: label k is class_names[k]. A folder's names are its owner's: escape them.
        mean_C, std_C: of the training images in [0, 1].
        composition: what grey training images have in common; None of natural ones.
        recipe: how it was trained, as `Recipe.to_dict` gives it; for the record.
        weights: the network's state, in main memory.
        preparation: how pictures were made images for it.
        temperature: by which logits are divided so that probabilities fit, see
            `search.training.metrics.fit_temperature`; 1 of networks that are older than that.
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
    temperature: float = 1.0

    def network(self) -> nn.Module:
        """The network in evaluation mode, on the CPU: normalised images to logits (N, K).

        Raises:
            BundleError: the weights do not fit the architecture.
        """
        try:
            model = build(self.architecture, self.image_shape, len(self.class_names))
            model.load_state_dict(dict(self.weights))
        except (ArchitectureError, RuntimeError, TypeError, ValueError) as error:
            raise BundleError(
                f"the weights of study {self.study!r} do not fit its network "
                f"({first_line(error)}); run python -m search.finalize again"
            ) from error
        return model.eval().to(memory_format=torch.channels_last)

    def probabilities(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Of each class, (N, K) float32, for uint8 images of `image_shape`."""
        found_NK = logits(self.network(), images_NCHW, self.mean_C, self.std_C)
        return (found_NK / self.temperature).softmax(1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """What the network makes of one picture.

    Attributes:
        path: as it was given, or found in a folder that was.
        image_CHW: uint8, the picture as the network saw it.
        notes: what was done to the picture before, in words.
        ranking: every class's index and probability, the likeliest first.
    """

    path: Path
    image_CHW: torch.Tensor
    notes: tuple[str, ...]
    ranking: tuple[tuple[int, float], ...] = field(repr=False)

    @property
    def label(self) -> int:
        return self.ranking[0][0]

    @property
    def probability(self) -> float:
        return self.ranking[0][1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A file of a folder that was left out, and why."""

    path: Path
    reason: str


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Both files, each whole or not at all, into `folder`, which need not exist."""
    payload = to_safetensors(dict(bundle.weights))
    write_atomically(folder / WEIGHTS, payload)
    composition = bundle.composition
    content = {
        "format": FORMAT,
        **{name: getattr(bundle, name) for name in PLAIN},
        "class_names": list(bundle.class_names),
        "image_shape": list(bundle.image_shape),
        "mean": bundle.mean_C.tolist(),
        "std": bundle.std_C.tolist(),
        "temperature": bundle.temperature,
        "preparation": bundle.preparation.to_dict(),
        "composition": None if composition is None else composition.to_dict(),
        "architecture": to_dict(bundle.architecture),
        "code": family_of(bundle.architecture).source,  # of a person's own network
        "recipe": dict(bundle.recipe),
        "weights_sha256": hashlib.sha256(payload).hexdigest(),
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(folder / CONFIG, text.encode())


def read_bundle(folder: Path) -> Bundle:
    """The network in `folder`. Where it is a person's own, their code runs: see `restore_family`.

    Raises:
        BundleError: files missing, damaged, of two different networks or of another version; or
            values that no network has, or that do not fit in memory.
    """
    path, remedy = folder / CONFIG, "run python -m search.finalize again"
    try:
        stored = parse_json(read_regular(path, MOST_CONFIG_BYTES))
        version = stored.get("format") if isinstance(stored, dict) else None
        if version != FORMAT:
            raise BundleError(
                f"{path} has format {shown(version)}, but this version of cnn-search reads "
                f"{FORMAT}; {remedy}"
            )
        described = _described(stored)
        parameters = count_parameters(
            described.architecture, described.image_shape, len(described.class_names)
        )
        path = folder / WEIGHTS
        # 4 bytes each, and batch norm's running means.
        payload = read_regular(path, MOST_HEADER_BYTES + 8 * parameters)
        if hashlib.sha256(payload).hexdigest() != stored.get("weights_sha256"):
            raise ValueError(f"it is not the one that {CONFIG} describes")
        weights = load_tensors(payload, safetensors=True)
        if sum(tensor.numel() for tensor in weights.values()) < parameters:
            raise ValueError(f"the network has {parameters} parameters, and there are fewer")
        if not all(bool(torch.isfinite(tensor.float()).all()) for tensor in weights.values()):
            raise ValueError("a weight is not finite")
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(
            f"cannot read {path} ({error.strerror}); name another bundle, or {remedy}"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
        raise BundleError(f"{path} is damaged ({reason}); {remedy}") from error
    return replace(described, weights=weights)


def _described(stored: Mapping[str, Any]) -> Bundle:
    """All but the weights."""
    channels, height, width = (_plain("image_shape", side, int) for side in stored["image_shape"])
    mean, std = ([float(value) for value in stored[name]] for name in ("mean", "std"))
    if not len(mean) == len(std) == channels:
        raise ValueError("mean and std must have a number for each channel")
    if not all(0 <= value <= 1 for value in mean):
        raise ValueError("mean must lie in [0, 1]: images are scaled so")
    if not all(LEAST_STD <= value <= 1 for value in std):
        raise ValueError(f"std must lie in [{LEAST_STD}, 1]")
    temperature = float(stored.get("temperature", 1.0))
    if not LEAST_TEMPERATURE <= temperature <= 1 / LEAST_TEMPERATURE:
        raise ValueError(f"temperature must be around 1, but got {temperature}")
    if not isinstance(stored["class_names"], list):
        raise TypeError(f"class_names must be a list, but got {shown(stored['class_names'])}")
    if (code := stored.get("code")) is not None:
        restore_family(_plain("family", stored["architecture"]["family"], str), str(code))
    composition, preparation = stored["composition"], stored.get("preparation")
    plain: dict[str, Any] = {name: _plain(name, stored[name], kind) for name, kind in PLAIN.items()}
    return Bundle(
        **plain,
        class_names=tuple(_plain("class_names", name, str) for name in stored["class_names"]),
        image_shape=(channels, height, width),
        mean_C=torch.tensor(mean),
        std_C=torch.tensor(std),
        temperature=temperature,
        # Of a network that is older than the choice, it is what all had then.
        preparation=FIRST if preparation is None else Preparation.from_dict(preparation),
        composition=None if composition is None else Composition.from_dict(composition),
        architecture=from_dict(stored["architecture"]),
        recipe=dict(stored["recipe"]),
        weights={},
    )


def _plain(name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind or (isinstance(value, int) and value < 0):
        raise TypeError(f"{name} must be text or a whole number from 0 up, but got {shown(value)}")
    return value


def latest_bundle(runs: Path) -> Path:
    """The folder `<runs>/<study>/final` that was written last.

    Raises:
        BundleError: there is none.
    """
    configs = list(runs.glob(f"*/{FINAL}/{CONFIG}"))
    if not configs:
        raise BundleError(
            f"no finished network under {runs.absolute()}; run python -m search.finalize first, "
            "or give --bundle FOLDER"
        )
    return max(configs, key=lambda path: path.stat().st_mtime_ns).parent
