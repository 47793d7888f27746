"""The examples, as a reader runs them."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from search.running.results import load_study

NOTEBOOK = Path(__file__).parent.parent / "examples" / "notebook.ipynb"


def html(cell: Any) -> str:
    """What the last of its outputs shows."""
    page: str = cell.outputs[-1].data["text/html"]
    return page


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
def test_the_notebook_runs_in_a_kernel(tmp_path: Path) -> None:
    """From its first cell to its last."""
    notebook = nbformat.read(NOTEBOOK, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)

    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    imported, run, shown, trials, epochs, figures, final, picture, export = code
    study = load_study("notebook", storage=f"sqlite:///{tmp_path / 'studies.db'}")
    assert study.finished == 6
    assert imported.outputs == figures.outputs == []
    # One output, however often it changed, and the last is of the end.
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
    assert "trials.csv (6 rows)" in export.outputs[-1].data["text/plain"]
    assert (tmp_path / "tables" / "epochs.csv").exists()
    assert (tmp_path / "curves.html").exists()
