"""Small folders of generated pictures, no two of which are alike."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"cat": 12, "dog": 10, "eel": 10}


def draw(path: Path, seed: int) -> None:
    """A grey picture of noise; equal seeds give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make_pets(root: Path, *, split: str = "train", first_seed: int = 0) -> Path:
    """`root`/`split`/<class>/<number>.png for each class of SIZES."""
    seed = first_seed
    for name, count in SIZES.items():
        for index in range(count):
            draw(root / split / name / f"{index}.png", seed)
            seed += 1
    return root
