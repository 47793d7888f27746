"""scikit-learn's 1 797 digits of 8x8 pixels, which come with the library and need no file.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

import numpy as np
import torch

from data.examples import DatasetInfo, Examples

TEST_COUNT = 360  # a fifth
_SPLIT_SEED = 0  # the test split is the same for everyone, always


def load_training() -> tuple[DatasetInfo, Examples]:
    examples = _load(train=True)
    info = DatasetInfo(
        name="digits",
        title="digits",
        class_names=tuple("0123456789"),
        image_shape=(1, 8, 8),
        mirror_changes_class=True,
        validation_count=round(0.2 * len(examples)),
        training_count=len(examples),
    )
    return info, examples


def load_test() -> Examples:
    return _load(train=False)


def _load(*, train: bool) -> Examples:
    from sklearn.datasets import load_digits  # a second to import
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        np.arange(len(labels)), test_size=TEST_COUNT, stratify=labels, random_state=_SPLIT_SEED
    )
    chosen = np.sort(parts[0 if train else 1])
    pixels = np.rint(images[chosen] * (255 / 16)).astype(np.uint8)  # published as 0 to 16
    return Examples(
        images_NCHW=torch.from_numpy(pixels).view(-1, 1, 8, 8),
        labels_N=torch.from_numpy(labels[chosen].astype(np.int64)),
    )
