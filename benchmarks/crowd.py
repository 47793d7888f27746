"""Many workers on one study in PostgreSQL: how fast they claim and report, and how that grows.

    python -m benchmarks.crowd --workers 64 --trials 1000 10000
    python -m benchmarks.crowd --workers 8 --trials 200           # a minute
    python -m benchmarks.crowd --workers 500 --trials 1000 --seconds 30 --pool 20
    python -m benchmarks.crowd --storage postgresql://me@host/an_empty_database

Each worker is a process (a fork of this one, because the memory would not hold 64 separate ones)
that runs the loop of `python -m search.worker`: claims, samples, reports, saves checkpoints and
ends trials. Instead of training it sleeps, and it draws no pictures. Two parameters are sampled at
random, because sampling time does not concern the database. The server is a private one in a
temporary folder, with PostgreSQL's defaults except for `max_connections`; or give --storage.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import psutil
from sqlalchemy import text

from benchmarks.coordinators import NoTraining, few_digits, make_spec
from benchmarks.record import BenchmarkParser, environment, write_json
from search.dashboard.content import TrialPictures
from search.running import trial as trial_loop
from search.running import worker as worker_loop
from search.running.run import Run
from search.sampling.registry import PRUNERS
from search.store.database import Database, read
from search.store.opening import open_database
from search.store.records import count_reports
from search.store.studies import create_study, load_spec, require_study
from search.store.views import view_study
from search.terminal.commands import run
from search.training.device import prepare_process
from search.training.task import Task
from tests.postgres import PostgresServer, postgres_binaries

EPOCHS = 2
PARAMETERS = ("learning_rate", "width")
PARTS = 10  # of a study, to see whether claims get slower over time
# What is timed: every part of the trial loop that uses the database.
TIMED = {"claim": worker_loop, "sample": trial_loop, "record_epoch": trial_loop}
TIMED |= {"should_prune": trial_loop, "end_trial": worker_loop}
CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid()"
)
Call = tuple[str, float, float]  # name, start (CLOCK_MONOTONIC), seconds


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_counts(
        ("trials", [1000, 10_000], "of each study"),
        ("workers", 64, "processes that work on it"),
        ("pool", None, "connect to the private server through pgbouncer, with N connections"),
    )
    sleep = f"an epoch of {EPOCHS} sleeps (default: 0.5)"
    own.add_argument("--seconds", type=float, default=0.5, help=sleep)
    usual = ["none", "promotion"]
    own.add_argument("--pruners", nargs="+", choices=PRUNERS, default=usual, metavar="NAME")
    own.add_argument("--storage", metavar="URL", help="an empty database; default: a private one")
    own.add("json")
    return own


class _Sleeping(NoTraining):
    """Sleeps for an epoch; its curve depends on the trial's seed."""

    def __init__(self, seed: int, state: dict[str, Any] | None, seconds: float) -> None:
        chance = random.Random(seed)
        floor, fall = chance.uniform(0.1, 0.5), chance.uniform(0.2, 2.0)
        super().__init__(lambda epoch: floor + fall / (epoch + 1), epochs=EPOCHS, pause=seconds)
        self.epoch = -1 if state is None else int(state["epoch"])


def work(url: str, name: str, folder: Path, task: Task, seconds: float) -> None:
    """What one worker runs; it writes its calls to a file in the folder."""
    calls: list[Call] = []
    with closing(open_database(url)) as db, ExitStack() as timing:
        for what, module in TIMED.items():
            timed = _timed(getattr(module, what), what, calls)
            timing.enter_context(patch.object(module, what, timed))
        timing.enter_context(patch.object(TrialPictures, "upload"))
        study = require_study(db, name)
        run = Run(
            study=study,
            spec=load_spec(study),
            task=task,
            folder=folder,
            checkpoints=folder / "checkpoints",
            stop=threading.Event(),
            trials_at_a_time=1,
            train=lambda *_, seed, state, **__: _Sleeping(seed, state, seconds),
        )
        worker_loop.train_trials(run)
    Path(folder, f"{os.getpid()}.json").write_text(json.dumps(calls))


