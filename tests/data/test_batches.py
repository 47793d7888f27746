import pytest
import torch

from data.examples import batch_indices, gather, to_unit


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_batches_are_full_and_meet_no_example_twice() -> None:
    batches = list(batch_indices(103, 10, generator()))
    assert [len(batch) for batch in batches] == [10] * 10
    assert len(set(torch.cat(batches).tolist())) == 100


@pytest.mark.parametrize(("count", "sizes"), [(10, [10]), (7, [7]), (1, [1]), (20, [10, 10])])
def test_an_incomplete_batch_stays_only_where_it_is_the_only_one(
    count: int, sizes: list[int]
) -> None:
    batches = list(batch_indices(count, 10, generator()))
    assert [len(batch) for batch in batches] == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(count))


def test_each_epoch_is_in_another_order_that_the_generator_decides() -> None:
    source, again = generator(5), generator(5)
    first, second = ([b.tolist() for b in batch_indices(50, 8, source)] for _ in range(2))
    assert first != second
    assert [b.tolist() for b in batch_indices(50, 8, again)] == first


def test_the_order_is_drawn_at_the_call() -> None:
    source = generator(1)
    before = source.get_state()
    batch_indices(50, 8, source)
    assert not torch.equal(source.get_state(), before)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
def test_gather_and_to_unit_equal_indexing_and_keep_the_memory_format(
    channels: int, memory_format: torch.memory_format
) -> None:
    images = torch.randint(0, 256, (20, channels, 6, 5), dtype=torch.uint8)
    images = images.contiguous(memory_format=memory_format)
    indices = torch.tensor([3, 3, 19, 0])
    taken = gather(images, indices)
    assert torch.equal(taken, images[indices])
    assert taken.is_contiguous(memory_format=memory_format)
    unit = to_unit(taken)
    assert unit.dtype == torch.float32
    assert unit.is_contiguous(memory_format=memory_format)
    assert torch.equal(unit, images[indices] / 255)


def test_to_unit_reaches_both_ends_exactly() -> None:
    assert to_unit(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist() == [[[[0.0, 1.0]]]]
