"""Stages of networks, and what they make of images."""

from pathlib import Path

import pytest
import torch

from models import Architecture, ConvNetConfig, MLPConfig, build
from search.spec.config import StudySpec
from search.training.task import load_study_task, stage_maps
from tests.data.pets import make_pets

ANY_ORDER = """
import numpy as np

def load(train):
    order = np.random.default_rng().permutation(60)  # another one each time
    images = np.arange(60, dtype=np.uint8).repeat(64).reshape(60, 8, 8)
    return images[order], order % 2, ("even", "odd")
"""
MEAN, STD = torch.tensor([0.0]), torch.tensor([1.0])


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (ConvNetConfig(channels=(4, 6)), [("conv1", (4, 14, 14)), ("conv2", (6, 7, 7))]),
        (
            ConvNetConfig(channels=(4, 4, 8), residual=True, head="global", dropout_conv=0.2),
            [("conv1", (4, 14, 14)), ("residual3", (8, 3, 3))],
        ),
        (MLPConfig(hidden=(5,)), []),
    ],
)
def test_each_stage_is_shown_once(
    architecture: Architecture, expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    model = build(architecture, (1, 28, 28), 3)
    image = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8)
    found = stage_maps(model, image, MEAN, STD)
    assert [(name, maps_CHW.shape) for name, maps_CHW in found.items()] == expected


@pytest.mark.usefixtures("in_float32")
def test_the_maps_are_what_the_layers_give() -> None:
    model = build(ConvNetConfig(channels=(4, 6)), (1, 28, 28), 3).eval()
    image = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8)
    found = stage_maps(model, image, MEAN, STD)
    maps = {f"relu{name[-1]}": maps_CHW for name, maps_CHW in found.items()}
    x = image[None].float() / 255
    for name, module in model.named_children():
        x = module(x)
        if name in maps:
            assert torch.allclose(torch.from_numpy(maps.pop(name)), x[0], atol=1e-5)
    assert not maps


def parts(name: str, data_dir: Path, version: int) -> list[torch.Tensor]:
    spec = StudySpec(dataset=name, limit=20, reading_version=version)
    task = load_study_task(spec, data_dir, torch.device("cpu"))
    return [task.training.images_NCHW, task.validation.images_NCHW]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("version", [3, 2])
def test_renamed_pictures_are_divided_as_before(tmp_path: Path, own: bool, version: int) -> None:
    root = make_pets(tmp_path / "pets")
    make_pets(root, "val" if own else "test")
    before = parts(f"folder:{root}", tmp_path, version)
    for path in list(root.glob("*/*/*.png")):
        path.rename(path.with_stem(f"{9 - int(path.stem[-1])}-{path.stem}"))
    after = parts(f"folder:{root}", tmp_path, version)
    assert all(map(torch.equal, before, after)) == (version == 3)


def test_so_are_those_of_a_function_that_lists_them_as_it_likes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ANY_ORDER)
    name = f"{tmp_path / 'mine.py'}:load"
    assert all(map(torch.equal, parts(name, tmp_path, 3), parts(name, tmp_path, 3)))
