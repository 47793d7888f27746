"""The package as pip installs it, used from folders in which our module names are taken."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


class Installed:
    """An environment with this package installed, and a folder to run commands in."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder = home, folder
        self.site = next((home / "env" / "lib").glob("python*/site-packages"))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the folder."""
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SEARCH_DATA_DIR")}
        return subprocess.run(
            [str(self.home / "env" / "bin" / words[0]), *words[1:]],
            cwd=self.folder,
            env={**kept, "CI": "true", "HOME": str(self.home), "XDG_DATA_HOME": ""},
            capture_output=True,
            text=True,
            timeout=150,
        )

    def files(self) -> set[Path]:
        """What is in the installed packages."""
        return {
            path
            for name in ("data", "models", "search")
            for path in (self.site / name).rglob("*")
            if path.suffix != ".pyc" and path.name != "__pycache__"
        }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `env`, in which our wheel is installed; all else is this environment's. One for
    all of pytest's processes."""
    shared = tmp_path_factory.getbasetemp()
    made = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "home"
    with FileLock(made.with_suffix(".lock")):
        if not made.exists():
            install(made)
    return made


def install(made: Path) -> None:
    source, env = made / "source", made / "env"
    skip = shutil.ignore_patterns("raw", "__pycache__")
    for name in ("data", "models", "search"):
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    site = next((env / "lib").glob("python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(env / "bin" / "python"), "install"]
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    done = subprocess.run([*pip, *offline, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)


@pytest.fixture
def installed(home: Path, tmp_path: Path) -> Iterator[Installed]:
    """In a folder of a project that has a `data.py` and a package `models`."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise SystemExit('not ours')\n")
    (tmp_path / "data.py").write_text("raise SystemExit('not ours')\n")
    made = Installed(home, tmp_path)
    before = made.files()
    yield made
    assert made.files() == before  # nothing is stored inside an installed package


def test_ray_clients_work_with_the_extra_on_any_python(home: Path) -> None:
    [told] = home.glob("env/lib/python*/site-packages/cnn_search-*/METADATA")
    found = re.findall(r"^Requires-Dist: ray\[(.*)\]>=\S+; (.*)$", told.read_text(), re.MULTILINE)
    assert found == [("client", 'extra == "ray"'), ("client,tune", 'extra == "bench"')]


def test_the_command_works_where_names_are_taken(installed: Installed) -> None:
    small = ("--dataset", "digits", "--trials", "2", "--epochs", "1", "--limit", "100")
    study = installed.run("cnn-search", "study", *small, "--workers", "1", "--device", "cpu")
    assert study.returncode == 0, study.stderr
    assert "2 of 2 trials" in study.stdout
    assert "cnn-search finalize --study digits" in study.stdout
    assert "python -m" not in study.stdout + study.stderr
    bad = installed.run("cnn-search", "predict", "x.png")
    assert bad.returncode == 2
    assert bad.stderr.splitlines()[-1].startswith("error: ")
    assert "run cnn-search finalize first" in bad.stderr


def test_python_m_where_names_are_taken_and_a_foreign_data_module(installed: Installed) -> None:
    done = installed.run("python", "-m", "search.study", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    (installed.folder / "data.py").write_text("")
    done = installed.run("python", "-c", "import data, search")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {installed.folder / 'data.py'} shadows")
