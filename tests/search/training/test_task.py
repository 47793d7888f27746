"""Stages of networks and their outputs, and how pictures are divided."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from data.datasets import DATASETS, from_arrays
from data.errors import DataError
from data.examples import Examples, split
from data.extensions import load_function
from data.folders.held_out import record_test
from models import Architecture, ConvNetConfig, MLPConfig, build
from search.spec.config import StudySpec
from search.training import task as task_module
from search.training.task import (
    Task,
    autocast,
    load_study_task,
    logits,
    noting_copies,
    stage_maps,
    validation_batch_size,
)
from tests.data.pets import make_pets

ANY_ORDER = """
import numpy as np

orders = iter((slice(None), slice(None, None, -1)))

def load(train, *_):
    order = np.arange(60, dtype=np.uint8)[next(orders)]
    return order.repeat(64).reshape(60, 8, 8), order % 2, ("even", "odd")
"""


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(
    ("architecture", "ends", "shapes"),
    [
        (
            ConvNetConfig(channels=(4, 6)),
            {"conv1": "relu1", "conv2": "relu2"},
            [(4, 14, 14), (6, 7, 7)],
        ),
        (
            ConvNetConfig(channels=(4, 4, 8), residual=True, head="global", dropout_conv=0.2),
            {"conv1": "relu1", "residual3": "relu3"},
            [(4, 14, 14), (8, 3, 3)],
        ),
        (MLPConfig(hidden=(5,)), {}, []),
    ],
)
def test_each_stage_is_shown_once_as_the_output_of_its_last_layer(
    architecture: Architecture, ends: dict[str, str], shapes: list[tuple[int, ...]]
) -> None:
    model = build(architecture, (1, 28, 28), 3).eval()
    image = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8)
    found = stage_maps(model, image, torch.tensor([0.0]), torch.tensor([1.0]))
    assert list(found) == list(ends)
    assert [maps_CHW.shape for maps_CHW in found.values()] == shapes
    given, x = {}, image[None].float() / 255
    for name, module in model.named_children():
        x = given[name] = module(x)
    for name, maps_CHW in found.items():
        torch.testing.assert_close(
            torch.from_numpy(maps_CHW), given[ends[name]][0], atol=1e-5, rtol=0
        )


class Tuples(nn.Module):
    """A convolution, then stages that give tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.block = nn.ModuleList([nn.Linear(4, 4)])
        self.rows = nn.GRU(4, 6, batch_first=True)
        self.output = nn.Linear(6, 3)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        maps_NLC = self.conv(images_NCHW).flatten(2).transpose(1, 2)
        maps_NLC, _ = self.attention(maps_NLC, maps_NLC, maps_NLC)
        rows_NLC, _ = self.rows(self.block[0](maps_NLC))
        logits_NK: torch.Tensor = self.output(rows_NLC.mean(1))
        return logits_NK


@pytest.mark.usefixtures("in_float32")
def test_stages_that_give_no_maps_are_left_out() -> None:
    image = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    found = stage_maps(Tuples().eval(), image, torch.tensor([0.0]), torch.tensor([1.0]))
    assert {name: maps_CHW.shape for name, maps_CHW in found.items()} == {"conv": (4, 6, 6)}


def parts(name: str, data_dir: Path, version: int = 3) -> list[torch.Tensor]:
    spec = StudySpec(dataset=name, limit=20, reading_version=version)
    task = load_study_task(spec, data_dir, torch.device("cpu"))
    if task.info.test_is_drawn:  # as a study's start does
        record_test(Path(name.removeprefix("folder:")), task.info.test_digests, data_dir)
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


@pytest.mark.parametrize(("name", "version"), [("mine.py:load", 3), ("mine", 6), ("mine", 5)])
def test_images_listed_in_any_order_are_divided_alike_except_an_extension_s_in_older_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(ANY_ORDER)
    load = load_function("mine.py:load")
    monkeypatch.setitem(DATASETS, "mine", from_arrays(load, title="Mine"))
    first, second = (parts(name, tmp_path, version) for _ in range(2))
    assert all(map(torch.equal, first, second)) == (version != 5)
    if version == 5:  # in the order in which it was given
        numbers = torch.arange(60)
        images_NCHW = numbers.to(torch.uint8).repeat_interleave(64).view(60, 1, 8, 8)
        given = Examples(images_NCHW=images_NCHW, labels_N=numbers % 2)
        drawn = split(given, validation_count=len(first[1]), seed=0, limit=20, of_each_class=True)
        assert all(map(torch.equal, first, (part.images_NCHW for part in drawn)))


