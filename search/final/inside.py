"""What the network makes of one image."""

from __future__ import annotations

from typing import Any

from search.analysis.final_result import FeatureMaps
from search.analysis.wording import printable
from search.training.bundle import Bundle
from search.training.task import Task, stage_maps


def look_inside(bundle: Bundle, task: Task) -> dict[str, Any]:
    """`kernels` and `features` of `FinalResult`, what the network has of them.

    The features are those of the first training image of class 0.
    """
    index = int((task.training.labels_N == 0).nonzero()[0])
    image_CHW = task.training.images_NCHW[index].cpu()
    what = f"training image {index}: {printable(task.info.class_names[0])}"
    stages = stage_maps(bundle.network(), image_CHW, bundle.mean_C, bundle.std_C)
    if not stages:
        return {"kernels": None}
    features = FeatureMaps(image_CHW=image_CHW.numpy(), what=what, stages=stages)
    weight = bundle.weights.get(f"{next(iter(stages))}.weight")
    # A person's own network may begin with a block, which has none.
    return {"kernels": None if weight is None else weight.float().numpy(), "features": features}
