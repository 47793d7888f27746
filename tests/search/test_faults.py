"""Real faults in real training processes: kills and full disks.

A few of each in CI; all of them with `pytest -m faults --all-faults`.
"""

import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest
import torch

from search import study
from search.running.study import run_study
from search.store.views import StudyView
from search.training.device import kept_threads
from tests.search.conftest import SAME, SMALL, Call
from tests.search.workplaces import SmallDisk

pytestmark = pytest.mark.faults
Times = Callable[[int, int], int]


def outcome(view: StudyView) -> list[Any]:
    return [
        (
            trial.state,
            dict(trial.params),
            [(row.epoch, row.train_loss, row.validation_loss) for row in trial.reports],
        )
        for trial in view.trials
    ]


@pytest.mark.usefixtures("unseen")
def test_a_study_killed_anywhere_ends_bit_for_bit_as_if_uninterrupted(
    make_site: Callable[..., Any], times: Times
) -> None:
    """One worker, killed some milliseconds after various reports and restarted each time."""
    kills = times(2, 20)
    trials, pruner = times(6, 24), "none" if kills == 20 else "promotion"
    whole = make_site("whole")
    whole.finish(trials, pruner)
    site = make_site("killed")
    rng = random.Random(0)
    reports = whole.reports()
    stopped = threading.Event()
    stopped.set()
    site.finish(trials, pruner, stop=stopped)  # makes the study
    for number in range(kills):
        words = ("--storage", site.url, "--study", "s", "--threads", "1")
        process = site.start("search.worker", *words)
        site.wait_for_reports(1 + number * (reports - 4) // kills)
        time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        process.communicate()
    site.finish(trials, pruner)
    # A trial that lost three workers would fail; these kills are spread over all trials.
    assert outcome(site.view()) == outcome(whole.view())


@pytest.mark.usefixtures("unseen")
def test_killed_while_it_continues_stopped_trials(make_site: Callable[..., Any]) -> None:
    """Repeating the request trains them to their ends: nothing twice, and bit for bit."""
    site, whole = make_site(), make_site("whole")
    config = site.folder / "small.toml"
    config.write_text(SMALL.format(trials=4, pruner="promotion"))
    options: dict[str, Any] = {"study": "s", "workers": 1, "progress": False}
    with kept_threads():
        torch.set_num_threads(1)  # as in the site's processes
        view = run_study(config, storage=site.url, **options)
        shutil.copytree(site.folder, whole.folder, dirs_exist_ok=True)
        numbers = [trial.number for trial in view.in_state("pruned")]
        assert len(numbers) > 1
        words = ("--workers", "1", "--continue", *map(str, numbers))
        process = site.start("search.study", "--study", "s", *words)
        site.wait_for_reports(site.reports() + 2)
        process.kill()
        process.communicate()
        assert site.view().count() == 4
        for one in (site, whole):
            view = run_study(storage=one.url, continue_trials=numbers, **options)
            assert view.count("complete") == view.count() == 4
    assert outcome(site.view()) == outcome(whole.view())


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.usefixtures("unseen")
def test_workers_killed_at_random(
    make_site: Callable[..., Any], call: Call, database_url: str, times: Times
) -> None:
    """Their trials pause and are resumed by others; then the study is given more trials."""
    if not times(database_url.startswith("sqlite"), True):
        pytest.skip("only with --all-faults")
    kills, trials = times(2, 40), times(7, 100)
    site = make_site(url=database_url)
    site.write_config(trials, "promotion")
    rng, others = random.Random(1), psutil.Process().children()

    def kill() -> None:
        for number in range(kills):
            site.wait_for_reports(3 + number * trials * 3 // 2 // kills)
            workers = [it for it in psutil.Process().children() if it not in others]
            if not workers:
                break  # the study was done sooner
            with suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()
            time.sleep(rng.uniform(0.0, 0.5))

    with site.once(3, kill):  # the command is this process, its workers are others
        call(site, study.main, *SAME, "--workers", str(times(2, 3)))
    for total in (trials, trials + 4):
        if total > trials:
            site.finish(total, "promotion")
        view = site.view()
        assert view.finished == view.count("complete", "pruned") == total
        assert view.count() == total + view.count("failed")
        for trial in view.trials:
            assert [row.epoch for row in trial.reports] == list(range(len(trial.reports)))


@pytest.mark.usefixtures("unseen")
def test_no_room_for_checkpoints(
    make_site: Callable[..., Any], call: Call, small_disk: SmallDisk
) -> None:
    whole, site = make_site("whole"), make_site("full")
    whole.finish(4)
    (site.folder / "runs").symlink_to(small_disk.folder)
    site.write_config(4)
    with site.once(3, small_disk.fill):
        _, err = call(site, study.main, *SAME, code=2)
    assert "No space left" in err
    assert "run the same command again" in err
    assert "Traceback" not in err
    small_disk.empty()
    site.finish(4)
    assert outcome(site.view()) == outcome(whole.view())
