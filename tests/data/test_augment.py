"""Augmentation against torchvision's functions, one image at a time, and against naive counts."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomErasing, RandomResizedCrop
from torchvision.transforms import functional as reference

from data.augment import Draws, augment, draw, make_augment, transform
from data.augmentations import AUGMENTATIONS, Augmentation, Policy, policy

HEIGHT, WIDTH = 20, 26  # not square on purpose
VARYING = [name for name in AUGMENTATIONS if name != "none"]
FLIPS = [True, False, True, False, True, True]
SHIFTS = [(0, 0), (3, 0), (0, -2), (-4, 5), (2, 2), (-30, 30)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 64, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, HEIGHT, WIDTH, generator=generator(99))


@pytest.fixture(params=[1, 3], ids=["grey", "rgb"])
def images_NCHW(request: pytest.FixtureRequest) -> Tensor:  # noqa: N802
    return batch(6, request.param)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_entry_is_described_and_does_nothing_at_strength_0(name: str) -> None:
    assert AUGMENTATIONS[name].description
    source, images_NCHW = generator(), batch()
    before = source.get_state()
    vary = make_augment(name, 0.0, mirror_changes_class=False)
    assert vary(images_NCHW, source) is images_NCHW
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("name", VARYING)
def test_results_are_images_determined_only_by_the_generator(name: str) -> None:
    images_NCHW = batch(channels=3)
    before = images_NCHW.clone()
    vary = make_augment(name, 1.0, mirror_changes_class=False)
    first = vary(images_NCHW, generator(5))
    torch.manual_seed(2)
    assert torch.equal(vary(images_NCHW, generator(5)), first)
    assert not torch.equal(vary(images_NCHW, generator(6)), first)
    assert (first.shape, first.dtype) == (images_NCHW.shape, torch.float32)
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-6
    assert torch.equal(images_NCHW, before)
    each = vary(batch(1).expand(200, -1, -1, -1), generator()).flatten(1)
    assert len(each.unique(dim=0)) > 20  # each sample on its own; flip-crop has few outcomes
    careful = policy(name, 1.0, mirror_changes_class=True)
    assert draw(careful, 9, 28, 28, generator()).flip_N is None
    tiny = [torch.rand(50, 1, size, size) for size in (1, 2, 3)]
    assert all(vary(images, generator()).isfinite().all() for images in tiny)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", VARYING)
def test_a_cuda_graph_replays_with_fresh_draws(name: str) -> None:
    usual = policy(name, 1.0, mirror_changes_class=False)
    images_NCHW = batch().cuda()
    source = torch.Generator("cuda").manual_seed(3)
    augment(images_NCHW, usual, source)  # one-time setup must not be captured
    graph = torch.cuda.CUDAGraph()
    if torch.__version__ < "2.14":  # later graphs find it by themselves
        graph.register_generator_state(source)
    with torch.cuda.graph(graph):
        captured = augment(images_NCHW, usual, source)
    torch.cuda.synchronize()  # older versions set the seed on the recording's own stream
    again = torch.Generator("cuda").manual_seed(8)
    source.manual_seed(8)
    for _ in range(2):
        graph.replay()
        torch.testing.assert_close(captured, augment(images_NCHW, usual, again))


def test_a_custom_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    def dim(images_NCHW: Tensor, source: torch.Generator, strength: float) -> Tensor:
        factor_N = 1 - 0.5 * strength * torch.rand(len(images_NCHW), generator=source)
        return images_NCHW * factor_N[:, None, None, None]

    monkeypatch.setitem(AUGMENTATIONS, "dim", Augmentation(description="darker", apply=dim))
    images_NCHW = batch()
    vary = make_augment("dim", 1.0, mirror_changes_class=True)
    assert (vary(images_NCHW, generator()) <= images_NCHW).all()
    assert torch.equal(vary(images_NCHW, generator()), dim(images_NCHW, generator(), 1.0))
    wrong = Augmentation(description="cut", apply=lambda images, *_: images[:, :, 1:])
    monkeypatch.setitem(AUGMENTATIONS, "cut", wrong)
    with pytest.raises(ValueError, match=r"'cut' made images of shape .* keep the shape"):
        make_augment("cut", 1.0, mirror_changes_class=False)(images_NCHW, generator())
    with pytest.raises(ValueError, match="either a policy or a function"):
        Augmentation(description="neither")


def test_flip_and_shift_equal_hflip_and_a_crop_after_padding_exactly(images_NCHW: Tensor) -> None:
    flip_N, shift_N2 = torch.tensor(FLIPS), torch.tensor(SHIFTS)
    result = transform(images_NCHW, Draws(flip_N=flip_N, shift_N2=shift_N2))
    for image, flip, (right, down), varied in zip(images_NCHW, FLIPS, SHIFTS, result, strict=True):
        flipped = reference.hflip(image) if flip else image
        padded = reference.pad(flipped, 30)
        assert torch.equal(varied, reference.crop(padded, 30 - down, 30 - right, HEIGHT, WIDTH))
    last = images_NCHW.contiguous(memory_format=torch.channels_last)
    assert torch.equal(transform(last, Draws(flip_N=flip_N, shift_N2=shift_N2)), result)
    still = Draws(flip_N=flip_N, shift_N2=torch.zeros_like(shift_N2))
    assert torch.equal(transform(images_NCHW, Draws(flip_N=flip_N)), transform(images_NCHW, still))


def test_resampling_equals_hflip_and_affine(images_NCHW: Tensor) -> None:
    degrees = [0.0, 15.0, -33.0, 90.0, 7.5, -170.0]
    zooms = [1.0, 1.3, 1.0, 1.0, 2.0, 1.5]  # enlarging a crop around the centre
    crops = [
        (WIDTH * (1 - 1 / zoom) / 2, HEIGHT * (1 - 1 / zoom) / 2, WIDTH / zoom, HEIGHT / zoom)
        for zoom in zooms
    ]
    draws = Draws(
        flip_N=torch.tensor(FLIPS),
        shift_N2=torch.tensor(SHIFTS),
        angle_N=torch.tensor(degrees) * (math.pi / 180),
        crop_N4=torch.tensor(crops),
    )
    result = transform(images_NCHW, draws)
    for i, image in enumerate(images_NCHW):
        flipped = reference.hflip(image) if FLIPS[i] else image
        how = {"shear": [0.0], "interpolation": InterpolationMode.BILINEAR}
        expected = reference.affine(flipped, degrees[i], list(SHIFTS[i]), zooms[i], **how)
        torch.testing.assert_close(result[i], expected, atol=2e-5, rtol=0)


def test_brightness_contrast_and_erasing_equal_torchvisions(images_NCHW: Tensor) -> None:
    factors = [0.0, 0.5, 0.9, 1.0, 1.3, 2.0]
    boxes = [(0, 0, 5, 9), (3, 4, 1, 1), (25, 19, 1, 1), (7, 7, 0, 0)]
    boxes += [(0, 0, WIDTH, HEIGHT), (9, 2, 17, 3)]
    factor_N, box_N4 = torch.tensor(factors), torch.tensor(boxes)
    draws = Draws(brightness_N=factor_N, contrast_N=factor_N, erase_N4=box_N4)
    result = transform(images_NCHW, draws)
    for i, (image, factor) in enumerate(zip(images_NCHW, factors, strict=True)):
        expected = reference.adjust_brightness(image, factor)
        expected = reference.adjust_contrast(expected, factor)
        left, top, width, height = boxes[i]
        expected = reference.erase(expected, top, left, height, width, torch.zeros(1))
        torch.testing.assert_close(result[i], expected, atol=1e-6, rtol=0)


def test_crops_and_erased_boxes_are_distributed_as_torchvisions() -> None:
    side, count = 60, 4000
    wide = Policy(crop_area=0.5, crop_aspect=4 / 3, erase_probability=0.5)
    draws = draw(wide, count, side, side, generator())
    square = torch.zeros(1, side, side)
    assert draws.crop_N4 is not None
    assert draws.erase_N4 is not None
    torch.manual_seed(0)
    cropped, erased = (
        torch.tensor([kind.get_params(square, *ranges)[:4] for _ in range(count)])
        for kind, *ranges in (
            (RandomResizedCrop, [0.5, 1.0], [3 / 4, 4 / 3]),
            (RandomErasing, (0.02, 0.33), (0.3, 3.3), [0.0]),
        )
    )
    whole_N = (draws.crop_N4[:, 2:] < side).all(1)  # torchvision draws the others again
    there_N = draws.erase_N4[:, 2] > 0
    assert there_N.float().mean().item() == pytest.approx(0.5, abs=0.03)
    for ours_N4, expected in (
        (draws.crop_N4[whole_N], cropped),
        (draws.erase_N4[there_N].float(), erased),
    ):
        left_N, top_N, width_N, height_N = ours_N4.unbind(1)
        assert ((left_N >= 0) & (left_N + width_N <= side + 1e-4)).all()
        assert ((top_N >= 0) & (top_N + height_N <= side + 1e-4)).all()
        expected_area_N = (expected[:, 2] * expected[:, 3]).float()
        for statistic in (torch.mean, torch.std):
            area = statistic(width_N * height_N).item()
            assert area == pytest.approx(statistic(expected_area_N).item(), rel=0.08)
