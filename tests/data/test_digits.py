import hashlib

import torch
from sklearn.datasets import load_digits

from data import digits


def rows(images_NCHW: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images_NCHW}


def test_training_and_test_together_are_scikit_learns_digits() -> None:
    info, training = digits.load_training()
    test = digits.load_test()
    assert (len(training), len(test)) == (1437, 360)
    assert (info.training_count, info.validation_count) == (1437, 287)
    images, labels = load_digits(return_X_y=True)
    published = torch.from_numpy(images).mul(255 / 16).round().to(torch.uint8)
    both = torch.cat([training.images_NCHW, test.images_NCHW]).flatten(1)
    assert sorted(both.tolist()) == sorted(published.tolist())
    assert both.max() == 255
    assert torch.cat([training.labels_N, test.labels_N]).bincount().tolist() == [
        int((labels == k).sum()) for k in range(10)
    ]


def test_the_split_is_stratified_and_always_the_same() -> None:
    _, training = digits.load_training()
    test = digits.load_test()
    assert not rows(training.images_NCHW) & rows(test.images_NCHW)
    share_K = test.labels_N.bincount() / (test.labels_N.bincount() + training.labels_N.bincount())
    assert ((share_K - 0.2).abs() < 0.01).all()
    # A change here would silently move test images into training.
    digest = hashlib.sha256(test.images_NCHW.numpy().tobytes()).hexdigest()
    assert digest.startswith("de85aee14a9506dd")
    assert torch.equal(digits.load_test().images_NCHW, test.images_NCHW)


def test_labels_belong_to_their_images() -> None:
    known = {}
    images, labels = load_digits(return_X_y=True)
    for image, label in zip(images, labels, strict=True):
        known[torch.from_numpy(image).mul(255 / 16).round().to(torch.uint8).numpy().tobytes()] = (
            label
        )
    for examples in (digits.load_training()[1], digits.load_test()):
        for image, label in zip(examples.images_NCHW, examples.labels_N.tolist(), strict=True):
            assert known[image.numpy().tobytes()] == label


def test_a_mirrored_digit_is_another() -> None:
    assert digits.load_training()[0].mirror_changes_class
