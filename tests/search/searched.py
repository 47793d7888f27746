"""A small study that was run from Python."""

from pathlib import Path

import pytest

from search.running.study import run_study


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of three trials on digits, named digits."""
    folder = tmp_path_factory.mktemp("running")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_study(dataset="digits", trials=3, epochs=2, seed=0, progress=False)
    return folder


@pytest.fixture
def place(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as the present folder."""
    monkeypatch.chdir(searched)
    return searched