def test_images_that_do_not_fit_on_a_gpu_are_told_in_one_line(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Examples, "to", Mock(side_effect=torch.OutOfMemoryError("Tried to")))
    with pytest.raises(DataError, match=r"images take 0.0 GB, more than cuda:0 has free; give"):
        task.to(torch.device("cuda:0"))


@pytest.mark.parametrize(("major", "enabled"), [(7, False), (8, True), (12, True)])
def test_a_gpu_computes_in_bfloat16_only_if_it_can(
    major: int, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turing has 7.5, Ampere 8.0. torch itself takes emulation for support."""
    device = torch.device("cuda:7")  # which no machine of the tests has
    task_module._gpu_computes_in_bfloat16.cache_clear()
    properties = Mock(return_value=SimpleNamespace(major=major))
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch, "autocast", lambda *_, **options: options["enabled"])
    assert autocast(device) is enabled
    properties.assert_called_once_with(device)


@pytest.mark.parametrize(
    ("device", "sides", "expected"),
    [
        ("cuda", (8, 8), 2000),
        ("cuda", (32, 32), 2000),
        ("cuda", (28, 28), 2000),
        ("cuda", (64, 64), 500),
        ("cuda", (128, 128), 125),
        ("cuda", (64, 256), 125),
        ("cuda", (1024, 1024), 64),
        ("cpu", (32, 32), 256),
        ("cpu", (48, 48), 113),
        ("cpu", (128, 128), 64),
    ],
)
def test_fewer_large_images_are_validated_at_once(
    device: str, sides: tuple[int, int], expected: int
) -> None:
    """Of 2000 at 128 x 128, two maps of 32 channels have 4.2 GB in bfloat16; of 125, 0.3 GB."""
    given = SimpleNamespace(device=torch.device(device), shape=(5000, 1, *sides))
    assert validation_batch_size(nn.Identity(), given) == expected  # type: ignore[arg-type]
    small = SimpleNamespace(device=torch.device(device), shape=(5000, 1, 8, 8))
    scaling = nn.Sequential(nn.Upsample(size=sides), nn.Flatten())  # as a ResNet with `side` has it
    assert validation_batch_size(scaling, small) == expected  # type: ignore[arg-type]


def test_all_images_are_validated_whatever_their_size() -> None:
    sizes = list[int]()

    class Counting(nn.Module):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images_NCHW))
            return images_NCHW.mean((2, 3))

    images = torch.randint(0, 256, (150, 3, 64, 256), dtype=torch.uint8)
    found = logits(Counting(), images, torch.zeros(3), torch.ones(3))
    assert sizes == [64, 64, 22]
    assert found.shape == (150, 3)


@pytest.mark.parametrize("version", [5, 4])
def test_a_rare_class_is_validated_except_in_older_studies(tmp_path: Path, version: int) -> None:
    images, labels = np.zeros((62, 4, 4), np.uint8), np.arange(62) // 60
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "rare.npz", **arrays)
    spec = StudySpec(dataset=f"npz:{tmp_path / 'rare.npz'}", limit=20, reading_version=version)
    task = load_study_task(spec, tmp_path, torch.device("cpu"))
    found = [
        part.labels_N.bincount(minlength=2).tolist() for part in (task.training, task.validation)
    ]
    assert found == ([[19, 1], [11, 1]] if version == 5 else [[19, 1], [12, 0]])


def test_copies_across_training_and_validation_are_told(tmp_path: Path) -> None:
    """An export twice, or a rare class repeated: validation would reward learning by heart."""
    images = np.arange(40, dtype=np.uint8).repeat(16).reshape(40, 4, 4)
    once, labels = {"x_test": images, "y_test": np.arange(40) % 2}, np.arange(40) % 2
    np.savez(tmp_path / "once.npz", x_train=images, y_train=labels, **once)
    twice = np.concatenate([images, images]), np.concatenate([labels, labels])
    np.savez(tmp_path / "twice.npz", x_train=twice[0], y_train=twice[1], **once)

    def notes(name: str) -> list[str]:
        spec = StudySpec(dataset=f"npz:{tmp_path / name}")
        task = noting_copies(load_study_task(spec, tmp_path, torch.device("cpu")))
        known = {image.numpy().tobytes() for image in task.training.images_NCHW}
        shared = sum(it.numpy().tobytes() in known for it in task.validation.images_NCHW)
        said = f"{shared} of {len(task.validation)} validation images are training images, too: "
        return [said in note for note in task.info.notes if "are training images" in note]

    assert notes("once.npz") == []
    assert notes("twice.npz") == [True]
