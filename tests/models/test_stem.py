"""The first convolution, batch norm and pooling in one: as the three modules compute it."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from models import ConvNetConfig, build
from models.stem import Network


@pytest.fixture(autouse=True)
def larger_stems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are computed right, but not faster."""
    monkeypatch.setattr("models.stem.LARGEST_WINDOW", 64)


def both(config: ConvNetConfig, image: tuple[int, int, int]) -> tuple[Network, Network]:
    """A network that computes its stem as one, and its twin that calls every module."""
    torch.manual_seed(0)
    model = build(config, image, 10)
    assert isinstance(model, Network)
    assert model.stem_length == (3 if config.batch_norm else 2)
    if config.batch_norm:  # scales of both signs: the highest of four is then the lowest
        nn.init.normal_(model.get_submodule("norm1").weight)
        nn.init.normal_(model.get_submodule("norm1").bias)
    twin = copy.deepcopy(model)
    twin.stem_length = 0
    return model, twin


def stem(kernel: int, padding: Any = "same", *, norm: bool = True) -> ConvNetConfig:
    return ConvNetConfig(
        channels=(6, 4),
        kernel_sizes=(kernel, 3),
        padding=padding,
        batch_norm=norm,
        pool_after=(1,),
    )


@pytest.mark.parametrize(
    ("config", "image"),
    [
        (stem(3), (1, 28, 28)),
        (stem(3), (3, 32, 20)),
        (stem(3, norm=False), (3, 8, 8)),
        (stem(5), (1, 12, 12)),
        (stem(5, (0, 1)), (1, 12, 18)),
        (stem(4, (1, 1)), (1, 9, 11)),
        (stem(1, (2, 0)), (3, 8, 8)),
    ],
)
def test_maps_gradients_and_statistics_are_those_of_the_modules(
    config: ConvNetConfig, image: tuple[int, int, int]
) -> None:
    fused, plain = (model.double() for model in both(config, image))
    for training in (True, True, False):
        fused.train(training)
        plain.train(training)
        images = torch.randn(16, *image, dtype=torch.float64, requires_grad=True)
        outputs = fused(images), plain(images)
        torch.testing.assert_close(*outputs)
        weights = torch.randn_like(outputs[0])
        gradients = (
            torch.autograd.grad(output, [images, *model.parameters()], weights)
            for output, model in zip(outputs, (fused, plain), strict=True)
        )
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        for ours, theirs in zip(fused.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_among_equals_the_first_has_the_gradient() -> None:
    """Large parts of an image are all black: equal maps, of which one alone must count."""
    config = ConvNetConfig(channels=(6,), batch_norm=False, pool_after=(1,))
    fused, plain = both(config, (1, 8, 8))
    images = torch.zeros(2, 1, 8, 8)
    images[:, :, 3:5, 2:6] = 1
    for model in (fused, plain):
        torch.autograd.backward(model(images).square().sum())
    for ours, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_what_was_first_validated_can_be_trained() -> None:
    """What a validation leaves behind for later must be fit for training."""
    fused, _ = both(stem(2, (3, 1)), (1, 9, 9))  # a size that nothing else here has
    with torch.inference_mode():
        fused(torch.randn(4, 1, 9, 9))
    fused(torch.randn(4, 1, 9, 9)).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_decides_the_precision(dtype: torch.dtype) -> None:
    fused, plain = both(stem(3), (1, 28, 28))
    images = torch.randn(64, 1, 28, 28).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(plain)(images)
    distances = []
    for model in (fused, plain):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = model(images)
        assert output.dtype == dtype
        distances.append((output.float() - exact).abs().max())
    ours, theirs = distances
    assert ours <= max(2 * theirs, torch.tensor(1e-4))


def test_a_constant_image_leaves_no_negative_variance() -> None:
    fused, _ = both(stem(3, (0, 1)), (1, 8, 8))
    with torch.no_grad():
        fused.get_submodule("conv1").weight.mul_(1e4)  # rounding of the moments grows with it
    output = fused(torch.ones(4, 1, 8, 8))
    assert output.isfinite().all()


def test_a_hook_sees_the_module_that_it_was_put_on() -> None:
    fused, plain = both(stem(3), (1, 8, 8))
    images = torch.randn(4, 1, 8, 8)
    for name, before in itertools.product(("conv1", "norm1", "pool1"), (False, True)):
        seen: list[Any] = []
        module = fused.get_submodule(name)
        register: Callable[..., Any] = (
            module.register_forward_pre_hook if before else module.register_forward_hook
        )
        handle = register(lambda *arguments, seen=seen: seen.append(arguments))
        assert torch.equal(fused(images), plain(images))  # called one by one: equal to the bit
        assert len(seen) == 1
        handle.remove()


@pytest.mark.parametrize(
    ("change", "image"),
    [
        ({"pool": "average"}, (1, 8, 8)),
        ({"activation": "gelu"}, (1, 8, 8)),  # goes before the pooling
        ({"pool_after": ()}, (1, 8, 8)),
        ({}, (1, 9, 8)),  # an odd side: pooling leaves a row out, batch norm does not
        ({}, (8, 8, 8)),  # many channels
    ],
)
def test_other_stems_are_called_module_by_module(
    change: dict[str, Any], image: tuple[int, int, int]
) -> None:
    model = build(
        ConvNetConfig(**{"channels": (4,), "pool_after": (1,), "batch_norm": True, **change}),
        image,
        10,
    )
    assert isinstance(model, Network)
    assert model.stem_length == 0


def test_names_and_initial_weights_stay_as_they_were() -> None:
    torch.manual_seed(1)
    names = dict(build(stem(3), (1, 8, 8), 10).named_children())
    assert list(names)[:4] == ["conv1", "norm1", "pool1", "relu1"]
    torch.manual_seed(1)
    assert torch.equal(names["conv1"].weight, nn.Conv2d(1, 6, 3).weight)
