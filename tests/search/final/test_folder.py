"""`final` points to the first evaluation; what cannot be written is noticed before the test."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search.analysis.final_result import metrics
from search.final import folder
from search.final.folder import check_writable, lead_to_first, metrics_text, write_all
from search.training.epoch import BundleError
from tests.search.made_up_views import final_result


def write(runs: Path, number: int) -> None:
    folder = runs / f"final-{number}"
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(f'{{"evaluation": {number}}}')


def led_to(runs: Path) -> str:
    return (runs / "final" / "metrics.json").read_text()


def test_it_points_to_the_first_complete_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def as_on_windows(self: Path, target: Path) -> Path:
        assert not target.is_dir()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", as_on_windows)
    (tmp_path / "final-1").mkdir()  # killed before its metrics were written
    for number in (10, 2):
        write(tmp_path, number)
        lead_to_first(tmp_path)
        assert led_to(tmp_path) == f'{{"evaluation": {number}}}'
    write(tmp_path, 3)
    lead_to_first(tmp_path)
    assert (tmp_path / "final").readlink() == Path("final-2")
    write(tmp_path, 1)
    (tmp_path / f".final.{os.getpid()}").symlink_to("final-2")  # left by a killed process
    lead_to_first(tmp_path)
    assert (tmp_path / "final").readlink() == Path("final-1")
    assert len(list(tmp_path.iterdir())) == 5
    (tmp_path / "final").unlink()
    (tmp_path / "final").mkdir()  # as an earlier version did
    (tmp_path / "final" / "metrics.json").write_text("of before")
    lead_to_first(tmp_path)
    assert led_to(tmp_path) == "of before"


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)


@pytest.mark.usefixtures("no_links")
def test_without_links_it_is_a_copy(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, number)
        lead_to_first(tmp_path)
        assert not (tmp_path / "final").is_symlink()
        assert led_to(tmp_path) == '{"evaluation": 1}'
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.usefixtures("no_links")
def test_a_copy_has_the_onnx_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("final_page", "final_pictures", "write_bundle", "write_pictures"):
        monkeypatch.setattr(folder, name, lambda *_: "")
    monkeypatch.setattr(folder, "metrics", lambda _: {"evaluation": 1, "confusion": [[1]]})
    monkeypatch.setattr(folder, "export_onnx", lambda _, at, __: (at / "model.onnx").touch())
    write_all(tmp_path, SimpleNamespace(evaluation=1), None, torch.empty(0))
    assert (tmp_path / "final" / "model.onnx").exists()


def test_a_row_of_the_confusion_matrix_is_a_line() -> None:
    result = final_result()
    text = metrics_text(result)
    assert json.loads(text) == json.loads(json.dumps(metrics(result)))
    row = json.dumps(result.confusion_KK[0].tolist())
    assert f'\n  "confusion": [\n    {row},\n' in text


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError, match="cannot write"):
        check_writable(tmp_path / "file" / "below")
