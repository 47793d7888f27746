import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import RandomErasing, RandomResizedCrop

from data.augment import Draws, augment, draw
from data.augmentations import AUGMENTATIONS, Policy, policy

VARYING = [name for name in AUGMENTATIONS if name != "none"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 64, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, 28, 28, generator=generator(99))


def drawn(draws: Draws) -> set[str]:
    return {
        field.name for field in dataclasses.fields(draws) if getattr(draws, field.name) is not None
    }


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_strength_0_is_the_identity_to_the_bit(name: str) -> None:
    still = policy(name, 0.0, mirror_changes_class=False)
    source = generator()
    before = source.get_state()
    images_NCHW = batch()
    assert augment(images_NCHW, still, source) is images_NCHW
    assert torch.equal(source.get_state(), before)
    assert drawn(draw(still, 8, 28, 28, source)) == set()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("none", set()),
        ("flip-crop", {"flip_N", "shift_N2"}),
        ("flip-rotate-crop", {"flip_N", "shift_N2", "angle_N"}),
        ("rotate-jitter-erase", {"angle_N", "brightness_N", "contrast_N", "erase_N4"}),
        ("zoom-translate-flip", {"flip_N", "shift_N2", "crop_N4"}),
        ("flip-crop-erase", {"flip_N", "shift_N2", "erase_N4"}),
    ],
)
def test_policies_do_what_they_are_called(name: str, fields: set[str]) -> None:
    for strength in (0.5, 1.0, 2.0):
        usual = policy(name, strength, mirror_changes_class=False)
        assert drawn(draw(usual, 8, 28, 28, generator())) == fields


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_nothing_is_flipped_where_that_changes_the_class(name: str) -> None:
    for strength in (0.3, 1.0, 2.0):
        careful = policy(name, strength, mirror_changes_class=True)
        assert careful.flip_probability == 0
        assert draw(careful, 1000, 28, 28, generator()).flip_N is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", VARYING)
def test_results_are_images_that_the_generator_alone_decides(name: str, channels: int) -> None:
    images_NCHW = batch(channels=channels)
    before = images_NCHW.clone()
    usual = policy(name, 1.0, mirror_changes_class=False)
    torch.manual_seed(1)
    first = augment(images_NCHW, usual, generator(5))
    torch.manual_seed(2)
    assert torch.equal(augment(images_NCHW, usual, generator(5)), first)
    assert not torch.equal(augment(images_NCHW, usual, generator(6)), first)
    assert first.shape == images_NCHW.shape
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-6
    assert torch.equal(images_NCHW, before)


@pytest.mark.parametrize("name", VARYING)
def test_each_sample_is_varied_on_its_own(name: str) -> None:
    images_NCHW = batch(1).expand(200, -1, -1, -1)
    usual = policy(name, 1.0, mirror_changes_class=False)
    results = augment(images_NCHW, usual, generator()).flatten(1)
    # flip-crop has only 2 * 5 * 5 outcomes, and nearly all of them should turn up.
    assert len(results.unique(dim=0)) > 40


