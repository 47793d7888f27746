"""How fast the dashboard's pages load, and what its content costs the trial loop.

    python -m benchmarks.dashboard --trials 1000 10000 --json benchmarks/results/dashboard.json

Made-up studies with curves, notes, figures and announced pictures are served over HTTP by the code
of `search.dashboard`. Pages refresh every 10 s, for which the dashboard caches the trials; each
request is therefore made with an expired cache. Content is what the loop rewrites each time (the
note and all figures), and the two pictures that a complete trial gets once.
"""

from __future__ import annotations

import http.client
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore
from waitress import create_server

from benchmarks.record import BenchmarkParser, environment, spread, write_json
from benchmarks.trials_present import make_up_study
from search.dashboard.content import INTERVAL_SECONDS, SHARE, write_content
from search.dashboard.guard import Guard
from search.dashboard.server import LOOPBACK_NAMES, THREADS
from search.figures.final import trial_pictures
from search.store.opening import forbid_writing, open_database
from search.store.studies import StudyHandle
from search.store.views import view_study

REFRESHED = 10  # trials that an open page requests again
WRITES, PICTURES = 5, 20  # timed
TRIAL_SECONDS = 25.0  # between the ends of two trials: 50 of Fashion-MNIST on 2 cores in 20 minutes


def measure(trials: int, requests: int) -> dict[str, Any]:
    """Everything about a study of this length, in a database of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        db = open_database(f"sqlite:///{folder / 'studies.db'}")
        study = make_up_study(db, "made-up", trials)
        content = measure_content(study)
        forbid_writing(db)
        store = FileSystemArtifactStore(folder / "artifacts")
        app = optuna_dashboard.wsgi(db.optuna, artifact_store=store)
        paths = {
            "list of studies": "/api/studies",
            "a study's page": f"/api/studies/{study.study_id}",
            "the open page, again": f"/api/studies/{study.study_id}?after={trials - REFRESHED}",
        }
        with served(app) as port:
            api = {name: latency(app, port, path, requests) for name, path in paths.items()}
        db.close()
    return {"trials": trials, "api": api, "content": content}


def measure_content(study: StudyHandle) -> dict[str, Any]:
    writes = timed(lambda: write_content(study, view_study(study)), WRITES)
    view, confusion_KK = view_study(study), np.eye(10, dtype=np.int64)
    best = view.leaderboard[0]
    pictures = timed(lambda: trial_pictures(view, best, confusion_KK), PICTURES)
    seconds = statistics.median(writes)
    interval = max(INTERVAL_SECONDS, seconds / SHARE)
    return {
        "note and figures, seconds a time": spread(writes),
        "two pictures, seconds": spread(pictures),
        "written every seconds": interval,
        "note and figures, seconds a trial": seconds * TRIAL_SECONDS / interval,
        "a trial ends every seconds": TRIAL_SECONDS,
    }


def timed(work: Callable[[], Any], times: int) -> list[float]:
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return found


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Serve the application read-only, as `search.dashboard` does; yields the port."""
    guard = Guard(app, hosts=LOOPBACK_NAMES)
    server = create_server(guard, host="127.0.0.1", port=0, threads=THREADS)
    threading.Thread(target=server.run, daemon=True).start()
    yield int(server.effective_port)
    server.task_dispatcher.shutdown()  # the thread stays, but without requests it does no harm


def latency(app: Any, port: int, path: str, requests: int) -> dict[str, Any]:
    """Latency of whole answers, each over a new connection."""
    seconds, busy, size = [], time.process_time(), 0
    for _ in range(requests):
        app._inmemory_cache._trials_last_fetched_at.clear()
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("GET", path)
        answer = connection.getresponse()
        size = len(answer.read())
        seconds.append(time.perf_counter() - started)
        connection.close()
        assert answer.status == 200, f"{path}: {answer.status}"
    p50, p95 = np.percentile(seconds, [50, 95])
    return {
        "p50": p50,
        "p95": p95,
        "max": max(seconds),
        "cpu": (time.process_time() - busy) / requests,  # not affected by a busy machine
        "requests": requests,
        "bytes": size,
    }


def main() -> None:
    parser = BenchmarkParser(__doc__)
    parser.add_counts(("trials", [1000], "per study"), ("requests", 40, "of each kind"))
    parser.add("json")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies = []
    for trials in args.trials:
        found = measure(trials, args.requests)
        studies.append(found)
        print(f"{trials} trials")
        for name, figures in found["api"].items():
            print(
                f"  {name}: p50 {figures['p50']:.3f} s, p95 {figures['p95']:.3f} s, "
                f"{figures['cpu']:.3f} s of CPU, {figures['bytes'] / 1e6:.2f} MB"
            )
        for name, value in found["content"].items():
            figure = value["median"] if isinstance(value, dict) else value
            print(f"  {name}: {figure:.3f}")
    write_json(args.json, {"studies": studies, **environment("dashboard")})


if __name__ == "__main__":
    main()
