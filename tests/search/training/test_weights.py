"""Transfer: which weights are loaded, which are frozen, and which are refused."""

import copy
import io
import os
import re
from collections import OrderedDict
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet18_Weights

from models import (
    FAMILIES,
    Architecture,
    ConvNetConfig,
    MLPConfig,
    ResNetConfig,
    build,
    family_from_function,
)
from models.resnet import torchvision_names
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.domains import Choice, Range, SpecError
from search.spec.recipe import Recipe
from search.training import weights as initial_weights
from search.training.epoch import WeightsError
from search.training.task import Task
from search.training.train import train
from search.training.weights import check_training, fitting_weights
from tests.search.blobs import curve, numbers

NET, RESNET = ConvNetConfig(channels=(4, 4), batch_norm=True), ResNetConfig(side=32)
PUBLISHED = ("torchvision", "imagenet")
SHAPE = (1, 8, 8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A finalised model's weights, for 3 classes."""
    torch.manual_seed(1)
    folder = tmp_path / "final"
    folder.mkdir()
    save_file(build(NET, SHAPE, 3).state_dict(), folder / "model.safetensors")
    return folder


def test_all_weights_but_the_outputs_are_loaded(source: Path) -> None:
    """And read again after the file was rewritten, as may happen in a notebook."""
    network = build(NET, SHAPE, 10)
    output = network.state_dict()["output.weight"].clone()
    for _ in range(2):
        theirs = build(NET, SHAPE, 3).state_dict()
        save_file(theirs, source / "model.safetensors")
        network.load_state_dict(fitting_weights(network, NET, str(source)), strict=False)
        for name, tensor in network.state_dict().items():
            if not name.startswith("output"):
                assert torch.equal(tensor, theirs[name])
        assert torch.equal(network.state_dict()["output.weight"], output)


@pytest.mark.parametrize(
    ("config", "form"),
    [
        *product([NET], ("state_dict", "module.", "_orig_mod.", "st.pth", "ST.SAFETENSORS")),
        *product((NET, RESNET), ("old", "module.old")),
        *product([RESNET], PUBLISHED),
    ],
)
def test_weights_in_each_form_in_which_they_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Architecture, form: str
) -> None:
    """Without batch norm's counters before torch 0.4.1, as torchvision publishes them."""
    weights, source = build(config, SHAPE, 3).state_dict(), str(tmp_path / form.removesuffix("."))
    names = dict(zip(weights, torchvision_names() if form in PUBLISHED else weights, strict=True))
    if form.endswith("old") or form == initial_weights.IMAGENET:
        weights = {name: it for name, it in weights.items() if not name.endswith("_tracked")}
    prefix = form.removesuffix("old") if form.endswith((".", "old")) else ""
    stored = {f"{prefix}{names[name]}": tensor for name, tensor in weights.items()}
    if form == initial_weights.IMAGENET:
        monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *_, **__: stored)
        source = form
    elif form == "state_dict":
        torch.save({form: stored, "epoch": 3, "optimizer": {"state": {}}}, source)
    elif form.lower().startswith("st"):
        save_file(stored, source)
    else:
        torch.save(stored, source)
    found = fitting_weights(build(config, SHAPE, 10), config, source)
    assert found.keys() == {name for name in weights if not name.startswith("output")}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_layers_are_frozen_first_then_all_learn_even_if_interrupted(
    task: Task, source: Path, optimizer: Any
) -> None:
    recipe = Recipe(
        epochs=4,
        optimizer=optimizer,
        weight_decay_kind="decoupled",
        weight_decay=0.1,
        initial_weights=str(source),
        frozen_epochs=2,
    )
    training = train(NET, recipe, task, seed=3)
    initial = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    changed, whole, states = [], [], []
    for epoch in training:
        own = training.model.named_parameters()
        changed.append({name for name, p in own if not torch.equal(p, initial[name])})
        whole.append(numbers(epoch))
        states.append(copy.deepcopy(training.state()))
    assert changed[1] == {"output.weight", "output.bias"}
    # Batch norm cancels the biases before it, so that they have no gradient to learn from.
    assert changed[2] >= set(initial) - {"conv1.bias", "conv2.bias"}
    for done, state in enumerate(states[:3], start=1):
        assert curve(NET, recipe, task, state=state) == whole[done:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "read from .*give 'imagenet', the folder"),
        (lambda file: file.write_bytes(b""), "no weights can be read from"),
        (os.mkfifo, "it is not a regular file"),
        (lambda file: torch.save({"a": 1}, file), "no table of named weights"),
        (
            lambda file: torch.save(nn.Linear(2, 2), file),
            r"tensors, .* use torch\.save\(.*state_dict",
        ),
        (
            lambda file: torch.save({key: {"c": torch.ones(1)} for key in "ab"}, file),
            "several tables",
        ),
        (lambda file: torch.save({"a": torch.ones(1)}, file), "no 'conv1.weight' there, but a$"),
        (lambda file: torch.save({"a": torch.ones(1)}, file), "another network: no 'conv1.weight'"),
        (
            lambda file: torch.save(
                build(ConvNetConfig(channels=(8, 4), batch_norm=True), SHAPE, 3).state_dict(), file
            ),
            "another network: conv1.weight is 8x1x3x3 there and 4x1x3x3 here",
        ),
    ],
)
def test_unusable_weights(tmp_path: Path, make: Any, message: str) -> None:
    file = tmp_path / "weights.pth"
    make(file)
    with pytest.raises(WeightsError, match=message) as raised:
        fitting_weights(build(NET, SHAPE, 10), NET, str(file))
    assert not re.search("\n|\x1b|weights_only", str(raised.value))


