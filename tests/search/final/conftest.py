"""Images that are learned in a moment."""

import numpy as np
import pytest

from search.spec.config import StudySpec
from tests.search.blobs import blobs


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    file = tmp_path_factory.mktemp("images") / "blobs.npz"
    parts = {"train": blobs(1440, 0), "test": blobs(100, 1)}
    arrays = {f"x_{name}": part.images_NCHW[:, 0].numpy() for name, part in parts.items()}
    arrays |= {f"y_{name}": part.labels_N.numpy() for name, part in parts.items()}
    np.savez(file, **arrays)
    return StudySpec(dataset=f"npz:{file}", seed=3)
