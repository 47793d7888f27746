"""The user's own Python file."""

import sys
from pathlib import Path

import pytest

from data.errors import DataError
from data.extensions import load_file, load_function, not_installed


def test_a_file_is_run_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("calls = []\n\ndef load():\n    calls.append(1)\n    return calls\n")
    loaded = load_file(path)
    assert load_function(f"{path}:load")() == [1]
    assert load_function(f"{path}:load") is loaded.module.load
    assert load_file(path) is loaded
    assert loaded.source == path.read_text()
    assert list(tmp_path.iterdir()) == [path]  # no __pycache__
    path.write_text("def load():\n    return 'new'\n")
    assert load_function(f"{path}:load")() == "new"
    assert load_file(path).sha256 != loaded.sha256


def test_imports_are_found_unless_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "our_blocks").mkdir()
    (tmp_path / "our_layers.py").touch()
    (tmp_path / "json").mkdir()
    path = tmp_path / "mine.py"
    path.write_text(
        "import __main__, json, numpy\nfrom data import errors\n"
        "def build():\n    import our_layers\n    from our_blocks.deep import block\n"
    )
    file = load_file(path)
    monkeypatch.syspath_prepend(tmp_path)
    assert not_installed(file) == [tmp_path / "our_blocks", tmp_path / "our_layers.py"]
    (tmp_path / "elsewhere").mkdir()
    elsewhere = (tmp_path / "our_layers.py").rename(tmp_path / "elsewhere" / "our_heads.py")
    monkeypatch.setattr("sys.path", sys.path.copy())  # the file adds to it
    path.write_text(f"import sys\nsys.path.insert(0, {str(elsewhere.parent)!r})\nimport our_heads")
    assert not_installed(load_file(path)) == [elsewhere]
    (tmp_path / "site-packages" / "our_lib").mkdir(parents=True)  # a cluster's, in PYTHONPATH
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    path.write_text("import array, math, our_lib, pytest, sys, torch, zipfile\n")
    monkeypatch.setattr("sys.executable", None)  # none of these takes another process
    assert not_installed(load_file(path)) == []
    monkeypatch.undo()
    path.write_text("import pytest\n")
    monkeypatch.chdir(Path(pytest.__file__).parents[1])
    assert not_installed(load_file(path)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nraise KeyError('a\\nb')\n", "mine.py, line 2: KeyError: 'a"),
        ("def load(:\n", "mine.py, line 1: SyntaxError: "),
        (
            "from data.errors import DataError\n\nraise DataError('no pictures')\n",
            "mine.py, line 3: DataError: no pictures; correct the file",
        ),
        ("raise SystemExit(3)\n", "mine.py, line 1: SystemExit: 3"),
        ("import no_such\n", "No module named 'no_such'; install it as a package, or put its code"),
        ("load = 3\n", "mine.py has no function 'load'; define it, or name another"),
        ("# \N{PILE OF POO}\n".encode("utf-16"), "cannot read the Python file"),
        (None, "mine.py (No such file or directory); check the path"),
    ],
)
def test_errors_in_a_file_are_reported_in_one_line(
    text: str | bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        load_function(f"{path}:load")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