@pytest.mark.parametrize("name", VARYING)
def test_as_much_is_drawn_whatever_the_strength_and_the_images(name: str) -> None:
    states = []
    for strength, channels in ((0.1, 1), (1.0, 3), (2.0, 1)):
        source = generator()
        varied = policy(name, strength, mirror_changes_class=False)
        augment(batch(16, channels) * 0.1, varied, source)
        states.append(source.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_value_is_waited_for_and_no_shape_depends_on_one(name: str) -> None:
    usual = policy(name, 1.0, mirror_changes_class=False)
    with FakeTensorMode():  # tensors without values: asking for one raises
        source = torch.Generator()
        for channels in (1, 3):
            images_NCHW = torch.empty(8, channels, 28, 28)
            assert augment(images_NCHW, usual, source).shape == images_NCHW.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", VARYING)
def test_a_cuda_graph_replays_with_fresh_draws(name: str) -> None:
    usual = policy(name, 1.0, mirror_changes_class=False)
    images_NCHW = batch().cuda()
    source = torch.Generator("cuda").manual_seed(3)
    augment(images_NCHW, usual, source)  # what is set up once must not be captured
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(source)
    with torch.cuda.graph(graph):
        captured = augment(images_NCHW, usual, source)
    again = torch.Generator("cuda").manual_seed(8)
    source.manual_seed(8)
    for _ in range(2):
        graph.replay()
        torch.testing.assert_close(captured, augment(images_NCHW, usual, again))


def test_draws_keep_to_the_policy_and_use_all_of_it() -> None:
    wide = Policy(
        flip_probability=0.3,
        shift_fraction=0.1,
        rotate_degrees=20,
        brightness=0.4,
        contrast=0.1,
    )
    draws = draw(wide, 4000, 40, 20, generator())
    assert draws.flip_N is not None
    assert draws.flip_N.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert draws.shift_N2 is not None
    right_N, down_N = draws.shift_N2.unbind(1)
    for shift_N, most in ((right_N, 2), (down_N, 4)):
        values, counts = shift_N.unique(return_counts=True)
        assert values.tolist() == list(range(-most, most + 1))
        assert counts.min() > 0.8 * 4000 / len(values)
    for values_N, middle, reach in (
        (draws.angle_N, 0.0, math.radians(20)),
        (draws.brightness_N, 1.0, 0.4),
        (draws.contrast_N, 1.0, 0.1),
    ):
        assert values_N is not None
        assert values_N.min().item() == pytest.approx(middle - reach, abs=0.01 * reach)
        assert values_N.max().item() == pytest.approx(middle + reach, abs=0.01 * reach)
        assert values_N.mean().item() == pytest.approx(middle, abs=0.05 * reach)
    columns = [right_N, down_N, draws.flip_N, draws.angle_N, draws.brightness_N, draws.contrast_N]
    correlation = torch.corrcoef(torch.stack([c.float() for c in columns if c is not None]))
    assert (correlation - torch.eye(6)).abs().max() < 0.08


def test_crops_are_distributed_as_torchvisions() -> None:
    height, width, count = 40, 60, 4000
    zoom = Policy(crop_area=0.5, crop_aspect=4 / 3)
    crop_N4 = draw(zoom, count, height, width, generator()).crop_N4
    assert crop_N4 is not None
    left_N, top_N, width_N, height_N = crop_N4.unbind(1)
    assert (crop_N4 >= 0).all()
    assert (left_N + width_N <= width + 1e-4).all()
    assert (top_N + height_N <= height + 1e-4).all()
    torch.manual_seed(0)
    # torchvision's ratio is that of pixels, ours relative to the image's: compare on a square.
    square = torch.zeros(1, 60, 60)
    boxes = [RandomResizedCrop.get_params(square, [0.5, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    their_area = torch.tensor([h * w / 3600 for _, _, h, w in boxes])
    # Where torchvision draws again ours are cut to the image: leave these out.
    whole_N = (width_N < width) & (height_N < height)
    our_area = (width_N * height_N / (height * width))[whole_N]
    assert our_area.mean().item() == pytest.approx(their_area.mean().item(), abs=0.02)
    assert our_area.std().item() == pytest.approx(their_area.std().item(), abs=0.01)
    ratio_N = (width_N / width) / (height_N / height)
    assert 3 / 4 - 1e-4 <= ratio_N.min() < 0.77
    assert 1.3 < ratio_N.max() <= 4 / 3 + 1e-4


def test_erased_boxes_are_distributed_as_torchvisions() -> None:
    height, width, count = 28, 32, 4000
    erase = Policy(erase_probability=0.5)
    box_N4 = draw(erase, count, height, width, generator()).erase_N4
    assert box_N4 is not None
    left_N, top_N, width_N, height_N = box_N4.unbind(1)
    assert (box_N4 >= 0).all()
    assert (left_N + width_N <= width).all()
    assert (top_N + height_N <= height).all()
    erased_N = height_N > 0
    assert torch.equal(erased_N, width_N > 0)
    assert erased_N.float().mean().item() == pytest.approx(0.5, abs=0.03)
    torch.manual_seed(0)
    image = torch.zeros(1, height, width)
    theirs = torch.tensor(
        [
            RandomErasing.get_params(image, erase.erase_area, erase.erase_aspect, [0.0])[:4]
            for _ in range(count)
        ]
    ).float()
    ours = torch.stack([top_N, left_N, height_N, width_N], 1)[erased_N].float()
    for of in (
        lambda box_N4: box_N4[:, 0],
        lambda box_N4: box_N4[:, 1],
        lambda box_N4: box_N4[:, 2],
        lambda box_N4: box_N4[:, 3],
        lambda box_N4: box_N4[:, 2] * box_N4[:, 3],
    ):
        for statistic in (torch.mean, torch.std):
            expected = statistic(of(theirs)).item()
            assert statistic(of(ours)).item() == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("name", VARYING)
def test_tiny_images_are_varied_without_complaint(name: str, size: int) -> None:
    usual = policy(name, 2.0, mirror_changes_class=False)
    images_NCHW = torch.rand(50, 1, size, size)
    assert augment(images_NCHW, usual, generator()).isfinite().all()


@pytest.mark.parametrize("strength", [-0.1, 2.1, math.nan, math.inf])
def test_strengths_out_of_range_are_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=f"0 to 2, but is {strength}"):
        policy("flip-crop", strength, mirror_changes_class=False)


def test_an_unknown_policy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown augmentation 'cutmix'; .*erase"):
        policy("cutmix", 1.0, mirror_changes_class=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flip_probability", 1.1),
        ("shift_fraction", -0.1),
        ("rotate_degrees", math.nan),
        ("crop_area", 0.0),
        ("crop_aspect", 0.9),
        ("brightness", 2.0),
        ("contrast", -1.0),
        ("erase_probability", math.inf),
        ("erase_area", (0.5, 0.1)),
        ("erase_aspect", (0.0, 1.0)),
    ],
)
def test_policies_check_their_ranges(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Policy(**{field: value})  # type: ignore[arg-type]
