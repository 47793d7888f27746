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
TEXTS, COUNTS = ("study", "dataset", "title"), ("trial", "seed", "epochs")
REMEDY = "run python -m search.finalize again"
CONFIG = "config.json"
MOST_CONFIG_BYTES = 4 * 2**20  # ten thousand class names
MOST_HEADER_BYTES = 2**20  # of the weights' names and shapes
LEAST_STD = 1e-7  # `data.examples.normalisation` gives none below 1e-6


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
                f"({first_line(error)}); {REMEDY}"
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
        **{name: getattr(bundle, name) for name in (*TEXTS, *COUNTS, "temperature")},
        "class_names": list(bundle.class_names),
        "image_shape": list(bundle.image_shape),
        "mean": bundle.mean_C.tolist(),
        "std": bundle.std_C.tolist(),
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
    path = folder / CONFIG
    try:
        stored = parse_json(read_regular(path, MOST_CONFIG_BYTES))
        version = stored.get("format") if isinstance(stored, dict) else None
        _require(version == FORMAT, f"format {shown(version)}, but this version reads {FORMAT}")
        described = _described(stored)
        parameters = count_parameters(
            described.architecture, described.image_shape, len(described.class_names)
        )
        path = folder / WEIGHTS
        # 4 bytes each, and batch norm's running means.
        payload = read_regular(path, MOST_HEADER_BYTES + 8 * parameters)
        digest = hashlib.sha256(payload).hexdigest()
        _require(digest == stored.get("weights_sha256"), f"not the one that {CONFIG} describes")
        weights = load_tensors(payload, safetensors=True)
        found = sum(tensor.numel() for tensor in weights.values())
        _require(found >= parameters, f"the network has {parameters} parameters, not {found}")
        finite = all(bool(torch.isfinite(tensor.float()).all()) for tensor in weights.values())
        _require(finite, "a weight is not finite")
    except OSError as error:
        raise BundleError(
            f"cannot read {path} ({error.strerror}); name another bundle, or {REMEDY}"
        ) from error
    except (LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise BundleError(f"{path} cannot be used ({reason}); {REMEDY}") from error
    return replace(described, weights=weights)


def _require(holds: bool, wrong: str) -> None:
    if not holds:
        raise ValueError(wrong)


def _described(stored: Mapping[str, Any]) -> Bundle:
    """All but the weights."""
    shape, classes, architecture = (
        stored["image_shape"],
        stored["class_names"],
        stored["architecture"],
    )
    _require(isinstance(classes, list) and isinstance(shape, list), "no lists of classes and sides")
    family, texts = architecture["family"], [stored[name] for name in TEXTS]
    counts = [*shape, *(stored[name] for name in COUNTS)]
    _require(all(type(it) is str for it in (*texts, *classes, family)), "a name is not text")
    _require(all(type(it) is int and it >= 0 for it in counts), "a number is not whole, from 0 up")
    channels, height, width = shape
    mean, std = ([float(value) for value in stored[name]] for name in ("mean", "std"))
    _require(len(mean) == len(std) == channels, "mean and std are not a number for each channel")
    _require(all(0 <= value <= 1 for value in mean), "mean is not in [0, 1]: images are scaled so")
    _require(all(LEAST_STD <= value <= 1 for value in std), f"std is not in [{LEAST_STD}, 1]")
    temperature = float(stored.get("temperature", 1.0))
    _require(1e-3 <= temperature <= 1e3, f"temperature {temperature} is far from 1")
    if (code := stored.get("code")) is not None:
        restore_family(family, str(code))
    composition, preparation = stored["composition"], stored.get("preparation")
    return Bundle(
        **{name: stored[name] for name in (*TEXTS, *COUNTS)},
        class_names=tuple(classes),
        image_shape=(channels, height, width),
        mean_C=torch.tensor(mean),
        std_C=torch.tensor(std),
        temperature=temperature,
        # Of a network that is older than the choice, it is what all had then.
        preparation=FIRST if preparation is None else Preparation.from_dict(preparation),
        composition=None if composition is None else Composition.from_dict(composition),
        architecture=from_dict(architecture),
        recipe=dict(stored["recipe"]),
        weights={},
    )
