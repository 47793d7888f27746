"""Optimisers and weight decay against torch's own, and the running mean of the weights."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import ConvNetConfig
from search.spec.recipe import Recipe
from search.training.step import (
    RunningMean,
    decay_weights,
    load_optimizer,
    make_optimizer,
    newest_share,
)
from search.training.task import Task, evaluate
from search.training.train import train

STRENGTH = 0.1
RECIPE = Recipe(epochs=2, learning_rate=0.05, weight_decay=STRENGTH)
AVERAGED = Recipe(epochs=6, batch_size=16, learning_rate=3e-3)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    # No bias ahead of batch norm: its gradient is rounding noise, which Adam would blow up.
    return nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def rate() -> torch.Tensor:
    return torch.tensor(RECIPE.learning_rate)


def three_steps(
    model: nn.Sequential, optimizer: torch.optim.Optimizer, penalty: float = 0.0
) -> list[torch.Tensor]:
    """Parameters after three steps on fixed data; `penalty` times Σw² added to the loss."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.randn(16, 6, generator=generator)
        y = torch.randint(3, (16,), generator=generator)
        loss = F.cross_entropy(model(x), y)
        loss = loss + penalty * sum((p**2).sum() for p in model.parameters() if p.ndim > 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def ours(recipe: Recipe, penalty: float = 0.0) -> list[torch.Tensor]:
    model = small_network()
    return three_steps(model, make_optimizer(model, recipe, rate()), penalty)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_l2_is_the_penalty_in_the_loss_and_twice_the_coupled_decay(optimizer: str) -> None:
    l2 = replace(RECIPE, optimizer=optimizer, weight_decay_kind="l2")
    explicit = replace(l2, weight_decay_kind="none")
    coupled = replace(l2, weight_decay_kind="coupled", weight_decay=2 * STRENGTH)
    for a, b, c in zip(ours(l2), ours(explicit, STRENGTH), ours(coupled), strict=True):
        torch.testing.assert_close(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize(
    ("kind", "optimizer"), [("decoupled", torch.optim.AdamW), ("coupled", torch.optim.Adam)]
)
def test_adams_decay_is_torchs_on_weights_only(kind: Any, optimizer: Any) -> None:
    model = small_network()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": STRENGTH},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    reference = three_steps(model, optimizer(groups, lr=RECIPE.learning_rate))
    for a, b in zip(ours(replace(RECIPE, weight_decay_kind=kind)), reference, strict=True):
        torch.testing.assert_close(a, b)


def test_decoupled_sgd_shrinks_weights_independently_of_the_gradient() -> None:
    model = small_network()
    before = [p.detach().clone() for p in model.parameters()]
    recipe = replace(RECIPE, optimizer="sgd", weight_decay_kind="decoupled")
    optimizer = make_optimizer(model, recipe, rate())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    decay_weights(optimizer, STRENGTH)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        factor = 1 - RECIPE.learning_rate * STRENGTH if old.ndim > 1 else 1.0
        torch.testing.assert_close(new.detach(), old * factor)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_writing_to_the_rate_changes_the_next_step(optimizer: str) -> None:
    """Also after loading a state, which brings a rate of its own."""
    model, learning_rate = small_network(), rate()
    made = make_optimizer(model, replace(RECIPE, optimizer=optimizer), learning_rate)
    load_optimizer(made, copy.deepcopy(made.state_dict()))
    assert all(group["lr"] is learning_rate for group in made.param_groups)
    learning_rate.zero_()
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    made.step()
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_the_mean_covers_a_share_of_the_steps() -> None:
    """By hand: a weight equal to its step's number, averaged over 1 + 0.2 t steps."""
    mean = 0.0
    for step in range(10_000):
        mean += newest_share(0.2, step, 1.0) * (step - mean)
    assert (9_999 - mean) / 9_999 == pytest.approx(0.2 / 1.2, rel=0.01)  # its mean age
    assert newest_share(0.3, 0, 0.05) == newest_share(0.3, 5000, 0.0) == 1
    assert newest_share(0.3, 5000, 1e-3) == pytest.approx(1 / 2.5)


def test_weights_and_batch_norm_statistics_follow_and_what_has_no_mean_is_copied() -> None:
    model = small_network()
    model.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
    model.register_buffer("lowest", torch.tensor(torch.inf))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.register_buffer("kept", torch.ones(3, dtype=torch.bool))
    mean = RunningMean(model)
    with torch.no_grad():
        for name in before:
            model.state_dict()[name].add_(4)
        model.lowest.fill_(2)
        model.kept[1] = False
    for _ in range(2):
        mean.update(torch.tensor(0.25))
    mean.follow()
    copied = ("1.num_batches_tracked", "mask", "lowest", "kept")
    for name, tensor in mean.model.state_dict().items():
        if name in copied:
            assert torch.equal(tensor, model.state_dict()[name]), name
        else:
            torch.testing.assert_close(tensor, before[name] + 4 * (1 - 0.75**2))
    assert not mean.model.training
    assert not any(weight.requires_grad for weight in mean.model.parameters())


def test_averaging_does_not_change_what_is_learned(network: ConvNetConfig, task: Task) -> None:
    """The mean is validated, and ends close to the network if the schedule ends at 0."""

    def loss(model: nn.Module) -> float:
        return evaluate(model, task.validation, task.mean_C, task.std_C).loss

    plain, averaged = (
        train(network, replace(AVERAGED, weight_averaging=reach), task, seed=3)
        for reach in (0.0, 0.3)
    )
    train_losses = [epoch.train_loss for epoch in plain]
    epoch = next(averaged)
    assert epoch.validation_loss == pytest.approx(loss(averaged.model), rel=1e-6)
    assert loss(averaged.learning) != pytest.approx(epoch.validation_loss, rel=1e-3)
    assert train_losses == [epoch.train_loss, *(it.train_loss for it in averaged)]
    learned, same = plain.model.state_dict(), averaged.learning.state_dict()
    assert all(torch.equal(learned[name], same[name]) for name in learned)
    assert plain.model is plain.learning
    assert loss(averaged.model) == pytest.approx(loss(averaged.learning), rel=0.02)
    counter = "norm1.num_batches_tracked"
    assert averaged.model.get_buffer(counter) == averaged.learning.get_buffer(counter) > 0
