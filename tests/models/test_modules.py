"""Built modules: seeded, of either memory format, free of synchronisation."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models import ConvNetConfig, MLPConfig, build

DEEP = ConvNetConfig(
    channels=(8, 8, 8, 16, 16), batch_norm=True, residual=True, hidden=(16,), dropout_linear=0.1
)


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.nn.utils.parameters_to_vector(build(DEEP, (3, 32, 32), 10).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_memory_format_changes_no_result(random_cases: Callable[[int, int], list[Any]]) -> None:
    """In particular the flattened order: a model may be trained in one and used in the other."""
    for architecture, image, classes in random_cases(60, 5):
        model = build(architecture, image, classes).eval()
        images = torch.randn(3, *image)
        expected = model(images)
        model.to(memory_format=torch.channels_last)
        actual = model(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_training_never_looks_at_a_value(random_cases: Callable[[int, int], list[Any]]) -> None:
    """On the meta device there are no values: `.item()` or a branch on data would raise."""
    for architecture, image, classes in random_cases(60, 6):
        model = build(architecture, image, classes).to("meta")
        logits = model(torch.empty(4, *image, device="meta"))
        assert logits.shape == (4, classes)
        logits.sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_hook_may_keep_feature_maps_without_cloning(
    random_cases: Callable[[int, int], list[Any]],
) -> None:
    """No later layer writes into an earlier one's output, nor into the images."""
    for architecture, image, classes in random_cases(40, 7):
        model = build(architecture, image, classes)
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []

        def keep(_module: Any, _inputs: Any, out: torch.Tensor, kept: Any = kept) -> None:
            kept.append((out, out.clone()))

        for module in model.modules():
            module.register_forward_hook(keep)
        images = torch.randn(4, *image)
        before = images.clone()
        model(images)
        assert torch.equal(images, before)
        assert all(torch.equal(now, then) for now, then in kept)


def test_layers_are_found_by_the_names_in_the_table() -> None:
    model = build(DEEP, (3, 32, 32), 10)
    assert model.get_submodule("conv1").weight.shape == (8, 3, 3, 3)
    assert model.get_submodule("residual3.main.conv2").weight.shape == (8, 8, 3, 3)
    assert model.get_submodule("residual5.shortcut.skip5").bias is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(
    "architecture",
    [replace(DEEP, dropout_linear=0.0), MLPConfig(hidden=(32,), batch_norm=True)],
)
def test_a_cuda_graph_captures_forward_and_backward(architecture: Any) -> None:
    torch.manual_seed(0)
    model = build(architecture, (3, 32, 32), 10).cuda()
    model.to(memory_format=torch.channels_last)
    eager = copy.deepcopy(model)
    images = torch.randn(64, 3, 32, 32, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.randint(10, (64,), device="cuda")

    def step(network: torch.nn.Module) -> None:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            loss = F.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model.zero_grad()
            step(model)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    model.zero_grad()
    with torch.cuda.graph(graph):
        step(model)
    images.copy_(torch.randn_like(images))
    graph.replay()
    step(eager)
    for captured, direct in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(captured.grad, direct.grad, rtol=2e-2, atol=1e-3)
