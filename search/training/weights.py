"""Weights that a training starts from instead of random ones: transfer learning.

Sources: `imagenet` (torchvision's for ResNet-18), the folder of a model that `search.finalize`
wrote, or a file of weights. The output layer always starts from scratch: its classes differ.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from data.reading import read_regular
from models import Architecture, build, family_of
from models.checks import by
from search.spec.config import StudySpec
from search.spec.domains import ParameterValue, SpecError, corners
from search.spec.space import make_config
from search.training.epoch import WeightsError
from search.training.files import MOST_BYTES, WEIGHTS, is_plain, load_tensors
from search.training.metrics import METRICS

IMAGENET = "imagenet"
TIMEOUT_SECONDS = 20.0
PARAMETER = "initial_weights"
NEW_LAYER = "output."


def fitting_weights(
    network: nn.Module, architecture: Architecture, source: str
) -> dict[str, Tensor]:
    """The source's weights that fit a network: all but the output layer's.

    Raises WeightsError if they cannot be read, or belong to another network.
    """
    own = {k: v for k, v in network.state_dict().items() if not k.startswith(NEW_LAYER)}
    if not own:
        raise WeightsError(
            "a network with only an output layer uses no initial weights; leave initial_weights out"
        )
    found = _read(source)
    theirs = family_of(architecture).imagenet_names
    if theirs is not None and not own.keys() <= found.keys():
        pairs = zip(network.state_dict(), theirs(), strict=True)
        found = {name: found[their_name] for name, their_name in pairs if their_name in found}
    another = f"weights of {source!r} belong to another network"
    learned = {name for name, _ in network.named_parameters()}
    for name, tensor in own.items():
        if name not in found:
            raise WeightsError(f"{another}: no {name!r} there")
        if found[name].shape != tensor.shape:
            there, here = (by(it.shape) or "a number" for it in (found[name], tensor))
            shapes = f"{there} there and {here} here"
            raise WeightsError(f"{another}: {name} is {shapes}; give the study the same network")
        if not is_plain(found[name], may_be_infinite=name not in learned):
            raise WeightsError(f"weights of {source!r} are not plain finite numbers in {name}")
    return {name: found[name] for name in own}


def _read(source: str) -> Mapping[str, Tensor]:
    if source == IMAGENET:
        return _imagenet()
    path = Path(source)
    try:
        file = path / WEIGHTS if path.is_dir() else path
        content = read_regular(file, MOST_BYTES)
        weights = load_tensors(content, safetensors=file.suffix == ".safetensors")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise WeightsError(
            f"no weights can be read from {source[:200]!r} ({reason}); give 'imagenet', the folder "
            "that search.finalize wrote (runs/<study>/final), or a file (.safetensors, .pth)"
        ) from error
    if not isinstance(weights, Mapping) or not all(
        isinstance(value, Tensor) for value in weights.values()
    ):
        raise WeightsError(f"{source!r} holds no table of named weights; give a state_dict")
    return weights


def _imagenet() -> Mapping[str, Tensor]:
    """torchvision's first weights, from torch's cache or downloaded into it."""
    from torchvision.models import ResNet18_Weights

    published = ResNet18_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir(), "checkpoints", published.url.rsplit("/", 1)[-1])
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)  # torch.hub sets none of its own
    try:
        weights: Mapping[str, Tensor] = published.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # network errors, and any of torch's if the file is damaged
        raise WeightsError(
            f"ImageNet weights cannot be fetched from {published.url} ({error}); put that file at "
            f"{cached}, or give initial_weights = FILE"
        ) from error
    finally:
        socket.setdefaulttimeout(previous)
    return weights


def check_training(spec: StudySpec, image_shape: tuple[int, int, int], classes: int) -> None:
    """Check that the metrics and initial weights that the study asks for exist.

    Raises SpecError: a metric is unknown; weights are unavailable, or belong to another network.
    """
    for name in spec.metrics:
        if name not in METRICS:
            known = ", ".join(METRICS)
            raise SpecError("metrics", f"unknown metric {name[:40]!r}; known are {known}")
    # The arms, or a search's first network with each source.
    tried: list[Mapping[str, ParameterValue]] = [arm.values for arm in spec.arms]
    if not tried and PARAMETER in spec.space:
        tried = [{PARAMETER: source} for source in corners(spec.space[PARAMETER])]
    configs = [make_config(values, spec) for values in tried]
    wanted = dict.fromkeys((it.recipe.initial_weights, it.architecture) for it in configs)
    try:
        for source, architecture in wanted:
            if source is not None:
                fitting_weights(build(architecture, image_shape, classes), architecture, source)
    except WeightsError as error:
        raise SpecError(PARAMETER, str(error)) from error
