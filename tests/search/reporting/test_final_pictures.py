from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from search.reporting.final_pictures import save_pictures
from search.reporting.final_result import FinalResult
from search.trials.view import StudyView

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
