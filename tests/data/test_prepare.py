from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.prepare import main


def test_it_says_what_is_in_a_data_set(small_fashion: Any, capsys: Any) -> None:
    small_fashion.put()
    assert main(["fashion_mnist", "--data-dir", str(small_fashion.data_dir)]) == 0
    shown = capsys.readouterr()
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0] == ["Fashion-MNIST", "(fashion_mnist)"]
    assert lines[1] == ["images", "28x28", "grey"]
    assert lines[2][:2] == ["training", "30,"]
    assert lines[3] == ["test", "20"]
    assert "Ankle boot" in shown.out
    assert shown.err == ""


def test_bad_input_ends_in_one_line_and_exit_code_2(tmp_path: Path, capsys: Any) -> None:
    assert main(["imagenet", "--data-dir", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "unknown data set 'imagenet'" in shown.err


def test_a_damaged_test_file_is_found(small_fashion: Any, capsys: Any) -> None:
    small_fashion.put()
    (small_fashion.raw / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    assert main(["fashion_mnist", "--data-dir", str(small_fashion.data_dir)]) == 2
    assert "t10k-labels-idx1-ubyte.gz" in capsys.readouterr().err


def test_the_environment_names_the_data_directory(
    small_fashion: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    small_fashion.put()
    monkeypatch.setenv("SEARCH_DATA_DIR", str(small_fashion.data_dir))
    assert main(["fashion_mnist"]) == 0
    assert " 30, " in capsys.readouterr().out


def test_a_call_without_a_name_is_bad_usage(capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "DATASET" in capsys.readouterr().err


def test_it_says_what_was_done_to_a_folder(tmp_path: Path, capsys: Any) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        for name in ("a\u200fnt", "bee"):
            for index in range(count):
                path = tmp_path / f"{split}/{name}/{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (30, 40), index).save(path)
    (tmp_path / "train/bee/notes.txt").write_text("x")
    assert main([f"folder:{tmp_path}", "--data-dir", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert "12, of which 4 of their own serve for validation\n" in out
    assert "a\\u200fnt, bee" in out
    assert "pictures of 30x40 scaled to 28x28 grey" in out
    assert "skipped 1 file that is no picture (notes.txt)" in out
