"""Folders of colour pictures to be changed, and what is read of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from data.datasets import load_test, load_training
from data.examples import DatasetInfo, Examples

EACH = 12  # pictures of a class


def pattern(seed: int, height: int = 24, width: int = 24) -> np.ndarray:  # type: ignore[type-arg]
    """Grey levels from 0 to 255, both of which are there."""
    levels = np.random.default_rng(seed).integers(0, 256, (height, width))
    levels[0, 0], levels[-1, -1] = 0, 255
    return levels


def colour(seed: int) -> Image.Image:
    return Image.fromarray(np.stack([pattern(3 * seed + k) for k in range(3)], 2).astype("u1"))


def save(path: Path, picture: Image.Image, **how: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **how)


def fill(folder: Path, seed: int, count: int = EACH) -> None:
    for index in range(count):
        save(folder / f"{index:03d}.png", colour(seed + index))


def make_insects(root: Path) -> Path:
    """Twelve pictures each of ants and bees in `root`/train."""
    fill(root / "train/ant", 0)
    fill(root / "train/bee", 100)
    return root


def load(root: Path) -> tuple[DatasetInfo, Examples, Examples]:
    name, data_dir = f"folder:{root}", root.parent / "data"
    info, training = load_training(name, data_dir)
    return info, training, load_test(name, data_dir)


def jpeg() -> bytes:
    stream = io.BytesIO()
    colour(0).save(stream, "JPEG")
    return stream.getvalue()
