import math

import numpy as np
import pytest
import torch

from data.errors import DataError
from data.examples import Examples, normalisation, split, thinned


def numbered(counts: list[int], channels: int = 1) -> Examples:
    """counts[k] examples of class k; the first two pixels of each hold its number."""
    labels_N = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images_NCHW = torch.zeros(len(labels_N), channels, 2, 2, dtype=torch.uint8)
    number_N = torch.arange(len(labels_N))
    images_NCHW[:, 0, 0, 0] = number_N // 256
    images_NCHW[:, 0, 0, 1] = number_N % 256
    return Examples(images_NCHW=images_NCHW, labels_N=labels_N)


def numbers(examples: Examples) -> list[int]:
    high_low_N2 = examples.images_NCHW[:, 0, 0, :].long()
    return (high_low_N2[:, 0] * 256 + high_low_N2[:, 1]).tolist()


def test_select_copies_in_the_order_asked_for() -> None:
    examples = numbered([3, 3])
    chosen = examples.select(torch.tensor([4, 0]))
    assert numbers(chosen) == [4, 0]
    assert chosen.labels_N.tolist() == [1, 0]
    chosen.images_NCHW.fill_(9)
    assert numbers(examples) == list(range(6))


def test_split_parts_are_disjoint_and_keep_the_proportions_of_the_classes() -> None:
    examples = numbered([100, 300, 600])
    training, validation = split(examples, validation_count=200, seed=3)
    assert sorted(numbers(training) + numbers(validation)) == list(range(1000))
    assert validation.labels_N.bincount().tolist() == [20, 60, 120]
    for part in (training, validation):
        assert torch.equal(part.labels_N, examples.labels_N[numbers(part)])


def test_split_depends_on_the_seed_and_on_nothing_else() -> None:
    examples = numbered([50, 50])
    torch.manual_seed(1)
    np.random.seed(1)
    first = [numbers(part) for part in split(examples, validation_count=20, seed=7)]
    torch.manual_seed(2)
    np.random.seed(2)
    assert [numbers(part) for part in split(examples, validation_count=20, seed=7)] == first
    assert [numbers(part) for part in split(examples, validation_count=20, seed=8)] != first


def test_split_is_the_same_on_every_machine() -> None:
    # Stored studies rely on it: a change here silently moves validation examples into training.
    _, validation = split(numbered([10, 10]), validation_count=4, seed=0)
    assert numbers(validation) == [0, 5, 14, 17]


def test_limit_keeps_a_stratified_part_of_training_and_leaves_validation_alone() -> None:
    examples = numbered([100, 300, 600])
    full, validation = split(examples, validation_count=200, seed=3)
    limited, same = split(examples, validation_count=200, seed=3, limit=80)
    assert numbers(same) == numbers(validation)
    assert limited.labels_N.bincount().tolist() == [8, 24, 48]
    assert set(numbers(limited)) < set(numbers(full))
    for more in (800, 10_000):
        whole, _ = split(examples, validation_count=200, seed=3, limit=more)
        assert numbers(whole) == numbers(full)


@pytest.mark.parametrize(
    ("validation_count", "limit", "named"),
    [
        (0, None, "0 validation"),
        (2, None, "2 validation"),
        (28, None, "28 validation"),
        (-5, None, "-5 validation"),
        (10, 2, "2 limited training"),
    ],
)
def test_split_refuses_parts_that_cannot_hold_each_class(
    validation_count: int, limit: int | None, named: str
) -> None:
    with pytest.raises(DataError, match=named):
        split(numbered([10, 10, 10]), validation_count=validation_count, seed=0, limit=limit)


def test_split_names_the_class_that_is_too_small() -> None:
    with pytest.raises(DataError, match="class 1 has a single example"):
        split(numbered([10, 1, 10]), validation_count=5, seed=0)


@pytest.mark.parametrize("share", [1 / 3, 0.5, 1.0])
def test_thinned_examples_keep_the_proportions_of_sorted_and_mixed_classes(share: float) -> None:
    for labels_N in (torch.tensor([0] * 30 + [1] * 60 + [2] * 9), torch.arange(90) % 3):
        images_NCHW = torch.arange(len(labels_N)).to(torch.uint8).view(-1, 1, 1, 1)
        examples = Examples(images_NCHW=images_NCHW, labels_N=labels_N)
        some = thinned(examples, share)
        assert len(some) == math.ceil(len(labels_N) * share)
        for label, size in enumerate(labels_N.bincount().tolist()):
            assert abs((some.labels_N == label).sum().item() - size * share) <= 1
        kept = some.images_NCHW.flatten().long()
        assert (kept.diff() > 0).all()  # each once, in the order of the source
        assert torch.equal(labels_N[kept], some.labels_N)


def test_of_no_examples_none_are_left() -> None:
    none = Examples(
        images_NCHW=torch.zeros(0, 1, 2, 2, dtype=torch.uint8),
        labels_N=torch.zeros(0, dtype=torch.int64),
    )
    assert len(thinned(none, 1 / 3)) == 0


def test_normalisation_equals_mean_and_deviation_of_the_float_images() -> None:
    images_NCHW = torch.randint(0, 256, (50, 3, 9, 7), dtype=torch.uint8)
    images_NCHW[:, 1] //= 5
    examples = Examples(images_NCHW=images_NCHW, labels_N=torch.zeros(50, dtype=torch.int64))
    mean_C, std_C = normalisation(examples)
    unit = images_NCHW.double() / 255
    assert mean_C.dtype == std_C.dtype == torch.float32
    torch.testing.assert_close(mean_C, unit.mean((0, 2, 3)).float())
    torch.testing.assert_close(std_C, unit.std((0, 2, 3), correction=0).float())


def test_normalisation_keeps_constant_channels_finite() -> None:
    images_NCHW = torch.full((4, 1, 3, 3), 51, dtype=torch.uint8)
    mean_C, std_C = normalisation(
        Examples(images_NCHW=images_NCHW, labels_N=torch.zeros(4, dtype=torch.int64))
    )
    assert mean_C.tolist() == pytest.approx([0.2])
    assert std_C.tolist() == [1.0]
