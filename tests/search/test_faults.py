"""Real faults in real training processes: killed, and out of disk.

A few of each in CI; all of them with `pytest -m faults --all-faults`.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from search.store.views import StudyView

pytestmark = pytest.mark.faults
Times = Callable[[int, int], int]
ChildrenOf = Callable[[int], dict[int, str]]


def outcome(view: StudyView) -> list[Any]:
    return [
        (
            trial.state,
            dict(trial.params),
            [(row.epoch, row.train_loss, row.validation_loss) for row in trial.reports],
        )
        for trial in view.trials
    ]


def test_killed_anywhere_a_study_ends_bit_for_bit_as_if_nothing_had_been(
    make_site: Callable[..., Any], times: Times
) -> None:
    """One worker, killed after so many reports and then some milliseconds, started anew."""
    kills = times(3, 20)
    trials, pruner = times(8, 24), "none" if kills == 20 else "halving"
    whole = make_site("whole")
    whole.finish(trials, pruner)
    site = make_site("killed")
    dice = random.Random(0)
    reports = whole.reports()
    site.search(
        trials, "--workers", "1", "--timeout", "1s", pruner=pruner
    ).communicate()  # makes the study
    for number in range(kills):
        process = site.start("search.worker", "--study", "s", "--threads", "1")
        site.wait_for_reports(1 + number * (reports - 4) // kills)
        time.sleep(dice.uniform(0.0, 0.1))
        process.kill()
        process.communicate()
    site.finish(trials, pruner)
    # A trial that lost three workers would be failed for it; these are spread over all.
    assert outcome(site.view()) == outcome(whole.view())


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_workers_of_a_team_killed_at_random(
    make_site: Callable[..., Any], database_url: str, times: Times, children_of: ChildrenOf
) -> None:
    kills, trials = times(3, 40), times(10, 60)
    site = make_site(url=database_url)
    process = site.search(trials, "--workers", "3", pruner="none")
    dice = random.Random(1)
    for number in range(kills):
        site.wait_for_reports(3 + number * trials * 5 // kills)
        children = children_of(process.pid)
        if not children:
            break  # the study was done sooner
        try:
            os.kill(dice.choice(sorted(children)), signal.SIGKILL)
        except ProcessLookupError:
            continue
        time.sleep(dice.uniform(0.0, 0.5))
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    view = site.view()
    assert view.finished == trials
    assert not view.in_state("running", "waiting")


def test_the_study_command_itself_killed_takes_its_workers_along(
    make_site: Callable[..., Any], children_of: ChildrenOf
) -> None:
    site = make_site()
    process = site.search(10, "--workers", "2")
    site.wait_for_reports(4)
    children = children_of(process.pid)
    assert len(children) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while any(_runs(child) for child in children):
        assert time.monotonic() < deadline, "workers were left behind"
        time.sleep(0.1)
    site.finish(10)
    assert site.view().finished == 10


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[bool], None]]]:
    """A small tmpfs, and a function that fills it up or empties it again."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("a tmpfs of its own can only be mounted by root")
    filler = folder / "filler"

    def fill(full: bool) -> None:
        if not full:
            filler.unlink(missing_ok=True)
            return
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    yield folder, fill
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_no_room_for_checkpoints(
    make_site: Callable[..., Any], full_disk: tuple[Path, Callable[[bool], None]]
) -> None:
    disk, fill = full_disk
    whole = make_site("whole")
    whole.finish(6)
    site = make_site("full")
    (site.folder / "runs").symlink_to(disk)
    process = site.search(6, "--workers", "1")
    site.wait_for_reports(3)
    fill(True)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 2, out
    assert "No space left" in out
    assert "run the same command again" in out
    assert "Traceback" not in out
    fill(False)
    site.finish(6)
    assert outcome(site.view()) == outcome(whole.view())


def test_no_room_for_pictures_of_trials(
    make_site: Callable[..., Any], full_disk: tuple[Path, Callable[[bool], None]]
) -> None:
    disk, fill = full_disk
    site = make_site()
    (site.folder / "runs").mkdir()
    (site.folder / "runs" / "artifacts").symlink_to(disk)

    def pictures() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in disk.iterdir() if path.name != "filler"}

    site.finish(3, pruner="none")
    before = pictures()
    assert before
    fill(True)
    process = site.search(6, "--workers", "1", pruner="none")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert site.view().finished == 6
    assert out.count("cannot write pictures of trials into runs/artifacts (No space left") == 1
    assert "Traceback" not in out
    assert pictures() == before
    fill(False)
    site.finish(7, pruner="none")
    assert pictures().items() > before.items()
