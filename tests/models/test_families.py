"""The registry: JSON round trips, errors that name the key, and built modules.

The convolutional family has a file of its own.
"""

from typing import Any

import pytest
import torch
import torchvision

from models import FAMILIES, ArchitectureError, ConvNetConfig, build, family_of, from_dict, to_dict
from models.checks import first_line
from models.family import KIND_WORDS, compact
from models.resnet import torchvision_names

DEEP = ConvNetConfig(
    channels=(8, 8, 8, 16, 16), batch_norm=True, residual=True, hidden=(16,), dropout_linear=0.1
)


@pytest.fixture(autouse=True)
def _only_the_projects_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever network of its own another test has left in this process."""
    for name in [name for name in FAMILIES if ":" in name]:
        monkeypatch.delitem(FAMILIES, name)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_complete(name: str) -> None:
    """It has descriptions and valid defaults, and the default network can be built."""
    family = FAMILIES[name]
    assert family.description
    for parameter in family.parameters.values():
        assert parameter.description
        assert parameter.fault(parameter.default) is None
        assert set(parameter.kinds) <= set(KIND_WORDS)
    config = family.configured({})
    assert family_of(config) is family
    assert to_dict(config)["family"] == name
    assert from_dict(to_dict(config)) == config
    assert build(config, (3, 32, 32), 7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "must be a table of keys"),
        ({}, "family must be one of cnn, mlp, resnet18, but got None"),
        ({"family": "cnn"}, "'channels' is missing for family 'cnn'"),
        ({"family": "cnn", "channels": [8], "chanels": [8]}, "unknown key 'chanels'.*channels"),
        ({"family": "cnn", "channels": [[8]]}, r"channels must be a list .* got \[\[8\]\]"),
        ({"family": "mlp", "hidden": [], "dropout": None}, "dropout must be a number .* None"),
        ({"family": "mlp", "hidden": [], "batch_norm": [1]}, "batch_norm must be true or false"),
        ({"family": "resnet18", "side": 8}, "side must be a whole number from 32 up, but got 8"),
        ({"family": "resnet18", "dropout": 1}, "dropout must be a number from 0 up and below 1"),
        ({"family": "resnet18", "dropout": None}, "dropout must be a number from 0 up and below"),
    ],
)
def test_from_dict_names_the_key(values: Any, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message) as caught:
        from_dict(values)
    assert "\n" not in str(caught.value)


def test_resnet18_is_torchvisions_layer_for_layer() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=10).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # default values would hide a mix-up
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    config = FAMILIES["resnet18"].configured({})
    ours = build(config, (3, 64, 64), 10).eval()
    weights = theirs.state_dict()
    assert torchvision_names() == list(weights)
    ours.load_state_dict(dict(zip(ours.state_dict(), weights.values(), strict=True)))
    images_NCHW = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images_NCHW), theirs(images_NCHW))
    for shape, message in (
        ((3, 28, 28), "needs images of 32x32 or more, but got 28x28; give a side"),
        ((4, 32, 32), "images of 1 or 3 channels, but got 4"),
    ):
        with pytest.raises(ArchitectureError, match=message):
            build(config, shape, 10)


def test_a_field_may_take_a_parameter_of_another_name_or_form() -> None:
    config = FAMILIES["cnn"].configured({"dropout": 0.3, "depth": 4, "width": 2})
    assert (config.dropout_linear, config.channels) == (0.3, (2, 4, 8, 8))
    assert FAMILIES["mlp"].configured({"batch_norm": (1,)}).batch_norm is True
    assert FAMILIES["resnet18"].configured({"side": 0}).side is None


def test_a_long_message_keeps_its_end() -> None:
    said = first_line(ValueError(f"no: {'x' * 10**6}; set A = 1\nmore"))
    assert said.startswith("no: xx")
    assert said.endswith("x; set A = 1")
    assert len(said) < 310
    assert first_line(ValueError("no\nmore")) == "no"


def test_compact_numbers() -> None:
    numbers = (0, 0.3, -0.00021, 0.0021, float("nan"), float("-inf"))
    assert [*map(compact, numbers)] == ["0", "0.3", "-2.1e-4", "0.0021", "nan", "-inf"]


def test_module_names_match_existing_checkpoints() -> None:
    assert list(build(DEEP, (3, 32, 32), 10).state_dict())[:22:3] == [
        "conv1.weight",
        "norm1.bias",
        "norm1.num_batches_tracked",
        "residual3.main.norm2.weight",
        "residual3.main.norm2.running_var",
        "residual3.main.conv3.bias",
        "residual3.main.norm3.running_mean",
        "residual5.main.conv4.weight",
    ]
    assert build(DEEP, (3, 32, 32), 10).get_submodule("residual5.shortcut.skip5").bias is None
