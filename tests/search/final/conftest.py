"""Images that are learned in a moment, and studies that are finalised in a moment."""

from pathlib import Path

import numpy as np
import pytest

from search.spec.config import StudySpec
from tests.search.blobs import blobs
from tests.search.conftest import copy_untested


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    file = tmp_path_factory.mktemp("images") / "blobs.npz"
    parts = {"train": blobs(1440, 0), "test": blobs(100, 1)}
    arrays = {f"x_{name}": part.images_NCHW[:, 0].numpy() for name, part in parts.items()}
    arrays |= {f"y_{name}": part.labels_N.numpy() for name, part in parts.items()}
    np.savez(file, **arrays)
    return StudySpec(dataset=f"npz:{file}", seed=3)


@pytest.fixture
def untested(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder in which nothing was finalised, as the current directory."""
    copy = copy_untested(searched, tmp_path / "copy")
    monkeypatch.chdir(copy)
    return copy
