import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search.spec.recipe import Recipe, RecipeError
from search.training.optim import (
    decay_weights,
    learning_rate_factor,
    load_optimizer,
    make_optimizer,
    needs_decay_before_step,
    recordable,
)

STRENGTH = 0.1
RECIPE = Recipe(epochs=2, learning_rate=0.05, weight_decay=STRENGTH)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    # No bias ahead of batch norm: its gradient is rounding noise, which Adam would blow up.
    return nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def rate() -> torch.Tensor:
    return torch.tensor(RECIPE.learning_rate)


def three_steps(model: nn.Sequential, recipe: Recipe, penalty: float = 0.0) -> list[torch.Tensor]:
    """Parameters after three steps on fixed data; `penalty` times Σw² added to the loss."""
    optimizer = make_optimizer(model, recipe, rate())
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.randn(16, 6, generator=generator)
        y = torch.randint(3, (16,), generator=generator)
        loss = F.cross_entropy(model(x), y)
        loss = loss + penalty * sum((p**2).sum() for p in model.parameters() if p.ndim > 1)
        optimizer.zero_grad()
        loss.backward()
        if needs_decay_before_step(recipe):
            decay_weights(optimizer, recipe.weight_decay)
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_l2_is_the_penalty_in_the_loss(optimizer: str) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, weight_decay_kind="l2")
    explicit = replace(RECIPE, optimizer=optimizer, weight_decay_kind="none")
    ours = three_steps(network(), recipe)
    reference = three_steps(network(), explicit, penalty=STRENGTH)
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_l2_is_coupled_decay_of_twice_the_strength(optimizer: str) -> None:
    l2 = replace(RECIPE, optimizer=optimizer, weight_decay_kind="l2")
    coupled = replace(l2, weight_decay_kind="coupled", weight_decay=2 * STRENGTH)
    for a, b in zip(three_steps(network(), l2), three_steps(network(), coupled), strict=True):
        assert torch.equal(a, b)


def test_decoupled_adam_is_adamw_on_weights_only() -> None:
    ours = three_steps(network(), replace(RECIPE, weight_decay_kind="decoupled"))
    model = network()
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    reference = torch.optim.AdamW(
        [{"params": weights}, {"params": others, "weight_decay": 0.0}],
        lr=RECIPE.learning_rate,
        weight_decay=STRENGTH,
    )
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.randn(16, 6, generator=generator)
        y = torch.randint(3, (16,), generator=generator)
        reference.zero_grad()
        F.cross_entropy(model(x), y).backward()
        reference.step()
    for a, b in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_decoupled_sgd_shrinks_weights_beside_the_gradient() -> None:
    recipe = replace(RECIPE, optimizer="sgd", weight_decay_kind="decoupled")
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(model, recipe, rate())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    decay_weights(optimizer, STRENGTH)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        factor = 1 - RECIPE.learning_rate * STRENGTH if old.ndim > 1 else 1.0
        torch.testing.assert_close(new.detach(), old * factor)


@pytest.mark.parametrize("kind", ["none", "l2", "coupled", "decoupled"])
def test_biases_and_batch_norm_are_never_decayed(kind: str) -> None:
    model = network()
    optimizer = make_optimizer(model, replace(RECIPE, weight_decay_kind=kind), rate())
    for group in optimizer.param_groups:
        if any(p.ndim <= 1 for p in group["params"]):
            assert group["weight_decay"] == 0


def test_schedules_at_known_points() -> None:
    assert learning_rate_factor("constant", 0.7) == 1
    assert [learning_rate_factor("step", p) for p in (0, 0.49, 0.5, 0.75)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )
    assert [learning_rate_factor("cosine", p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [learning_rate_factor("one-cycle", p) for p in (0, 0.2, 0.6, 1)] == pytest.approx(
        [0.05, 1, 0.5, 0]
    )


def test_cosine_agrees_with_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for step in range(10):
        assert learning_rate_factor("cosine", step / 10) == pytest.approx(
            optimizer.param_groups[0]["lr"]
        )
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["none", "decoupled"])
def test_writing_to_the_rate_sets_that_of_the_next_step(optimizer: str, kind: str) -> None:
    """Also after loading a state, which brings a rate of its own."""
    recipe = replace(RECIPE, optimizer=optimizer, weight_decay_kind=kind, weight_decay=STRENGTH)
    model, learning_rate = network(), rate()
    ours = make_optimizer(model, recipe, learning_rate)
    assert all(group["lr"] is learning_rate for group in ours.param_groups)
    load_optimizer(ours, copy.deepcopy(ours.state_dict()))
    assert all(group["lr"] is learning_rate for group in ours.param_groups)
    learning_rate.zero_()
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    if needs_decay_before_step(recipe):
        decay_weights(ours, STRENGTH)
    ours.step()
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_an_adam_is_marked_only_while_it_is_recorded() -> None:
    optimizer = make_optimizer(network(), RECIPE, rate())
    with recordable(optimizer):
        assert all(group["capturable"] for group in optimizer.param_groups)
    assert not any(group["capturable"] for group in optimizer.param_groups)
    sgd = make_optimizer(network(), replace(RECIPE, optimizer="sgd"), rate())
    with recordable(sgd):
        assert not any("capturable" in group for group in sgd.param_groups)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("patience", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("weight_decay", math.nan),
        ("weight_decay_kind", "l1"),
        ("optimizer", "lion"),
        ("schedule", "exponential"),
        ("weight_averaging", 1.5),
        ("weight_averaging", math.nan),
        ("label_smoothing", 1.0),
        ("gradient_clip", 0.0),
        ("augmentation", "mixup"),
        ("augmentation_strength", -0.5),
        ("augmentation_strength", math.nan),
    ],
)
def test_a_recipe_refuses(field: str, value: object) -> None:
    with pytest.raises(RecipeError, match=field) as caught:
        replace(RECIPE, **{field: value})
    assert repr(value) in str(caught.value)
