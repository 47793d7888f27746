"""The command `cnn-search`, and what --help says: the default of each option of each command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import search
from data.extensions import is_reference, kept_registries
from models import FAMILIES, family_from_function
from search import cli
from search.spec.recipe import RECIPE
from search.spec.study_file import KEYS, LISTS, find_study_file, read_study_file
from search.terminal.commands import Parser

ROOT = Path(__file__).parents[2]
OURS = [name for name, (module, _) in cli.COMMANDS.items() if module.startswith("search.")]
DEFAULT = read_study_file(find_study_file("default"))
Call = Callable[..., tuple[object, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command with these arguments; returns its exit code and what it printed."""

    def run(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/cnn-search", *words])
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_passes_on_what_each_command_takes() -> None:
    given = ["DATA_DIR=/x", "DEVICE=cpu", "EPOCHS=3", "SEEDS=2"]
    words = ["make", "-n", "finalize", "report", *given]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    finalize, report = re.findall(r"-m search\.(.*)", shown)
    assert " ".join(finalize.split()) == (
        "finalize --seeds '2' --epochs '3' --device 'cpu' --data-dir '/x'"
    )
    assert report.strip() == "report"


def test_help(call: Call) -> None:
    assert call("--version") == (0, f"cnn-search {search.__version__}\n", "")
    assert call() == (2, "", cli.HELP)
    assert call("help") == call("--help") == (0, cli.HELP, "")
    assert all(f"\n  {name} " in cli.HELP for name in cli.COMMANDS)
    assert max(map(len, cli.HELP.splitlines())) <= 80


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("studdy", "unknown command 'studdy'; did you mean 'study'?"),
        ("finalise", "did you mean 'finalize'?"),
        ("xyz", "unknown command 'xyz' (--help"),
        ("--trials", "cnn-search study --trials"),
        ("--storage=postgresql://me:secret@host/db", "cnn-search study --storage ..."),
    ],
)
def test_unknown_commands_are_refused(word: str, says: str, call: Call) -> None:
    code, out, err = call(word)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert "secret" not in err


EDITABLE = """
import sys
from importlib.machinery import PathFinder

class Finder:  # like an editable install's: asked after the folders on the path
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{root!r}]) if path is None else None

sys.meta_path.append(Finder)
sys.path.insert(0, {folder!r})
import search, data.errors, models
print(data.errors.__file__, models.__file__)
"""


def test_plain_folders_named_data_or_models_are_not_in_the_way(tmp_path: Path) -> None:
    for name in ("data", "models"):
        (tmp_path / name / "train" / "cat").mkdir(parents=True)
    program = EDITABLE.format(root=str(ROOT), folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ROOT / 'data/errors.py'} {ROOT / 'models/__init__.py'}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_names_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"cnn-search {name}"])
    with pytest.raises(SystemExit) as caught:
        import_module(cli.COMMANDS[name][0]).main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: cnn-search {name}")
    assert "python -m" not in text


def parser(command: str) -> Parser:
    # Not `from search import predict`, which is the function of that name.
    made = import_module(cli.COMMANDS[command][0]).parser()
    assert isinstance(made, Parser)
    return made


def options(command: str) -> dict[str, str]:
    """The help of each option, on one line, by its name."""
    text = parser(command).format_help().split("examples:")[0]
    found = {}
    for block in re.split(r"\n  (?=-)", text)[1:]:
        head, *rest = re.split(r"  +|\n", block.strip(), maxsplit=1)
        name = re.findall(r"--([a-z-]+)", head)[-1]
        found[name.replace("-", "_")] = " ".join(" ".join(rest).split())
    del found["help"]
    return found


@pytest.mark.parametrize("command", OURS)
def test_every_option_is_described_with_its_default(command: str) -> None:
    for name, text in options(command).items():
        assert len(text.split()) >= 2, name
        default = parser(command).get_default(name)
        if default is None or default is False:
            continue
        for value in map(str, default if isinstance(default, list) else [default]):
            assert value in text or os.environ.get("SEARCH_STORAGE") == value, (name, text, value)


def test_study_help_describes_every_key_of_a_study_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(title: str) -> dict[str, str]:
        text = parser("study").format_help().split(f"\n{title}:\n")[1].split("\n\n")[0]
        return {
            key: " ".join(said.split())
            for key, said in re.findall(r"^  (\S+) +(.*(?:\n   .*)*)", text, re.MULTILINE)
        }

    assert entries("[study] in a study file").keys() == {*KEYS, *LISTS}
    assert entries("[study] in a study file")["trials"].endswith("or pruned (default: 50)")
    training = entries("[space] in a study file, any network")
    assert training.keys() == RECIPE.keys()
    assert "decoupled: beside the gradient" in training["weight_decay_kind"]
    assert training["optimizer"].endswith("(adam, sgd; default: adam)")
    ours = {name: it for name, it in FAMILIES.items() if not is_reference(name)}  # or other tests'
    for name, family in ours.items():
        assert entries(f"[space] in a study file, {name}").keys() == family.parameters.keys()
    assert "relu, leaky_relu, " in entries("[space] in a study file, cnn")["activation"]

    def build(image_shape: object, classes: int, *, layers: int = 7, width: int) -> None: ...

    monkeypatch.setitem(FAMILIES, "own", family_from_function("own", build))  # type: ignore[arg-type]
    assert entries("[space] in a study file, own") == {
        "layers": "argument layers (default: 7)",
        "width": "argument width (required)",
    }


def test_study_help_lists_what_a_study_file_brings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def help_with(file: str) -> str:
        with pytest.raises(SystemExit, match="0"), kept_registries():
            import_module("search.study").main(["--config", str(tmp_path / file), "--help"])
        return capsys.readouterr().out

    head = "from search.spec.schedules import SCHEDULES, Schedule\n"
    entry = 'SCHEDULES["{}"] = Schedule(description="{}", factor=float)\n'
    net = 'def build(image_shape, classes, *, blocks=7):\n    """Mine alone."""\n'
    (tmp_path / "rise.py").write_text(head + entry.format("rise", "from 0 to the peak"))
    (tmp_path / "mydata.py").write_text(head + entry.format("fall", "as a stone"))
    (tmp_path / "mynet.py").write_text(net)
    text = '[study]\nextensions = ["rise.py"]\ndataset = "mydata.py:load"\n'
    (tmp_path / "mine.toml").write_text(f'{text}[space]\nfamily = "mynet.py:build"\n')
    out = help_with("mine.toml")
    for said in ("rise +from 0 to the peak", "fall +as a stone", "mynet.py:build +Mine alone"):
        assert re.search(f"^  {said}", out, re.MULTILINE), said
    assert "blocks  argument blocks (default: 7)" in out
    for broken in ("nosuch.toml", "mynet.py"):
        assert "Mine alone" not in help_with(broken)


@pytest.mark.parametrize("name", ["trials", "epochs", "seed"])
def test_study_help_names_the_default_files_values(name: str) -> None:
    """The flag itself has no default: if it is left out, the file decides."""
    assert parser("study").get_default(name) is None
    expected = DEFAULT.get(name, 0)
    said = f"(default: the study file's; {expected} in the default one)"
    assert said in options("study")[name]
