"""Databases, folders and studies vanish under real runs: each ends with one line, exit code 2.

A few times in CI; often with `pytest -m faults --all-faults`.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

import optuna
import psutil
import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy import exc, text

from search import study
from search.store.opening import open_database
from search.store.studies import StudyHandle
from tests.search.conftest import SAME, Call, children_of

pytestmark = pytest.mark.faults
Times = Callable[[int, int], int]
MANY = 500  # trials: more than there is time for


def begun(site: Any, workers: int) -> tuple["subprocess.Popen[str]", list[psutil.Process]]:
    """A study with some reports, and its workers."""
    process = site.search(MANY, "--workers", str(workers), pruner="none")
    site.wait_for_reports(3)
    return process, children_of(process)


def errors_in(out: str) -> list[str]:
    """The error lines, after checking that nothing else says more."""
    assert "Traceback" not in out
    assert "nothing is lost" not in out
    assert "cannot" not in out.split("error: ")[0]
    return [line for line in out.splitlines() if "error: " in line]


def errors_of(
    site: Any, process: "subprocess.Popen[str]", children: list[psutil.Process]
) -> list[str]:
    """The error lines, after checking that the command and its workers have ended."""
    out, _ = site.output_of(process, 2, seconds=90)
    assert not any(child.is_running() for child in children)
    return errors_in(out)


@pytest.fixture
def errors_after(call: Call) -> Callable[..., list[str]]:
    """Begins a study in a site, calls `vanish` under it, and returns its error lines. The command
    is this process; several workers are processes of their own."""

    def train(site: Any, vanish: Callable[[], object], workers: int = 1) -> list[str]:
        before = psutil.Process().children()
        site.write_config(MANY, "none")
        with site.once(3, vanish):
            out, err = call(site, study.main, *SAME, "--workers", str(workers), code=2)
        assert set(psutil.Process().children()) <= set(before)
        return errors_in(out + err)

    return train


@pytest.mark.parametrize(("workers", "replaced"), [(1, True), (2, False)])
def test_the_database_file_removed_or_replaced(
    make_site: Callable[..., Any],
    errors_after: Callable[..., list[str]],
    workers: int,
    replaced: bool,
) -> None:
    site = make_site()
    database = site.folder / "studies.db"

    def vanish() -> None:
        if replaced:
            shutil.copy(database, site.folder / "other.db")
            (site.folder / "other.db").replace(database)
        else:
            database.unlink()

    (line,) = errors_after(site, vanish, workers)
    assert line == (
        f"error: sqlite:///{database}: the file was removed or replaced while this ran, and "
        "nothing more can be stored; put it back, or run the command again to start from scratch"
    )
    assert database.exists() == replaced


@pytest.mark.parametrize(("workers", "renamed"), [(1, True), (2, False)])
def test_the_runs_folder_removed_or_renamed(
    make_site: Callable[..., Any],
    errors_after: Callable[..., list[str]],
    times: Times,
    workers: int,
    renamed: bool,
) -> None:
    if not times(workers == 1, True):
        pytest.skip("only with --all-faults")
    site = make_site()

    def vanish() -> None:
        while len({row.worker for trial in site.view().trials for row in trial.curve}) < workers:
            time.sleep(0.1)  # one that began now would create the folder again
        if renamed:
            (site.folder / "runs").rename(site.folder / "moved")
            return
        while (site.folder / "runs" / "s" / "study.json").exists():  # workers still write there
            shutil.rmtree(site.folder / "runs", ignore_errors=True)

    (line,) = errors_after(site, vanish, workers)
    assert "runs/s was removed or renamed while the study ran" in line
    assert "run the same command again to resume" in line
    assert not site.view().in_state("running")  # nobody waits for this process to end
    total = len(site.view().trials) + 1
    site.finish(total, "none")
    assert site.view().finished == total


def delete(url: str, *, rename: bool = False) -> None:
    """As optuna-dashboard does: it renames by copying."""
    with closing(open_database(url)) as db:
        db.leaving.set()
        stored = optuna.load_study(study_name="s", storage=db.optuna)
        with StudyHandle.of(db, stored).transaction() as connection:
            if db.engine.dialect.name == "postgresql":
                # Optuna gives up silently if something is written to the study meanwhile.
                connection.execute(text("LOCK TABLE trials IN EXCLUSIVE MODE"))
            if rename:
                places = {"from_storage": db.optuna, "to_storage": db.optuna}
                optuna.copy_study(from_study_name="s", to_study_name="t", **places)
            optuna.delete_study(study_name="s", storage=db.optuna)


@pytest.mark.parametrize("rename", [False, True])
def test_the_study_deleted_or_renamed_in_a_dashboard(
    make_site: Callable[..., Any],
    errors_after: Callable[..., list[str]],
    database_url: str,
    times: Times,
    rename: bool,
) -> None:
    if not times(rename and not database_url.startswith("sqlite"), True):
        pytest.skip("only with --all-faults")
    site = make_site(url=database_url)
    (line,) = errors_after(site, lambda: delete(database_url, rename=rename))
    assert "study 's' was deleted while this ran" in line
    assert line.endswith("run the command again to start from scratch")
    with closing(open_database(database_url)) as db:
        assert optuna.get_all_study_names(db.optuna) == ["t"] * rename


def stop_and_delete(processes: Sequence[psutil.Process], url: str) -> None:
    """Suspend the processes while none holds a lock on the study, and delete it."""
    while True:
        for process in processes:
            process.suspend()
        time.sleep(0.1)
        with suppress(StorageInternalError, exc.OperationalError):
            return delete(url)
        for process in processes:
            process.resume()
        time.sleep(0.05)


def test_deleted_and_recreated_under_living_workers(
    make_site: Callable[..., Any], call: Call, database_url: str, times: Times
) -> None:
    """Suspended meanwhile, they resume when the new study's trials have the same ids as theirs."""
    workers = times(1, 2)  # one is the command itself
    for number in range(times(int(database_url.startswith("sqlite")), 20)):
        old_site, new_site = (make_site(f"{age}{number}", database_url) for age in ("old", "new"))
        old, children = begun(old_site, workers)
        processes = (*children, psutil.Process(old.pid))
        stop_and_delete(processes, database_url)
        new_site.write_config(6, "none")

        def resume(stopped: Sequence[psutil.Process] = processes) -> None:
            for process in stopped:
                process.resume()

        with new_site.once(3, resume):
            call(new_site, study.main, *SAME, "--workers", str(workers))
        (line,) = errors_of(old_site, old, children)
        assert "study 's' was deleted while this ran" in line
        view = new_site.view()  # nothing reported to it is missing
        assert view.finished == len(view.trials) == 6
        rows = [row for trial in view.trials for row in trial.reports]
        writers = {int(row.worker.split(":")[1]) for row in rows}
        assert writers.isdisjoint(process.pid for process in processes)
        delete(database_url)
