"""A finished network as two files, usable without its data set or the study's database.

`model.safetensors` holds the weights, `config.json` the rest and the weights' SHA-256. The weights
are written first, so that a mismatch between the two files is detected.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import nn

from data.folders.composition import Composition
from data.folders.preparation import FIRST, Preparation
from data.reading import parse_json, read_regular, write_atomically
from models import Architecture, build, family_name, family_of, from_dict, to_dict
from models.checks import first_line
from search.spec.extensions import restore_family
from search.training.epoch import BundleError
from search.training.files import MOST_BYTES, WEIGHTS, is_plain
from search.training.task import logits

FORMAT = 2
TEXTS, COUNTS = ("study", "dataset", "title"), ("trial", "seed", "epochs")
OTHERS = ("temperature", "class_names", "image_shape")
REMEDY = "run python -m search.finalize again"
CONFIG = "config.json"
MOST_CONFIG_BYTES = 4 * 2**20  # ten thousand class names


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bundle:
    """A trained network and its metadata.

    Attributes:
        dataset, title: canonical name and display name of the data that it was trained on.
        class_names: label k is class_names[k]. Names of folders are untrusted: escape them.
        mean_C, std_C: of the training images in [0, 1].
        composition: what grey training images have in common; None for natural images.
        recipe: how it was trained, from `Recipe.to_dict`; for the record.
        weights: the network's state, in main memory.
        preparation: how pictures were converted to images for it.
        temperature: divides the logits to calibrate the probabilities, see
            `search.training.metrics.fit_temperature`; 1 for networks that predate it.
        own: name and code of the user's own family, as they were when this was made; else None.
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
    own: tuple[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.own is None and (code := family_of(self.architecture).source) is not None:
            object.__setattr__(self, "own", (family_name(self.architecture), code))

    def restore_family(self) -> None:
        """Its file may have changed since, and been loaded again."""
        if self.own is not None:
            restore_family(*self.own)

    def network(self) -> nn.Module:
        """The network in evaluation mode, on the CPU: normalised images to logits (N, K).

        Raises BundleError if the weights do not fit the architecture.
        """
        try:
            self.restore_family()
            model = build(self.architecture, self.image_shape, len(self.class_names))
            model.load_state_dict(dict(self.weights))
        except (RuntimeError, TypeError, ValueError) as error:
            raise BundleError(
                f"the weights of study {self.study!r} do not fit its network "
                f"({first_line(error)}); {REMEDY}"
            ) from error
        return model.eval().to(memory_format=torch.channels_last)

    def probabilities(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Class probabilities, (N, K) float32, for uint8 images of `image_shape`.

        Raises BundleError if the weights are so large that the logits are not finite.
        """
        found_NK = logits(self.network(), images_NCHW, self.mean_C, self.std_C)
        if not found_NK.isfinite().all():
            raise BundleError(f"the network of study {self.study!r} outputs NaN or inf; {REMEDY}")
        return (found_NK / self.temperature).softmax(1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """The network's prediction for one picture.

    Attributes:
        path: as given, or as found in a given folder.
        image_CHW: uint8, the picture as the network saw it.
        notes: how the picture was preprocessed, in words.
        shares_K: the probability of every class, float32.
    """

    path: Path
    image_CHW: torch.Tensor
    notes: tuple[str, ...]
    shares_K: torch.Tensor = field(repr=False)

    @property
    def ranking(self) -> tuple[tuple[int, float], ...]:
        """Index and probability of every class, the likeliest first."""
        return tuple(sorted(enumerate(self.shares_K.tolist()), key=lambda it: -it[1]))

    @property
    def label(self) -> int:
        return int(self.shares_K.numpy().argmax())  # the first of several, unlike torch's

    @property
    def probability(self) -> float:
        return float(self.shares_K.max())


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A file in a folder that was skipped, and why."""

    path: Path
    reason: str


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write both files, each atomically, into `folder`, which need not exist."""
    bundle.restore_family()
    payload, composition = to_safetensors(dict(bundle.weights)), bundle.composition
    write_atomically(folder / WEIGHTS, payload)
    content = {
        "format": FORMAT,
        **{name: getattr(bundle, name) for name in (*TEXTS, *COUNTS, *OTHERS)},
        "mean": bundle.mean_C.tolist(),
        "std": bundle.std_C.tolist(),
        "preparation": asdict(bundle.preparation),
        "composition": None if composition is None else asdict(composition),
        "architecture": to_dict(bundle.architecture),
        "code": None if bundle.own is None else bundle.own[1],
        "recipe": dict(bundle.recipe),
        "weights_sha256": hashlib.sha256(payload).hexdigest(),
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(folder / CONFIG, text.encode())


def read_bundle(folder: Path) -> Bundle:
    """The network in `folder`. If the bundle holds its own code, it runs: see `restore_family`.

    Raises BundleError: files missing, damaged, from different networks or from another version.
    """
    path, remedy = folder / CONFIG, REMEDY
    try:
        stored = parse_json(read_regular(path, MOST_CONFIG_BYTES))
        if (found := stored["format"]) != FORMAT:
            if type(found) is int and found > FORMAT:
                remedy = "a later version made it: update cnn-search (in a checkout: git pull)"
            raise ValueError(f"format {found!r}, but this version reads {FORMAT}")
        path = folder / WEIGHTS
        payload = read_regular(path, MOST_BYTES)
        if hashlib.sha256(payload).hexdigest() != stored["weights_sha256"]:
            raise ValueError(f"does not match the SHA-256 in {CONFIG}")
        weights = from_safetensors(payload)
        path = folder / CONFIG
        bundle = _restored(stored, weights)
    except OSError as error:
        raise BundleError(
            f"cannot read {path} ({error.strerror}); name another bundle, or {REMEDY}"
        ) from error
    except Exception as error:  # a file from others can make the reading code raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise BundleError(f"{path} cannot be used ({reason}); {remedy}") from error
    network = bundle.network()  # raises here, before pictures are read at its size
    learned = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for name, weight in weights.items():
        if not is_plain(weight, may_be_infinite=name not in learned):
            raise BundleError(f"{folder / WEIGHTS} cannot be used ({name} is not finite); {REMEDY}")
    return bundle


def _restored(stored: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Bundle:
    channels, height, width = map(int, stored["image_shape"])
    mean_C, std_C = (torch.tensor(stored[name], dtype=torch.float32) for name in ("mean", "std"))
    if not mean_C.shape == std_C.shape == (channels,):
        raise ValueError("mean and std do not have a number for each channel")
    temperature = float(stored.get("temperature", 1.0))
    plain = is_plain(mean_C) and is_plain(std_C) and bool((std_C > 0).all())
    if not (plain and 0 < temperature < math.inf):
        raise ValueError("mean, std or temperature is out of range")
    composition, preparation = stored["composition"], stored.get("preparation")
    if not all(type(stored[name]) is str for name in TEXTS):
        raise TypeError(f"{', '.join(TEXTS)} must be text")
    if not all(type(stored[name]) is int and 0 <= stored[name] < 2**63 for name in COUNTS):
        raise TypeError(f"{', '.join(COUNTS)} must be integers from 0 up")
    bundle = partial(
        Bundle,
        **{name: stored[name] for name in (*TEXTS, *COUNTS)},
        class_names=tuple(map(str, stored["class_names"])),
        image_shape=(channels, height, width),
        mean_C=mean_C,
        std_C=std_C,
        temperature=temperature,
        # Networks that predate the choice all have the first preparation.
        preparation=FIRST if preparation is None else Preparation.from_dict(preparation),
        composition=None if composition is None else Composition.from_dict(composition),
        recipe=dict(stored["recipe"]),
        weights=weights,
    )
    if (code := stored.get("code")) is not None:  # runs once all else is known to be in order
        restore_family(stored["architecture"]["family"], code)
    return bundle(architecture=from_dict(stored["architecture"]))
