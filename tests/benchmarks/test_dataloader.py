"""The peer trains the same network, by the same steps, on the same images as ours."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from benchmarks.dataloader import LoaderTraining, Pictures, plain_network, torchvision_transforms
from benchmarks.workload import NETWORKS, recipe
from data.augment import augment
from data.augmentations import AUGMENTATIONS, policy
from data.examples import to_unit
from models import build
from search.spec.recipe import Recipe
from search.training.task import Task, evaluate
from search.training.train import train

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_the_same_weights(name: str, task: Task) -> None:
    ours = build(NETWORKS[name], task.image_shape, task.classes)
    theirs = plain_network(NETWORKS[name], task.image_shape, task.classes)
    theirs.load_state_dict(ours.state_dict())
    images = to_unit(task.training.images_NCHW)
    torch.testing.assert_close(theirs.eval()(images), ours.eval()(images))


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("kind", ["none", "l2", "coupled", "decoupled"])
def test_two_steps_change_the_weights_as_ours_do(kind: str, task: Task) -> None:
    """All 64 images in one batch, so that their order does not matter."""
    how = Recipe(
        epochs=2, batch_size=64, weight_decay_kind=kind, weight_decay=0.1, schedule="one-cycle"
    )
    architecture = NETWORKS["small"]
    ours = train(architecture, how, task, seed=0)
    theirs = LoaderTraining(architecture, how, task, CPU, seed=1, workers=0)
    before = {name: value.clone() for name, value in ours.model.state_dict().items()}
    theirs.model.load_state_dict(before)
    for _ in range(2):
        next(ours)
        assert theirs.train_epoch() == 64
    after = theirs.model.state_dict()
    for name, value in ours.model.state_dict().items():
        assert not torch.equal(value, before[name])
        torch.testing.assert_close(after[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("in_float32")
def test_validation_gives_our_scores(task: Task) -> None:
    how = dataclasses.replace(recipe(augmented=False), batch_size=32)
    theirs = LoaderTraining(NETWORKS["typical"], how, task, CPU, seed=0, workers=0)
    found = theirs.validate()
    expected = evaluate(theirs.model, task.validation, task.mean_C, task.std_C)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.error == pytest.approx(expected.error)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_policies_vary_pictures_as_much_as_ours(name: str, task: Task) -> None:
    """Random draws differ, so means over 4 000 pictures are compared: of each pixel, and of the
    distance from the original. Margins are black because the two sample borders differently.
    """
    chosen = policy(name, 1.0, mirror_changes_class=False)
    gradient = torch.linspace(40, 250, 28 * 28).round().to(torch.uint8).reshape(1, 1, 28, 28)
    gradient = F.pad(gradient[:, :, 6:22, 6:22], (6, 6, 6, 6))
    examples = dataclasses.replace(
        task.training,
        images_NCHW=gradient.expand(4000, 1, 28, 28).contiguous(),
        labels_N=torch.zeros(4000, dtype=torch.int64),
    )
    torch.manual_seed(0)
    pictures = Pictures(examples, torchvision_transforms(chosen, task))
    theirs = torch.stack([pictures[index][0] for index in range(len(pictures))])
    theirs = theirs * task.std_C + task.mean_C
    original = to_unit(examples.images_NCHW)
    ours = augment(original, chosen, torch.Generator().manual_seed(0))
    torch.testing.assert_close(theirs.mean(0), ours.mean(0), rtol=0, atol=0.04)
    far = (theirs - original).abs().mean(), (ours - original).abs().mean()
    assert far[0].item() == pytest.approx(far[1].item(), rel=0.15, abs=1e-6)
