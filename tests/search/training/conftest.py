import pytest
import torch

from data.datasets import DatasetInfo, Examples
from models import ConvNetConfig
from search.training.task import Task, make_task

CLASSES = 4


def blobs(count: int, seed: int) -> Examples:
    """Images (count, 1, 8, 8) with a bright quarter that tells the class, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    images = torch.randint(0, 120, (count, 1, 8, 8), generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 2)
        image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 100
    return Examples(images_NCHW=images.to(torch.uint8), labels_N=labels)


@pytest.fixture
def task() -> Task:
    info = DatasetInfo(
        name="blobs",
        title="Blobs",
        class_names=tuple("abcd"),
        image_shape=(1, 8, 8),
        mirror_changes_class=False,
        validation_count=64,
        training_count=264,
    )
    return make_task(info, blobs(200, seed=0), blobs(64, seed=1), torch.device("cpu"))


@pytest.fixture
def network() -> ConvNetConfig:
    return ConvNetConfig(
        channels=(8, 8), batch_norm=True, hidden=(16,), dropout_linear=0.2, dropout_conv=0.1
    )
