"""python -m data.prepare"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.datasets import DATASETS, FORMS
from data.prepare import main
from tests.data.pets import fill


def test_it_describes_a_data_set(
    small_fashion: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    small_fashion.put()
    monkeypatch.setenv("SEARCH_DATA_DIR", str(small_fashion.data_dir))
    assert main(["fashion_mnist"]) == 0
    out = capsys.readouterr().out
    assert "Fashion-MNIST (fashion_mnist)\nimages      28x28 grey\n" in out
    assert "\ntest             20\n" in out
    (small_fashion.raw / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    assert main(["fashion_mnist"]) == 2
    assert "t10k-labels-idx1-ubyte.gz" in capsys.readouterr().err


def test_it_describes_how_a_folder_was_read(tmp_path: Path, capsys: Any) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        for name in ("a\u200fnt", "bee"):
            fill(tmp_path / split / name, 0, count)
    (tmp_path / "train/bee/notes.txt").write_text("x")
    assert main([f"folder:{tmp_path}", "--data-dir", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert "12, 4 for validation (its own validation set)\n" in out
    assert "a\\u200fnt, bee" in out
    assert "skipped, not pictures of a class: 1 (notes.txt)" in out


def test_any_class_name_can_be_printed(tmp_path: Path) -> None:
    """In whatever encoding the output is."""
    for name in ("ant", "żaba"):
        fill(tmp_path / "pets" / name, 0, 5)
    command = ["-m", "data.prepare", f"folder:{tmp_path / 'pets'}", "--data-dir", str(tmp_path)]
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, *command], env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"2: ant, ?aba" in done.stdout


def test_bad_input_ends_in_one_line_and_help_names_every_data_set(
    tmp_path: Path, capsys: Any
) -> None:
    assert main(["imagenet", "--data-dir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "unknown data set 'imagenet'" in err
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(name in out and DATASETS[name].description in out for name in DATASETS)
    assert all(form in out for form in FORMS)
