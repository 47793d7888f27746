from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from search.figures.trial import trial_pictures

Make = Callable[..., Any]


def test_pictures_of_a_trial(make_trial: Make, hostile_names: tuple[str, ...]) -> None:
    trial = make_trial(3, [0.5, 0.4, 0.45], early=1.5)
    names = [name or "x" for name in hostile_names]
    pictures = trial_pictures(3, trial.reports, "data", names, np.eye(len(names), dtype=int))
    assert list(pictures) == ["learning curves.png", "confusion matrix.png"]
    for content in pictures.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200
        assert len(content) < 100_000
    curves = trial_pictures(3, trial.reports[:1], "data", names)  # pruned at rung 0
    assert list(curves) == ["learning curves.png"]
    assert trial_pictures(3, (), "data", names) == {}
