import gc
import io
import math
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix

from data.examples import batch_indices
from models import ConvNetConfig, build
from search.spec.objectives import OBJECTIVES
from search.spec.recipe import Recipe
from search.training.graphs import OwnRandomness
from search.training.task import Task, evaluate, logits
from search.training.train import own_stream, train
from tests.search.blobs import curve, numbers

RECIPE = Recipe(
    epochs=5,
    batch_size=32,
    learning_rate=3e-3,
    weight_decay_kind="decoupled",
    weight_decay=1e-2,
    augmentation="flip-crop-erase",
)


def test_one_seed_gives_one_curve(network: ConvNetConfig, task: Task) -> None:
    """And the caller's random state is left alone."""
    before, recipe = torch.get_rng_state(), replace(RECIPE, epochs=2)
    first = curve(network, recipe, task)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(5)
    assert first == curve(network, recipe, task)
    assert first != curve(network, recipe, task, seed=4)
    assert [epoch["epoch"] for epoch in first] == [1, 2]


@pytest.mark.parametrize(("optimizer", "averaging"), [("adam", 0.3), ("sgd", 0.0)])
def test_resuming_is_bit_equal(
    network: ConvNetConfig, task: Task, optimizer: str, averaging: float
) -> None:
    how = {"optimizer": optimizer, "weight_averaging": averaging}
    recipe = replace(RECIPE, epochs=4, learning_rate=1e-2, patience=3, **how)
    whole = curve(network, recipe, task)
    training = train(network, recipe, task, seed=3)
    for done in range(1, len(whole)):
        next(training)
        file = io.BytesIO()
        torch.save(training.state(), file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
        torch.manual_seed(99)  # whatever else happened in between
        assert curve(network, recipe, task, state=state) == whole[done:]


def test_another_kind_of_device_resumes(network: ConvNetConfig, task: Task) -> None:
    """A GPU's checkpoint on a CPU: everything resumes but the random streams."""
    training = train(network, RECIPE, task, seed=3)
    first = [next(training) for _ in range(2)]
    of_gpu = torch.zeros(16, dtype=torch.uint8)  # seed and offset
    streams = {"global": [torch.get_rng_state(), of_gpu], "order": of_gpu, "augmentation": of_gpu}
    state = {**training.state(), "randomness": streams}
    rest = list(train(network, RECIPE, task, seed=3, state=state))
    assert [epoch.epoch for epoch in rest] == [3, 4, 5]
    assert rest[0].train_loss < first[-1].train_loss


@pytest.mark.parametrize("averaging", [0.0, 0.3])
def test_the_partial_epoch_validation_is_scored_on_a_third_of_each_class_and_changes_nothing(
    network: ConvNetConfig, task: Task, averaging: float
) -> None:
    recipe = replace(RECIPE, weight_averaging=averaging)
    plain = next(train(network, recipe, task := replace(task), seed=3))
    assert "early_validation" not in vars(task)
    training = train(network, recipe, task, seed=3, partial_epoch=True)
    assert "early_validation" in vars(task)  # before the training's own stream
    look = next(training)
    assert (look.epoch, look.images) == (0, 2 * 32)  # a third of the six steps
    early = task.early_validation
    assert len(early) == math.ceil(len(task.validation) / 3)
    found = evaluate(training.model, early, task.mean_C, task.std_C)
    assert (look.validation_loss, look.validation_error) == (found.loss, found.error)
    epoch = next(training)
    whole = evaluate(training.model, task.validation, task.mean_C, task.std_C)
    assert (epoch.validation_loss, epoch.validation_error) == (whole.loss, whole.error)
    assert numbers(replace(epoch, images=plain.images)) == numbers(plain)  # it changes nothing
    assert look.images + epoch.images == plain.images


@pytest.mark.parametrize("partial_epoch", [False, True])
def test_confusion_is_that_of_the_current_network(
    network: ConvNetConfig, task: Task, partial_epoch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = train(network, RECIPE, task, seed=3, partial_epoch=partial_epoch)
    state, counted = None, []
    for _ in training:
        found_NK = logits(training.model, task.validation.images_NCHW, task.mean_C, task.std_C)
        expected_KK = confusion_matrix(task.validation.labels_N, found_NK.argmax(1))
        if training.epoch > 0:
            with monkeypatch.context() as patch:  # nothing is validated again
                patch.setattr("search.training.train.logits", Mock(side_effect=AssertionError))
                counted.append(training.confusion())
            assert counted[-1].tolist() == expected_KK.tolist()
            state = training.state()
        else:  # which was scored on fewer images
            assert training.confusion().sum() == len(task.validation)
    assert not torch.equal(counted[0], counted[-1])
    carried_on = train(network, RECIPE, task, seed=5, state=state)
    assert torch.equal(carried_on.confusion(), counted[-1])


def test_trainings_in_two_threads_do_not_change_each_other(task: Task) -> None:
    network = ConvNetConfig(channels=(8,), dropout_conv=0.5)

    def losses(seed: int) -> list[float]:
        return [epoch.train_loss for epoch in train(network, RECIPE, task, seed=seed)]

    alone = [losses(seed) for seed in range(2)]
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(losses, range(2))) == alone


def test_no_work_of_another_gpu_touches_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream is left while its device is the current one, else torch would select GPU 0."""
    seen = list[tuple[str, object]]()

    @contextmanager
    def context_of(what: object) -> Iterator[None]:
        seen.append(("enter", what))
        try:
            yield
        finally:
            seen.append(("leave", what))

    device = torch.device("cuda:7")
    stream = Mock(device=device)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, context_of)
    monkeypatch.setattr(torch.cuda, "Stream", Mock(return_value=stream))
    monkeypatch.setattr(torch.cuda, "current_stream", Mock())
    context = own_stream(test_no_work_of_another_gpu_touches_the_first, device)
    for _ in range(2):
        with suppress(StopIteration), context():  # as a training's last slice raises it
            seen.append(("work", None))
            raise StopIteration
    ins, outs = [("enter", device), ("enter", stream)], [("leave", stream), ("leave", device)]
    assert seen == [*ins, ("work", None), *outs] * 2


@pytest.mark.usefixtures("in_float32")
def test_the_step_is_the_textbook_recipe(network: ConvNetConfig, task: Task) -> None:
    """One epoch against a loop written out with torch's own parts."""
    recipe = Recipe(
        epochs=1, batch_size=32, optimizer="sgd", schedule="cosine", label_smoothing=0.1
    )
    training = train(network, recipe, task, seed=3)
    epoch = next(training)

    randomness = OwnRandomness(3, torch.device("cpu"))
    with randomness:
        model = build(network, (1, 8, 8), 4).to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=recipe.learning_rate, momentum=0.9, nesterov=True
        )
        losses = []
        for step, indices in enumerate(batch_indices(200, 32, randomness.order)):
            images = task.training.images_NCHW[indices].float() / 255
            images = (images - task.mean_C.view(1, -1, 1, 1)) / task.std_C.view(1, -1, 1, 1)
            out = model(images)
            losses.append(F.cross_entropy(out, task.training.labels_N[indices]).item())
            optimizer.zero_grad()
            F.cross_entropy(out, task.training.labels_N[indices], label_smoothing=0.1).backward()
            optimizer.param_groups[0]["lr"] = (
                recipe.learning_rate * (1 + math.cos(math.pi * step / 6)) / 2
            )
            optimizer.step()
    assert epoch.train_loss == pytest.approx(sum(losses) / 6, rel=1e-5)
    for ours, reference in zip(training.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)


