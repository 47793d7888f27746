"""Folders of generated pictures, no two alike, and the data sets read from them."""

import io
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from data.datasets import load_test, load_training
from data.examples import DatasetInfo, Examples

SIZES = {"cat": 12, "dog": 10, "eel": 10}
EACH = 12  # insects per class


def draw(path: Path, seed: int) -> None:
    """A grey picture of noise; equal seeds give equal files."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    save(path, Image.fromarray(pixels))


def make_pets(root: Path, *splits: str, first_seed: int = 0) -> Path:
    """`root`/<split>/<class>/<number>.png for each class of SIZES; by default only "train"."""
    for split in splits or ("train",):
        seeds = count(first_seed + {"train": 0, "test": 500, "val": 900}[split])
        for name, size in SIZES.items():
            for index in range(size):
                draw(root / split / name / f"{index}.png", next(seeds))
    return root


def colour(seed: int, height: int = 24, width: int = 24) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def save(path: Path, picture: Image.Image, **how: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **how)


def fill(folder: Path, seed: int, pictures: int = EACH) -> None:
    for index in range(pictures):
        save(folder / f"{index:03d}.png", colour(seed + index))


def load(root: Path) -> tuple[DatasetInfo, Examples, Examples]:
    name, data_dir = f"folder:{root}", root.parent / "data"
    info, training = load_training(name, data_dir)
    return info, training, load_test(name, data_dir)


def jpeg() -> bytes:
    stream = io.BytesIO()
    colour(0).save(stream, "JPEG")
    return stream.getvalue()
