"""A study on the user's own pictures: how they are read is fixed with it, kept, and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data.datasets import load_training
from data.folders.preparation import Preparation, Reading
from search.final.final import finalise
from search.final.predict import predict
from search.running.results import load_study
from search.running.study import run_study
from search.spec.config import StudySpec
from search.spec.domains import SpecError

pytestmark = pytest.mark.usefixtures("unseen")
SMALL: dict[str, Any] = {
    "epochs": 1,
    "seed": 0,
    "space": {"depth": 1, "width": 8, "hidden": [(8,)]},
}
COUNTS = {"train": (12, 12, 12), "val": (3, 2, 1), "test": (2, 2, 0)}
CLASSES = ("ant", "bee", "cow")


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 4096, (30, 45)).astype(np.uint16)
    levels[0, 0] = 4095
    Image.fromarray(levels).save(path)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12-bit grey pictures stored in 16 bits; there are no test pictures of cows."""
    monkeypatch.chdir(tmp_path)
    for split, counts in COUNTS.items():
        for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
            for index in range(count):
                draw(tmp_path / f"farm/{split}/{name}/{index}.png", 100 * label + index)
    (tmp_path / "farm/train/ant/Thumbs.db").write_bytes(b"\xd0\xcf")
    return tmp_path / "farm"


def test_from_the_first_trial_to_a_prediction(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    view = run_study(dataset=f"folder:{root}", trials=1, **SMALL)
    told = capfd.readouterr().err
    for words in (
        "pictures of 45x30 scaled to 28x28 grey, proportions kept",
        "levels 0 to 4095",
        "validation: the 6 pictures of val/",
        "warning: no test pictures of class 'cow'",
        "skipped, not pictures of a class: 1 (Thumbs.db)",
        "--mirror unsafe forbids it",
    ):
        assert words in told
        assert words in "\n".join(view.dataset.notes)
    assert (view.spec.image_size, view.spec.mirror_changes_class) == (28, False)
    assert view.dataset.own_validation
    assert view.dataset.validation_count == 6

    final = finalise("farm", seeds=1)
    assert final.metrics["training"]["images"] == 42  # including those for validation
    assert final.metrics["per_class"][2]["accuracy"] is None
    assert [one["images"] for one in final.metrics["per_class"]] == [2, 2, 0]
    page = (final.folder / "report.html").read_text()
    assert "no pictures" in page
    assert "proportions kept" in page
    assert final.bundle.preparation == Preparation(fit="pad", levels=(0, 4095))

    found = predict(root / "test/ant", bundle=final.folder)
    assert "levels 0 to 4095 made 0 to 255" in found.pictures[0].notes
    _, same = load_training(
        f"folder:{root}", tmp_path
    )  # drawn with the same seeds as the test pictures
    assert torch.equal(found.pictures[0].image_CHW, same.images_NCHW[0])


def test_a_study_keeps_its_image_size(root: Path) -> None:
    run_study(dataset=f"folder:{root}", trials=1, image_size=20, mirror_changes_class=True, **SMALL)
    spec = load_study("farm").spec
    assert spec.reading == Reading(image_size=20, mirror_changes_class=True)
    with pytest.raises(SpecError, match="made with image_size = 20, but got 24"):
        run_study(dataset=f"folder:{root}", trials=2, image_size=24, **SMALL)


def test_a_specification_without_reading_options_reads_as_before() -> None:
    stored = StudySpec(dataset="folder:/farm").to_dict()
    for name in ("reading_version", "mirror_changes_class"):
        del stored[name]
    assert StudySpec.from_dict(stored).reading == Reading(version=1)
    assert StudySpec(dataset="folder:/farm").reading == Reading(version=6)
