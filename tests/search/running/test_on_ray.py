"""Studies on a real Ray cluster of two nodes and a real PostgreSQL: exact totals whatever fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import fsspec
import numpy as np
import psycopg
import pytest
import torch
from sklearn.datasets import load_digits

from search.running.request import Request, read_request
from search.running.run import make_plan
from search.running.study import run_study
from search.spec.domains import SpecError
from search.store import StorageError, StudyBrokenError
from search.store.opening import open_database
from search.store.records import epochs_of
from search.store.studies import require_study
from search.store.views import view_study
from tests.search.conftest import SECRET
from tests.search.running.made_up import TINY

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402

from search.running import on_ray  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
ROOT = Path(__file__).parents[3]
SECONDS = 120
STUDY = """\
[study]
trials = 4
epochs = 40
limit = 400
dataset = "digits"
pruner = "none"

[space]
width = { low = 4, high = 12 }
"""
NETWORK = """
from torch import nn

def build(image_shape, classes, *, width=8):
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.Linear(width, classes))
"""


@pytest.fixture(scope="module")
def cluster(s3: str) -> Iterator[Any]:  # noqa: ARG001
    """A head that takes no workers, and a node that takes one; they inherit the access to S3."""
    # Otherwise other tests would starve them. The name is Ray's own.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    found.add_node(num_cpus=1)
    yield found
    ray.shutdown()
    found.shutdown()


def ask(url: str, query: str) -> int:
    """A number from the database; 0 as long as the table is missing."""
    with suppress(psycopg.errors.UndefinedTable), psycopg.connect(url) as connection:
        return int(connection.execute(query).fetchone()[0])
    return 0


def wait_for_workers(url: str, count: int, command: subprocess.Popen[str]) -> None:
    """Wait until so many have reported an epoch."""
    deadline = time.monotonic() + SECONDS
    while ask(url, "SELECT count(DISTINCT worker) FROM epochs WHERE epoch > 1") < count:
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_study_is_interrupted_resumed_and_loses_a_node(
    cluster: Any, guarded: str, s3: str, tmp_path: Path
) -> None:
    (tmp_path / "small.toml").write_text(STUDY)
    kept = fsspec.filesystem("s3", use_listings_cache=False)
    lost = cluster.add_node(num_cpus=1)

    def start() -> subprocess.Popen[str]:
        words = ["--config", "small.toml", "--ray", cluster.address, "--storage", guarded]
        words += ["--checkpoints", f"{s3}/kept"]
        return subprocess.Popen(
            [sys.executable, "-m", "search.study", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    command = start()
    wait_for_workers(guarded, 2, command)
    command.send_signal(signal.SIGINT)
    said, _ = command.communicate(timeout=SECONDS)
    assert command.returncode == 130, said
    assert "workers on Ray: 2, on nodes: 3" in said
    assert "nothing is lost" in said
    assert ask(guarded, "SELECT count(*) FROM leases WHERE expires_at IS NOT NULL") == 0
    assert len(kept.glob(f"{s3}/kept/*/trial-*.previous.pt")) >= 2

    command = start()
    wait_for_workers(guarded, 4, command)
    cluster.remove_node(lost, allow_graceful=False)
    said, _ = command.communicate(timeout=SECONDS)
    assert command.returncode == 0, said
    with closing(open_database(guarded)) as db:
        study = require_study(db, None)
        view, rows = view_study(study), epochs_of(db, study.study_id)
    assert [trial.state for trial in view.trials] == ["complete"] * 4
    assert len(rows) == 4 * 41
    assert kept.find(f"{s3}/kept") == []
    # The lost node's trial, unless it was just between two trials.
    assert len({row.trial_number for row in rows if row.attempt > 1}) <= 1

    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    shown = repr(ray._private.state.state.job_table()) + repr(ray.nodes())
    ray.shutdown()
    assert "search.study" in shown
    logs = Path(cluster.head_node.get_session_dir_path()).rglob("*")
    shown += "".join(path.read_text(errors="replace") for path in logs if path.is_file())
    assert SECRET not in shown + said


def test_a_task_needs_neither_the_images_nor_the_users_files(
    cluster: Any, postgres: Any, tmp_path: Path
) -> None:
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target
    parts = {"x_train": images[:900], "y_train": labels[:900], "x_test": images[900:]}
    np.savez(tmp_path / "mine.npz", **parts, y_test=labels[900:])
    (tmp_path / "mynet.py").write_text(NETWORK)
    own = 'pruner = "none"\n\n[space]\nfamily = "mynet.py:build"'
    text = STUDY.replace('pruner = "none"\n\n[space]', own).replace('dataset = "digits"\n', "")
    (tmp_path / "own.toml").write_text(text)
    given = {"trials": 2, "epochs": 1, "dataset": f"npz:{tmp_path / 'mine.npz'}"}
    where = {"storage": postgres.new_database(), "data_dir": tmp_path, "runs_dir": tmp_path}
    request = read_request(str(tmp_path / "own.toml"), {**given, **where})
    run = make_plan(request, torch.device("cpu")).begin(threading.Event())
    handed = on_ray.hand(run, {**where, "threads": 1})
    for name in ("mine.npz", "mynet.py"):
        (tmp_path / name).rename(tmp_path / f"{name}.away")
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        task = ray.remote(on_ray.work)  # one process for all, which takes seconds to start
        without_files = ray.put((handed[0], {}))
        code, problem = ray.get(task.remote(without_files, run.study.name, "cpu"))
        assert code == 2
        assert "mynet.py" in problem
        assert ray.get(task.remote(ray.put(handed), run.study.name, "cpu")) == (0, "")
        away = ray.put(({**handed[0], "storage": "postgresql://me@/x?host=/none"}, handed[1]))
        code, problem = ray.get(task.remote(away, run.study.name, "cpu"))
        assert code == 1  # it may come back, but not for ever
        assert "cannot open postgresql://me@/x" in problem
    finally:
        ray.shutdown()
        run.db.close()
    (tmp_path / "mynet.py.away").rename(tmp_path / "mynet.py")
    with closing(open_database(where["storage"])) as db:
        assert view_study(require_study(db, None)).finished == 2


def request_for(cluster: Any, **options: Any) -> Request:
    return read_request(None, {"dataset": "digits", "ray": cluster.address, **options})


def test_impossible_requests_are_refused(cluster: Any, tmp_path: Path) -> None:
    request = request_for(cluster, storage=f"sqlite:///{tmp_path / 'studies.db'}")
    for wrong, kind, said in (
        (request, StorageError, "has 2 nodes; give --storage postgresql"),
        (replace(request, ray="nonsense"), SpecError, "cannot join Ray at"),
    ):
        with pytest.raises(kind, match=said), on_ray.ray_pool(wrong, {}):
            pass
        assert not ray.is_initialized()
    with pytest.raises(SpecError, match="--gpus-per-worker"):
        replace(request, device="cuda:1")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"workers": -1}, "workers must be a whole number from 1 to 10000, but got -1"),
        ({"cpus_per_worker": 0}, "cpus_per_worker must be a number above 0, but got 0"),
        ({"gpus_per_worker": -1}, "gpus_per_worker must be a number from 0 up, but got -1"),
        ({"gpus_per_worker": 1.5}, "gpus_per_worker above 1 must be whole, but got 1.5"),
    ],
)
def test_impossible_workers_are_refused_before_anything_is_written(
    here: Path, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        run_study(dataset="digits", ray="local", progress=False, **wrong)
    assert not list(here.iterdir())


def test_tasks_find_what_was_named_by_relative_paths(here: Path) -> None:
    where = {"storage": "sqlite:///studies.db", "checkpoints": "kept"}
    request = read_request(None, {**TINY, **where}, space=TINY["space"])
    run = make_plan(request, torch.device("cpu")).begin(threading.Event())
    handed, _ = on_ray.hand(run, where)
    run.db.close()
    assert handed["storage"] == f"sqlite:///{here / 'studies.db'}"
    assert handed["checkpoints"] == str(here / "kept")
    assert handed["runs_dir"] == here / "runs"


def test_tasks_that_keep_dying_end_the_study_with_their_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Ray reports them; above, it really loses a node."""
    submitted: list[object] = []
    task = SimpleNamespace(remote=lambda **given: submitted.append(given) or "ref")
    made_up = {
        "nodes": lambda: [{"Alive": True, "Resources": {"CPU": 3.0}}],
        "remote": lambda **_: lambda _: task,
        "put": lambda handed: handed,
        "wait": lambda refs, **_: (refs, []),
        "get": Mock(side_effect=ray.exceptions.WorkerCrashedError()),
        "cancel": lambda *_, **__: None,
    }
    for name, function in made_up.items():
        monkeypatch.setattr(ray, name, function)
    monkeypatch.setattr(on_ray, "LONGEST_BACKOFF", 0.01)
    monkeypatch.setattr(on_ray, "hand", lambda *_: None)
    monkeypatch.setattr("search.running.pool.count_reports", lambda *_: 0)
    monkeypatch.setattr("search.running.pool.MAX_DEATHS", 2)
    optuna_study = SimpleNamespace(get_trials=lambda **_: [])
    run: Any = SimpleNamespace(
        db=None,
        stop=threading.Event(),
        study=SimpleNamespace(name="s", study_id=1, study=optuna_study, check=lambda: None),
        spec=SimpleNamespace(trials=1),
        on_change=lambda: None,
        check=lambda: None,
    )
    request = read_request(None, {"dataset": "digits", "ray": "local", "workers": 3})
    died = r"2 workers died in a row .* WorkerCrashedError"
    with pytest.raises(StudyBrokenError, match=died):
        on_ray.RayPool(request, {}).train(run)
    assert len(submitted) == 2  # one at a time: no more than trials are left
