from dataclasses import replace

import pytest
import torch
from torch import nn

from models import ConvNetConfig
from search.spec.recipe import Recipe
from search.training.averaging import RunningMean, newest_share
from search.training.epoch import Epoch
from search.training.evaluate import evaluate
from search.training.task import Task
from search.training.train import Training, train

RECIPE = Recipe(epochs=6, batch_size=16, learning_rate=1e-2, weight_averaging=0.3)


def test_at_a_constant_rate_it_reaches_over_a_share_of_the_steps() -> None:
    """By hand: a weight that is its step's number, seen over 1 + 0.2 t steps."""
    mean = 0.0
    for step in range(10_000):
        mean += newest_share(0.2, step, 1.0) * (step - mean)
    assert (9_999 - mean) / 9_999 == pytest.approx(0.2 / 1.2, rel=0.01)  # its mean age


def test_the_first_and_the_annealed_weights_replace_all_before() -> None:
    assert newest_share(0.3, 0, 0.05) == 1
    assert newest_share(0.3, 5000, 0.0) == 1
    assert newest_share(0.3, 5000, 1e-3) == pytest.approx(1 / 2.5)
    assert newest_share(0.3, 5000, 0.5) < newest_share(0.3, 5000, 0.1) < newest_share(0.3, 50, 0.1)


def test_weights_and_batch_norm_statistics_follow() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mean = RunningMean(model)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor += 4
    mean.update(torch.tensor(0.25))
    for name, tensor in mean.model.state_dict().items():
        moved = 0 if name.endswith("num_batches_tracked") else 1
        torch.testing.assert_close(tensor, before[name] + moved)
    assert not mean.model.training
    assert not any(weight.requires_grad for weight in mean.model.parameters())


def trained(network: ConvNetConfig, recipe: Recipe, task: Task) -> tuple[Training, list[Epoch]]:
    training = train(network, recipe, task, seed=3)
    return training, list(training)


def test_what_is_learned_stays_the_same(network: ConvNetConfig, task: Task) -> None:
    plain, without = trained(network, replace(RECIPE, weight_averaging=0.0), task)
    averaged, with_mean = trained(network, RECIPE, task)
    assert [e.train_loss for e in without] == [e.train_loss for e in with_mean]
    learned, same = plain.model.state_dict(), averaged.learning.state_dict()
    assert all(torch.equal(learned[name], same[name]) for name in learned)
    assert averaged.model is not averaged.learning
    assert plain.model is plain.learning


def test_the_mean_is_what_is_validated(network: ConvNetConfig, task: Task) -> None:
    training = train(network, RECIPE, task, seed=3)
    epoch = next(training)
    score = evaluate(training.model, task.validation, task.mean_C, task.std_C)
    assert epoch.validation_loss == pytest.approx(score.loss, rel=1e-6)
    raw = evaluate(training.learning, task.validation, task.mean_C, task.std_C)
    assert raw.loss != pytest.approx(score.loss, rel=1e-3)


def test_at_a_schedules_end_it_is_the_network_itself(network: ConvNetConfig, task: Task) -> None:
    training, _ = trained(network, replace(RECIPE, learning_rate=3e-3), task)
    ends = [
        evaluate(model, task.validation, task.mean_C, task.std_C).loss
        for model in (training.model, training.learning)
    ]
    assert ends[0] == pytest.approx(ends[1], rel=0.02)
