"""Weights that a training starts from instead of random ones: transfer learning.

Sources: `imagenet` (torchvision's for ResNet-18), the folder of a model that `search.finalize`
wrote, or a file of weights. The output layer always starts from scratch: its classes differ.
"""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from data.errors import listed
from data.published import why_not_fetched
from data.reading import read_regular
from models import Architecture, ArchitectureError, build, family_of
from models.checks import by, shown
from search.spec.config import StudySpec
from search.spec.domains import ParameterValue, SpecError, corners
from search.spec.recipe import RECIPE
from search.spec.space import baseline_values, has_baseline, make_config, searched
from search.training.epoch import WeightsError
from search.training.files import MOST_BYTES, WEIGHTS, is_plain, load_tensors
from search.training.metrics import METRICS

IMAGENET = "imagenet"
TIMEOUT_SECONDS = 20.0
PARAMETER, FROZEN = "initial_weights", "frozen_epochs"
NEW_LAYER = "output."
_COUNTER = ".num_batches_tracked"  # of batch norm; unused unless its momentum is None
_WRAPPERS = r"^((module|_orig_mod)\.)+"  # DataParallel's and torch.compile's prefixes of names


def fitting_weights(
    network: nn.Module, architecture: Architecture, source: str, *, frozen: bool = False
) -> dict[str, Tensor]:
    """The source's weights that fit a network: all but the output layer's.

    Raises WeightsError if they cannot be read, belong to another network, or are to be `frozen`
    in one without an output layer of that name, so that nothing would learn.
    """
    learned = {name for name, _ in network.named_parameters()}
    if frozen and not any(name.startswith(NEW_LAYER) for name in learned):
        raise WeightsError(
            "frozen_epochs train only the layer `output`, which this network lacks; call its last "
            "layer `output`, or leave frozen_epochs out"
        )
    own = {k: v for k, v in network.state_dict().items() if not k.startswith(NEW_LAYER)}
    if not own:
        raise WeightsError(
            "a network with only an output layer uses no initial weights; leave initial_weights out"
        )
    held = found = _read(source)
    # Files from before torch 0.4.1, such as torchvision's first weights, have no such counters: the
    # network keeps its own, as with torch's `load_state_dict`.
    if not any(str(name).endswith(_COUNTER) for name in held):
        own = {name: tensor for name, tensor in own.items() if not name.endswith(_COUNTER)}
    if not own.keys() <= found.keys():
        found = {re.sub(_WRAPPERS, "", str(name)): tensor for name, tensor in held.items()}
    theirs = family_of(architecture).imagenet_names
    if theirs is not None and not own.keys() <= found.keys():
        pairs = zip(network.state_dict(), theirs(), strict=True)
        found = {name: found[their_name] for name, their_name in pairs if their_name in found}
    another = f"weights of {source!r} belong to another network"
    for name, tensor in own.items():
        if name not in found:
            names = listed([str(it)[:80] for it in held], 3)
            raise WeightsError(f"{another}: no {name!r} there, but {names}")
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
    with _told_if_unreadable(source):
        content = read_regular(file_of(source), MOST_BYTES)
        stored = load_tensors(content)
    # Training scripts often save {"state_dict": ..., "epoch": ...}.
    within = stored.values() if isinstance(stored, Mapping) else ()
    tables: list[Mapping[str, Tensor]] = [
        it
        for it in (stored, *within)
        if isinstance(it, Mapping) and it and all(isinstance(one, Tensor) for one in it.values())
    ]
    if len(tables) != 1:
        raise WeightsError(
            f"{source!r} holds {'several tables' if tables else 'no table'} of named weights; "
            "save one, with torch.save(model.state_dict(), FILE)"
        )
    return tables[0]


def file_of(source: str) -> Path:
    """The file of a source that is not `imagenet`."""
    path = Path(source)
    return path / WEIGHTS if path.is_dir() else path