def _timed(function: Callable[..., Any], what: str, calls: list[Call]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        began = time.monotonic()
        answer = function(*arguments, **options)
        # A claim that got no trial is counted under the answer that it got instead.
        calls.append((answer if isinstance(answer, str) else what, began, time.monotonic() - began))
        return answer

    return call


def measure(
    url: str, trials: int, pruner: str, workers: int, seconds: float, server: int | None
) -> dict[str, Any]:
    """One study from its first trial to its last, all of which must be there at the end.

    Args:
        seconds: sleep per epoch.
        server: process id of PostgreSQL, if we started it.
    """
    spec = make_spec(trials)
    space = {name: spec.space[name] for name in PARAMETERS}
    spec = replace(spec, epochs=EPOCHS, pruner=pruner, sampler="random", space=space)
    task = few_digits()
    name = f"{pruner}-{trials}"
    with tempfile.TemporaryDirectory() as place, closing(open_database(url)) as db:
        folder = Path(place)
        study = create_study(db, name, spec, task.info, validation_count=1)
        size = _ask(db, "SELECT pg_database_size(current_database())")
        db.close()  # a forked child may not use its connections
        cpu = _cpu_seconds(server)
        fork = multiprocessing.get_context("fork").Process
        crowd = [fork(target=work, args=(url, name, folder, task, seconds)) for _ in range(workers)]
        for process in crowd:
            process.start()
        connections = 0
        while any(process.is_alive() for process in crowd):
            time.sleep(1.0)
            connections = max(connections, _ask(db, CONNECTIONS))
        codes = [process.exitcode for process in crowd]
        assert not any(codes), f"workers ended with {codes}"
        used = [now - then for now, then in zip(_cpu_seconds(server), cpu, strict=True)]
        size = _ask(db, "SELECT pg_database_size(current_database())") - size
        view, reports = view_study(study), count_reports(db, study.study_id)
        calls = [tuple(it) for file in folder.glob("*.json") for it in json.loads(file.read_text())]
    assert [trial.number for trial in view.trials] == list(range(trials))
    assert view.finished == trials, f"{view.finished} of {trials} trials finished"
    assert pruner != "none" or reports == trials * (EPOCHS + 1)
    return {
        "pruner": pruner,
        "trials": trials,
        "reports": reports,
        **figures(calls),
        "connections": connections,
        "bytes_a_trial": size / trials,
        "workers_cpu_ms_a_trial": 1000 * used[0] / trials,
        "server_cpu_ms_a_trial": 1000 * used[1] / trials if server else None,
    }


def figures(calls: Sequence[Call]) -> dict[str, Any]:
    """Rates over the whole study, and milliseconds for each kind of call.

    `claims_in_turn` are the claims that got a trial, for each tenth of them in order of time.
    """
    calls = sorted(calls, key=lambda call: call[1])
    begin, end = calls[0][1], max(began + seconds for _, began, seconds in calls)
    claims = [seconds for what, _, seconds in calls if what == "claim"]
    part = max(1, len(claims) // PARTS)
    parts = [claims[at : at + part] for at in range(0, part * min(PARTS, len(claims)), part)]
    return {
        "seconds": end - begin,
        "claims_a_second": len(claims) / (end - begin),
        "reports_a_second": sum(what == "record_epoch" for what, *_ in calls) / (end - begin),
        "milliseconds": {
            what: _spread([seconds for name, _, seconds in calls if name == what])
            for what in sorted({what for what, *_ in calls})
        },
        "claims_in_turn": [_spread(part) for part in parts],
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    median, high, longest = np.percentile(1000 * np.array(seconds), [50, 95, 100]).tolist()
    return {"count": len(seconds), "median": median, "p95": high, "max": longest}


def _ask(db: Database, question: str) -> int:
    return int(read(db, lambda connection: connection.execute(text(question)).scalar_one()))


def _cpu_seconds(server: int | None) -> tuple[float, float]:
    """CPU seconds of ended children, of this process and of the server."""
    processes = [psutil.Process(), *([] if server is None else [psutil.Process(server)])]
    used = [it.cpu_times().children_user + it.cpu_times().children_system for it in processes]
    return used[0], used[-1]


@contextmanager
def private_server(workers: int, host: str | None = None) -> Iterator[tuple[PostgresServer, str]]:
    """A server of our own, and its URL: a Unix socket, or `host`, for that address's network."""
    binaries = postgres_binaries()
    if binaries is None:
        raise SystemExit("no PostgreSQL server (Debian: apt-get install postgresql); or --storage")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(binaries, Path(folder))
        settings = {"fsync": "on", "shared_buffers": "128MB"}
        if host is not None:
            settings["listen_addresses"] = host
            with Path(folder, "data", "pg_hba.conf").open("a") as access:
                access.write("host all all samenet trust\n")
        server.start(max_connections=str(2 * workers + 20), **settings)
        try:
            url = server.url("postgres")
            yield server, url if host is None else f"postgresql://postgres@{host}/postgres"
        finally:
            server.stop()


def show(study: Mapping[str, Any]) -> str:
    claim = study["milliseconds"]["claim"]
    first, last = study["claims_in_turn"][0], study["claims_in_turn"][-1]
    return (
        f"{study['pruner']}, {study['trials']} trials: {study['seconds']:.0f} s, "
        f"{study['claims_a_second']:.1f} claims and {study['reports_a_second']:.1f} reports a "
        f"second; a claim {claim['median']:.1f} ms (95 %: {claim['p95']:.1f}), at first "
        f"{first['median']:.1f}, at last {last['median']:.1f}; at most {study['connections']} "
        f"connections, {study['bytes_a_trial'] / 1024:.1f} KiB a trial"
    )


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    prepare_process(threads=1)
    with ExitStack() as server:
        url, pid = args.storage, None
        if url is None:
            own, url = server.enter_context(private_server(args.workers))
            pid = own.pid
            if args.pool:
                open_database(url).close()  # creating the tables takes two connections
                url = server.enter_context(own.pooled("postgres", args.pool))
        studies = list[dict[str, Any]]()
        scale = {"workers": args.workers, "pool": args.pool, "seconds_an_epoch": args.seconds}
        result = {**scale, "epochs": EPOCHS, "studies": studies, **environment("crowd")}
        for pruner, trials in product(args.pruners, args.trials):
            studies.append(measure(url, trials, pruner, args.workers, args.seconds, pid))
            print(show(studies[-1]), flush=True)
            write_json(args.json, result)
    return 0


if __name__ == "__main__":
    run(main)
