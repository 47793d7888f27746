from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from search.analysis.final_result import FinalResult, metrics
from search.analysis.inside import FeatureMaps, KernelReport, Mistake
from search.figures.final_pictures import save_pictures
from search.pages.final_page import final_page, final_text
from search.store.views import StudyView
from search.training.task import StageMaps

MakeFinal = Callable[..., FinalResult]
NAMES = ("confusion", "curves", "kernels")


def test_every_picture_is_there_as_png_and_svg(make_final: MakeFinal, tmp_path: Path) -> None:
    files = save_pictures(make_final(), tmp_path)
    assert {file.name for file in files} == {
        f"{n}.{kind}" for n in NAMES for kind in ("png", "svg")
    }
    assert set(tmp_path.iterdir()) == set(files)
    for file in files:
        if file.suffix == ".png":
            with Image.open(file) as image:
                assert min(image.size) > 300
                assert len(set(image.convert("L").tobytes())) > 20  # something is drawn
        else:
            assert ElementTree.parse(file).getroot().tag.endswith("svg")


def test_the_same_result_gives_the_same_files(make_final: MakeFinal, tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        contents.append([file.read_bytes() for file in save_pictures(make_final(), folder)])
    assert contents[0] == contents[1]


def test_the_matrix_shows_its_counts(make_final: MakeFinal, tmp_path: Path) -> None:
    confusion = np.diag([177, 200, 200, 200, 200])
    confusion[0, 4] = 23
    save_pictures(make_final(confusion=confusion), tmp_path)
    texts = "".join(ElementTree.parse(tmp_path / "confusion.svg").getroot().itertext())
    assert "177" in texts
    assert "23" in texts
    assert "500 test images × 2 runs" in texts


def test_without_convolutions_there_are_no_kernels(make_final: MakeFinal, tmp_path: Path) -> None:
    files = save_pictures(make_final(kernels=None), tmp_path)
    assert {file.stem for file in files} == {"confusion", "curves"}


def looked_into(final: FinalResult) -> FinalResult:
    """With all that a network may show of itself."""
    rng = np.random.default_rng(0)
    report = KernelReport(dead=(1,), uniform=(2,), twins=((5, 3, -0.97),), images=1000)
    image = rng.integers(0, 256, (1, 28, 28), dtype=np.uint8)
    stage = StageMaps(name="conv1", maps_CHW=rng.normal(size=(8, 14, 14)).astype(np.float32))
    mistake = Mistake(image_CHW=image, true=0, predicted=4, probability=0.87)
    return replace(
        final,
        kernel_report=report,
        features=FeatureMaps(image_CHW=image, what="training image 1: <b>", stages=(stage,)),
        mistakes=((mistake, mistake),),
    )


def test_what_is_inside_is_drawn_with_its_rules(make_final: MakeFinal, tmp_path: Path) -> None:
    files = save_pictures(looked_into(make_final()), tmp_path)
    assert {file.stem for file in files} == {*NAMES, "features", "mistakes"}
    said = {
        name: "".join(ElementTree.parse(tmp_path / f"{name}.svg").getroot().itertext())
        for name in ("kernels", "features", "mistakes")
    }
    for mark in ("1 dead", "2 uniform", "5 ≈ −3", "1000 training images"):
        assert mark in said["kernels"]
    assert "training image 1: <b>" in said["features"]
    assert "conv1: 8 maps of 14×14" in said["features"]
    assert "→ Coat" in said["mistakes"]
    assert "87 %" in said["mistakes"]


def test_the_page_shows_the_same(make_final: MakeFinal) -> None:
    page = final_page(looked_into(make_final()))
    assert page.count("<figure><img") == 2
    for said in ("5 of 3 (-0.97)", "Near-uniform: the norm", "surest mistakes"):
        assert said in page
    assert "5 \\u2248 \\u22123" in page  # the mark in plotly's figure
    plain = final_page(make_final())
    assert "<figure><img" not in plain


def test_another_trial_than_the_best_is_said(make_final: MakeFinal) -> None:
    why = "Trial 1 was named by hand, <not> the study's best."
    final = replace(make_final(), why=why)
    assert why in re.sub(r"\s+", " ", final_text(final))
    page = final_page(final)
    assert "Trial 1 was named by hand, &lt;not&gt; the study" in page
    assert "--trial 1" in page
    assert metrics(final)["chosen"] == why
    assert metrics(make_final())["chosen"] == "the study's best"


def test_any_class_name_can_be_drawn(
    make_final: MakeFinal,
    make_view: Callable[..., StudyView],
    make_trial: Callable[..., Any],
    tmp_path: Path,
) -> None:
    names = ("$\\frac$", "</svg><script>x", "靴 👟", "a\x00\x1bb", "x" * 999)
    view = make_view([make_trial(0, [0.4])], data_title="".join(names), class_names=names)
    save_pictures(make_final(view=view), tmp_path)
    root = ElementTree.parse(tmp_path / "confusion.svg").getroot()
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    texts = "".join(root.itertext())
    assert "$\\frac$" in texts
    assert "靴" in texts
    for file in tmp_path.glob("*.png"):
        with Image.open(file) as image:
            assert max(image.size) < 2000