def digests(sources: Iterable[str | None]) -> dict[str, str]:
    """SHA-256 of each source's file, without `imagenet`, which is always the same.

    Raises WeightsError if one cannot be read.
    """
    found = {}
    for source in sorted({it for it in sources if it is not None} - {IMAGENET}):
        with _told_if_unreadable(source):
            content = read_regular(file_of(source), MOST_BYTES)
            found[source] = hashlib.sha256(content).hexdigest()
    return found


@contextmanager
def _told_if_unreadable(source: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        where = "" if Path(source).is_absolute() else f" in the current folder, {Path.cwd()}"
        raise WeightsError(
            f"no weights can be read from {source[:200]!r}{where} ({reason}); give 'imagenet', the "
            "folder that search.finalize wrote (runs/<study>/final), or a file (.safetensors, .pth)"
        ) from error


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
            f"ImageNet weights cannot be fetched from {published.url} ({why_not_fetched(error)}); "
            f"put that file at {cached}, or give initial_weights = FILE"
        ) from error
    finally:
        socket.setdefaulttimeout(previous)
    return weights


def check_training(
    spec: StudySpec,
    image_shape: tuple[int, int, int],
    classes: int,
    queue: Sequence[Mapping[str, ParameterValue]] = (),
    *,
    new: bool = False,
) -> None:
    """Check that the metrics and initial weights that the study, or its queue, asks for exist.

    new: for a study to be made, also check its baseline, and each network size that it searches:
    one begun earlier may have failed with them, and may still resume. Raises SpecError: a metric is
    unknown; weights are unavailable, belong to another network, or cannot be frozen in this one.
    """
    for name in spec.metrics:
        if name not in METRICS:
            known = ", ".join(METRICS)
            raise SpecError("metrics", f"unknown metric {name[:40]!r}; known are {known}")
    checked = set[tuple[str, Architecture, bool]]()
    has_one = new and has_baseline(spec, image_shape, classes)
    for key, values, source in _starting(spec, queue, has_one):
        where = "" if key == PARAMETER else f"{key}: "
        cases = [(where, values)]
        for name, domain in searched(spec).items():
            is_of_network = name not in RECIPE and (new or key == "enqueue")
            if name not in values and (name == FROZEN or is_of_network):
                for value in corners(domain):
                    cases.append((f"{where}{name} = {shown(value)}: ", {**values, name: value}))
        for what, case in cases:
            config = make_config(case, spec)
            network, frozen = config.architecture, config.recipe.frozen_epochs > 0
            if (source, network, frozen) in checked:
                continue
            checked.add((source, network, frozen))
            try:
                built = build(network, image_shape, classes)
                fitting_weights(built, network, source, frozen=frozen)
            except (ArchitectureError, WeightsError) as error:
                raise SpecError(key, f"{what}{error}") from error


def sources_of(spec: StudySpec, queue: Sequence[Mapping[str, ParameterValue]] = ()) -> list[str]:
    """All initial weights that the study and the queue name.

    Not the baseline's if they are gone: the rest of a study resumes without them. Raises
    WeightsError for an impossible path.
    """
    found = list[str]()
    for key, _, source in _starting(spec, queue, spec.baseline is not None):
        with _told_if_unreadable(source):
            if key != "baseline" or Path(source).exists():
                found.append(source)
    return found


def _starting(
    spec: StudySpec, queue: Sequence[Mapping[str, ParameterValue]], baseline: bool
) -> Iterator[tuple[str, Mapping[str, ParameterValue], str]]:
    """Configurations with initial weights: the key for messages, the values, the weights."""
    found = [(PARAMETER, arm.values) for arm in spec.arms]
    if not found and PARAMETER in spec.space:
        found += [(PARAMETER, {PARAMETER: source}) for source in corners(spec.space[PARAMETER])]
    if baseline:
        found.append(("baseline", baseline_values(spec)))
    for key, values in (*found, *(("enqueue", values) for values in queue)):
        if (source := make_config(values, spec).recipe.initial_weights) is not None:
            yield key, values, source
