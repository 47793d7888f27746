"""A final result with all that a network may show of itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from search.analysis.final_result import FeatureMaps, FinalResult, Mistake


def looked_into(final: FinalResult) -> FinalResult:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 28, 28), dtype=np.uint8)
    stages = {"conv1": rng.normal(size=(8, 14, 14)).astype(np.float32)}
    mistake = Mistake(image_CHW=image, true=0, predicted=4, probability=0.87)
    return replace(
        final,
        features=FeatureMaps(image_CHW=image, what="training image 1: <b>", stages=stages),
        mistakes=((mistake, mistake),),
    )
