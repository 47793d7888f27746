from __future__ import annotations

from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from search.figures.files import drawn, write_pictures
from search.figures.final import (
    MOST_HOVERS,
    MOST_LABELS,
    MOST_NUMBERS,
    confusion_matrix,
    final_pictures,
    training_curves,
    trial_pictures,
)
from tests.search.made_up_views import final_result, looked_into, study_view, trial_view


def test_training_curves_show_the_trial_and_every_run() -> None:
    data = training_curves(final_result(accuracies=(0.93, 0.94, 0.95))).data
    loss = [trace for trace in data if trace.xaxis == "x"]
    error = [trace for trace in data if trace.xaxis == "x2"]
    names = ["trial #1: training", "trial #1: validation", "best epoch: 2"]
    assert [trace.name for trace in loss] == [*names, *["final runs: training"] * 3]
    assert loss[1].y == (0.4, 0.25, 0.26)
    assert error[1].y == pytest.approx((100 * 0.4 / 3, 100 * 0.25 / 3, 100 * 0.26 / 3), rel=1e-3)
    assert (loss[2].x, loss[2].y, error[2].y) == ((2,), (0.25,), (8.333,))
    # The runs' validation values are on images they were trained on; here they would stick out.
    assert "99" not in [str(y) for trace in data for y in trace.y]


def test_confusion_matrix_has_counts_colours_and_words() -> None:
    heatmap = confusion_matrix(np.array([[90, 10], [0, 100]]), ["a<b>", "c"], "subtitle").data[0]
    assert [list(row) for row in heatmap.text] == [["90", "10"], ["", "100"]]
    assert np.array(heatmap.z) == pytest.approx(np.sqrt([[0.9, 0.1], [0, 1]]), abs=1e-3)
    assert heatmap.hovertext[0][1] == "a&lt;b&gt; taken for c: 10"
    for n, template in ((MOST_NUMBERS, "%{text}"), (MOST_NUMBERS + 1, None)):
        made = confusion_matrix(np.eye(n, dtype=int), list(map(str, range(n))), "").data[0]
        assert made.texttemplate == template
        assert made.xgap == made.ygap == int(template is not None)
    empty = confusion_matrix(np.array([[0, 0], [1, 3]]), ["a", "b"], "").data[0]
    assert np.array(empty.z) == pytest.approx(np.sqrt([[0, 0], [0.25, 0.75]]), abs=1e-3)


def test_hundreds_of_classes_need_few_texts() -> None:
    many = 300
    names = [f"{n:060}" for n in range(many)]
    confusion_KK = np.diag(np.arange(many))
    confusion_KK[:, 1] += 1
    made = confusion_matrix(confusion_KK, names, "")
    assert len(made.to_json()) < 15 * many**2
    texts = np.array(made.data[0].hovertext)
    assert texts[2, 1:4].tolist() == [
        f"{names[2]} taken for {names[1]}: 1",
        f"{names[2]} taken for {names[2]}: 2",
        "",
    ]
    full = confusion_matrix(np.arange(many**2).reshape(many, many), names, "")
    assert 0.9 * MOST_HOVERS < np.count_nonzero(full.data[0].hovertext) <= MOST_HOVERS
    assert confusion_matrix(confusion_KK, names, "", hovers=False).data[0].hovertext is None


def test_classes_whose_long_names_begin_alike_are_told_apart() -> None:
    names = [f"White-crowned sparrow, {age}" for age in ("adult", "juvenile")]
    figure = confusion_matrix(np.array([[9, 1], [4, 6]]), names, "subtitle")
    labels = ("White-crowne…rrow, adult", "White-crowne…w, juvenile")
    assert figure.layout.xaxis.ticktext == figure.layout.yaxis.ticktext == labels
    assert figure.data[0].hovertext[0][1] == f"{names[0]} taken for {names[1]}: 1"


@pytest.mark.parametrize(("count", "step"), [(MOST_LABELS, 1), (100, 2), (101, 3)])
def test_of_many_classes_as_many_are_named_as_have_room(count: int, step: int) -> None:
    names = [f"class {n}" for n in range(count)]
    figure = confusion_matrix(np.eye(count, dtype=int), names, "subtitle")
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert axis.tickvals == tuple(range(0, count, step))
        assert axis.ticktext == tuple(names[::step])
    assert figure.data[0].hovertext[1][1] == "class 1 taken for class 1: 1"
    assert [label.get_text() for label in drawn(figure).axes[0].get_xticklabels()] == names[::step]


def test_every_picture_is_saved_as_png_and_svg_whatever_classes_are_called(tmp_path: Path) -> None:
    final = looked_into(final_result())
    files = write_pictures(final_pictures(final), tmp_path)
    made = {"confusion", "curves", "kernels", "features", "mistakes"}
    assert {file.name for file in files} == {f"{n}.{k}" for n in made for k in ("png", "svg")}
    said = {
        name: "".join(ElementTree.parse(tmp_path / f"{name}.svg").getroot().itertext())
        for name in made
    }
    assert "500 test images × 2 runs" in said["confusion"]
    assert "conv1: 8 maps of 14×14" in said["features"]
    assert "→ Coat" in said["mistakes"]
    again = {
        name: it for name, it in final_pictures(final).items() if name in ("curves", "kernels")
    }
    for file in write_pictures(again, tmp_path / "again"):  # the same to the byte
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()
    names = ("$\\frac$", "</svg><script>x", "靴 👟", "a\x00\x1bb", "x" * 999)
    view = study_view([trial_view(0, [0.4])], data_title="".join(names), class_names=names)
    pictures = final_pictures(final_result(view=view, kernels=None))
    files = write_pictures(pictures, tmp_path / "other")
    assert {file.stem for file in files} == {"confusion", "curves"}
    root = ElementTree.parse(tmp_path / "other" / "confusion.svg").getroot()
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    texts = "".join(root.itertext())
    assert "$\\frac$" in texts
    assert "靴" in texts
    for file in (tmp_path / "other").glob("*.png"):
        with Image.open(file) as image:
            assert max(image.size) < 5000


def test_pictures_of_a_trial(hostile_names: tuple[str, ...]) -> None:
    names = tuple(name or "x" for name in hostile_names)
    trial, view = trial_view(3, [0.5, 0.4, 0.45], early=1.5), study_view(class_names=names)
    pictures = trial_pictures(view, trial, np.eye(len(names), dtype=int))
    assert list(pictures) == ["learning curves.png", "confusion matrix.png"]
    for content in pictures.values():
        with Image.open(BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200
        assert len(content) < 100_000
