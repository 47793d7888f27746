"""The examples, as a reader runs them."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from models import FAMILIES
from search import worker
from search.running.results import load_study
from search.spec.space import check_space
from tests.search.spec.reading import read

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOK = EXAMPLES / "notebook.ipynb"
MYNET = """\
from torch import nn

def build(image_shape, classes, *, depth=3):
    layers = [nn.LazyLinear(16) for _ in range(depth)]
    return nn.Sequential(nn.Flatten(), *layers, nn.LazyLinear(classes))
"""


def html(cell: Any) -> str:
    """What the cell's last output shows."""
    page: str = cell.outputs[-1].data["text/html"]
    return page


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
@pytest.mark.timeout(900)
def test_the_notebook_runs_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first cell to its last."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # no further processes, which take seconds
    notebook = nbformat.read(NOTEBOOK, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)

    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    imported, run, shown, trials, epochs, figures, final, picture, export = code
    study = load_study("notebook", storage=f"sqlite:///{tmp_path / 'studies.db'}")
    assert study.finished == 6
    assert imported.outputs == figures.outputs == []
    # One output, however often it was updated, and it shows the end.
    (progress,) = [one for one in run.outputs if one.output_type != "stream"]
    assert "6/6 trials" in progress.data["text/html"]
    assert "done" in progress.data["text/html"]
    for page in (html(run), html(shown)):
        assert f"trial {study.best.number}</span>" in page
    assert f"{study.best.best.value:.4f}" in html(shown)
    assert html(trials).count("<tr") == 7
    assert f"{study.best.curve[0].validation_loss:.4f}" in html(epochs)
    assert f"accuracy {100 * study.results[0].figures['accuracy']:.2f} % ± " in html(final)
    assert study.results[0].figures["accuracy"] > 0.8
    assert "'label': '0'" in picture.outputs[-1].data["text/plain"]
    assert "trials.csv, epochs.csv, results.csv in tables" in export.outputs[-1].data["text/plain"]
    assert (tmp_path / "tables" / "epochs.csv").exists()
    assert (tmp_path / "curves.html").exists()


@pytest.fixture
def mynet(tmp_path: Path) -> Iterator[Path]:
    """The user's network, in a file that the README's study file names."""
    file = tmp_path / "mynet.py"
    file.write_text(MYNET)
    yield file
    FAMILIES.pop("mynet.py:build", None)


def test_the_readmes_study_files_can_be_used(mynet: Path) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    written = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    assert written
    for text in written:
        check_space(read(mynet.with_name("mine.toml"), text), (1, 28, 28), 10)


@pytest.fixture
def sbatch(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the script with stubs for Slurm and for the worker, which runs the given lines."""

    def start(worker: str, *words: str) -> subprocess.Popen[str]:
        for name, does in {"python": worker, "scontrol": 'echo "scontrol $*"\n'}.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{does}")
            (tmp_path / name).chmod(0o755)
        own = {"SEARCH_STORAGE_FILE": "url", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
        return subprocess.Popen(
            ["/bin/bash", str(EXAMPLES / "slurm.sh"), *words],
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **own},
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize(
    ("ends_with", "again", "code"),
    [
        ("exit 0", False, 0),
        ("exit 2", False, 2),
        ("exit 75", True, 0),
        ("kill -KILL $$", True, 0),
        (signal.SIGUSR1, True, 0),
        (signal.SIGTERM, False, 143),
    ],
)
def test_slurm_requeues_a_worker_until_the_study_is_finished_or_it_is_cancelled(
    sbatch: Any, tmp_path: Path, ends_with: str | signal.Signals, again: bool, code: int
) -> None:
    (tmp_path / "url").write_text("postgresql://me@h/x\n")
    is_told = isinstance(ends_with, signal.Signals)
    stub = "trap 'exit 143' TERM\ntouch begun\nfor _ in $(seq 600); do sleep 0.05; done\n"
    process = sbatch(stub if is_told else f'echo "$SEARCH_STORAGE $*"\n{ends_with}\n', "s")
    if is_told:
        deadline = time.monotonic() + 30
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(ends_with)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert said.count("scontrol requeue 7_3") == again
    if not is_told:
        assert "postgresql://me@h/x -m search.worker --study s --threads 1 --max-sec" in said


@pytest.mark.parametrize(("words", "has_url"), [(("s",), False), ((), True), (("",), True)])
def test_slurm_starts_no_worker_without_a_study_or_its_database(
    sbatch: Any, tmp_path: Path, words: tuple[str, ...], has_url: bool
) -> None:
    if has_url:
        (tmp_path / "url").write_text("postgresql://me@h/x\n")
    process = sbatch("echo started\n", *words)
    assert process.communicate(timeout=30) == ("", None)
    assert process.returncode not in (0, 75)


def test_kubernetes_starts_a_worker_with_options_that_exist() -> None:
    lines = (EXAMPLES / "kubernetes.yaml").read_text().splitlines()
    (command,) = (line for line in lines if line.strip().startswith("command:"))
    words = [word.strip(' "') for word in command.split("[")[1].rstrip("]").split(",")]
    assert words[:3] == ["python", "-m", "search.worker"]
    given = worker.parser().parse_args(words[3:])
    assert (given.study, given.checkpoints) == ("NAME", "s3://BUCKET/FOLDER")