def test_nothing_to_load() -> None:
    net = MLPConfig(hidden=())
    with pytest.raises(WeightsError, match="only an output layer"):
        fitting_weights(build(net, SHAPE, 10), net, "imagenet")


def test_imagenet_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any, **__: Any) -> io.BytesIO:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"put that file at .*resnet18-f37072fd.pth, or give"):
        fitting_weights(build(RESNET, SHAPE, 10), RESNET, initial_weights.IMAGENET)


# Studies that start from trained weights

SPACE = {"channels": (4, 4), "hidden": ()}


def arms_of(*sources: str) -> dict[str, Any]:
    arms = tuple(
        Arm(name=f"arm {n}", values={"initial_weights": source}) for n, source in enumerate(sources)
    )
    return {"dataset": "digits", "space": SPACE, "arms": arms}


def test_sources_are_checked_beforehand(source: Path, tmp_path: Path) -> None:
    weights = str(source)
    check_training(StudySpec(**arms_of("", weights)), SHAPE, 10)
    said = "no weights can be read from 'nowhere' in the current folder, /"
    with pytest.raises(SpecError, match=said):
        check_training(StudySpec(**arms_of("", weights, "nowhere")), SHAPE, 10)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    searched = StudySpec(
        dataset="digits",
        space={
            **SPACE,
            "initial_weights": Choice(values=(weights, str(tmp_path / "other.pth"))),
        },
    )
    with pytest.raises(SpecError, match=r"conv1\.weight is 1 there and 4x1x3x3 here"):
        check_training(searched, SHAPE, 10)


def test_every_configuration_of_a_new_search_must_fit_its_weights(source: Path) -> None:
    """Those of a study begun earlier may not: it resumes."""
    weights: dict[str, Any] = {"initial_weights": str(source)}
    sizes = Choice(values=((4, 4), (8, 4)))

    def spec_of(**space: Any) -> StudySpec:
        baseline = space.pop("baseline", None)
        return StudySpec(dataset="digits", space={**SPACE, **space}, baseline=baseline)

    open_ones = {"channels": sizes}
    either = {"initial_weights": Choice(values=("", str(source)))}
    for spec, message in (
        (spec_of(**open_ones, **weights), r"^channels = .*8.*: weights of .* 4x1x3x3 there and 8x"),
        (spec_of(**open_ones, **either), "^channels = .*8.*: weights of"),
        (spec_of(baseline={"initial_weights": "nowhere"}), "^baseline: no weights .* 'nowhere'"),
        (spec_of(**open_ones, **weights, baseline={"channels": (8, 4)}), "^channels|^baseline"),
    ):
        with pytest.raises(SpecError, match=message):
            check_training(spec, SHAPE, 10, new=True)
        check_training(spec, SHAPE, 10)
    check_training(spec_of(**weights, batch_size=Range(low=8, high=9)), SHAPE, 10, new=True)
    small, missing = {**weights, "channels": (4, 4)}, {"initial_weights": "nowhere"}
    check_training(spec_of(**open_ones), SHAPE, 10, [small], new=True)
    for queued, message in ((weights, "enqueue: channels = .*8"), (missing, "enqueue: no weights")):
        with pytest.raises(SpecError, match=message):
            check_training(spec_of(**open_ones), SHAPE, 10, [small, queued])


@pytest.mark.parametrize("name", ["output", "last"])
def test_only_a_layer_called_output_can_be_trained_alone(
    name: str, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a study also beforehand, for a fixed and for a searched number of epochs."""

    def mine(_: Any, classes: int) -> nn.Module:
        last = nn.Linear(4, classes)
        layers = {"first": nn.Linear(64, 4), name: last}
        return nn.Sequential(OrderedDict(flat=nn.Flatten(), **layers))

    monkeypatch.setitem(FAMILIES, "mine", family_from_function("mine", mine))
    net, file = FAMILIES["mine"].configured({}), str(tmp_path / "weights.pth")
    torch.save(build(net, SHAPE, task.classes).state_dict(), file)
    space = {"family": "mine", "initial_weights": file}
    recipe = Recipe(epochs=2, batch_size=32, initial_weights=file, frozen_epochs=1)
    says = pytest.raises((SpecError, WeightsError), match="call its last layer `output`, or leave")
    with nullcontext() if name == "output" else says:
        assert len(list(train(net, recipe, task, seed=0))) == 2
    for frozen in (1, Range(low=0, high=2)):
        spec = StudySpec(dataset="digits", space={**space, "frozen_epochs": frozen})
        with nullcontext() if name == "output" else says:
            check_training(spec, SHAPE, task.classes)
    check_training(StudySpec(dataset="digits", space=space), SHAPE, task.classes)