def test_it_learns_64_images_by_heart(task: Task) -> None:
    few = replace(task, training=task.training.select(torch.arange(64)))
    network = ConvNetConfig(channels=(16, 16), batch_norm=True, hidden=(32,))
    recipe = Recipe(epochs=30, batch_size=32, learning_rate=1e-2)
    *_, last = train(network, recipe, few, seed=0)
    assert last.train_error == 0
    assert last.train_loss < 0.01


def test_arms_see_the_same_examples_in_the_same_order(task: Task) -> None:
    """Networks and augmentations may differ; the order of the examples follows the seed alone."""
    orders = []
    for channels, augmentation in (((8,), "none"), ((16, 16), "rotate-jitter-erase")):
        recipe = replace(RECIPE, augmentation=augmentation)
        training = train(ConvNetConfig(channels=channels), recipe, task, seed=3)
        next(training)
        orders.append(training.state()["randomness"]["order"])
    assert torch.equal(*orders)


def test_an_ended_training_is_freed_with_its_last_reference(
    network: ConvNetConfig, task: Task
) -> None:
    """At once, not when the garbage collector runs: it may hold gigabytes of GPU memory."""
    training = train(network, RECIPE, task, seed=0)
    next(training)
    portions = training.slices()
    for _ in range(5):  # into the second epoch
        next(portions)
    left = weakref.ref(training), weakref.ref(training.model)
    training.close()
    assert next(training, None) is None
    gc.disable()
    try:
        del training, portions
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("scored", [64, 8])  # with eight images, errors tie
def test_patience_watches_the_objective(network: ConvNetConfig, task: Task, scored: int) -> None:
    labels_N = task.validation.labels_N.clone()
    labels_N[::7] = 0  # wrong ones, so that confidence is penalised
    validation = replace(task.validation, labels_N=labels_N).select(torch.arange(scored))
    few = replace(task, validation=validation, training=task.training.select(torch.arange(96)))
    recipe = replace(RECIPE, epochs=20, learning_rate=1e-2)
    whole = list(train(network, recipe, few, seed=3))
    recipe = replace(recipe, patience=2)
    for objective, measure in OBJECTIVES.items():
        values = [measure.of(epoch) for epoch in whole]
        stopped = list(train(network, recipe, few, seed=3, objective=objective))
        ranks = [(it, epoch.validation_loss) for it, epoch in zip(values, whole, strict=True)]
        ends = [n for n in range(1, 21) if n - 1 - ranks.index(min(ranks[:n])) == 2]
        assert len(stopped) == min(ends, default=20)
