"""What a long study costs: its status, starting a worker, sampling, a report, the dashboard.

    python -m benchmarks.scale --trials 10000 30000 --json benchmarks/results/scale.json

Each is done in a new process, on a copy of a made-up study that is under way: as many of its
trials as possible are paused, and the others have ended.
Commands are measured as users run them, including imports; `imports` is the part that any command
spends before it starts. Claims and draws are measured within their process: `start` from opening
the database to the first claim, `first_draw` with everything read for it, `draw` for later trials.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

# Nothing large is imported here: a process's peak memory starts at that of its parent process.

DRAWS = 5
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of getrusage(2)


def measure(trials: int) -> dict[str, Any]:
    """Everything about a study of this length."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "studies.db")
        storage = ["--storage", f"sqlite:///{file}"]
        _run([*_part("make", file), "--trials", str(trials)], place)
        found = {
            "imports": _run(["-c", "import search.study"], place),
            "status": _run(["-m", "search.study", "--status", *storage], place),
            "report": _run(["-m", "search.report", *storage], place),
        }
        for part in ("claim", "dashboard"):
            copy = Path(place, f"{part}.db")
            shutil.copy(file, copy)
            found[part] = _run(_part(part, copy), place)
    return {"trials": trials, **found}


def _part(name: str, file: Path) -> list[str]:
    return ["-m", "benchmarks.scale", "--part", name, "--file", str(file)]


def _run(arguments: Sequence[str], place: str) -> dict[str, float]:
    """Run a Python process; returns its wall-clock and CPU seconds, and its peak memory."""
    began = time.perf_counter()
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments} ended with {process.returncode}"
    return {
        "wall_seconds": time.perf_counter() - began,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * RSS_UNIT,
        **(json.loads(output.splitlines()[-1]) if "--part" in arguments else {}),
    }


def make(file: Path, trials: int) -> dict[str, float]:
    from benchmarks.trials_present import make_up_study
    from search.sampling.chooser import KEPT, KEPT_WITHOUT
    from search.store.opening import open_database
    from search.store.schema import HARDWARE

    db = open_database(f"sqlite:///{file}")
    study = make_up_study(db, "made-up", trials, paused=KEPT + KEPT_WITHOUT)
    study.study.set_user_attr(HARDWARE, "made up")
    db.close()
    return {}


def claim_and_draw(file: Path, _trials: int) -> dict[str, float]:
    """CPU seconds."""
    from search.sampling.chooser import Contenders, make_chooser
    from search.sampling.priors import prior_for
    from search.sampling.sampler import StudySampler
    from search.spec.space import suggest
    from search.store.claims import claim
    from search.store.leases import Lease, sample
    from search.store.opening import open_database
    from search.store.studies import load_spec, require_study

    clock = _Laps()
    db = open_database(f"sqlite:///{file}")
    study = require_study(db, None)
    spec = replace(load_spec(study), trials=10**6)
    contenders = Contenders(study, spec)
    study.study.sampler = StudySampler(
        spec, prior_for(spec.dataset), begun=lambda: contenders.begun(db.connection)
    )
    choose = make_chooser(contenders)

    def begin() -> Lease:
        lease = claim(study, total=spec.trials, choose=choose)
        assert isinstance(lease, Lease)
        return lease

    def draw(lease: Lease) -> float:
        clock()
        sample(study, lease, lambda trial: suggest(trial, spec))
        return clock()

    lease = begin()
    start = clock()
    first = draw(lease)
    draws = [draw(begin()) for _ in range(DRAWS)]
    db.close()
    return {"start": start, "first_draw": first, "draw": sorted(draws)[DRAWS // 2]}


def dashboard(file: Path, _trials: int) -> dict[str, float]:
    """What the browser receives for a study's page; optuna-dashboard sends every trial."""
    import optuna_dashboard

    from search.store.opening import open_database
    from search.store.studies import require_study

    db = open_database(f"sqlite:///{file}")
    study_id = require_study(db, None).study_id
    clock = _Laps()
    application = optuna_dashboard.wsgi(db.optuna)
    environ: dict[str, Any] = {"PATH_INFO": f"/api/studies/{study_id}"}
    setup_testing_defaults(environ)
    size = sum(map(len, application(environ, lambda *_: lambda _: None)))
    return {"page": clock(), "page_bytes": size}


class _Laps:
    """CPU seconds since the last call."""

    def __init__(self) -> None:
        self._last = time.process_time()

    def __call__(self) -> float:
        now = time.process_time()
        lap, self._last = now - self._last, now
        return lap


PARTS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "make": make,
    "claim": claim_and_draw,
    "dashboard": dashboard,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, nargs="+", default=[10_000, 30_000])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here as well")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # done in this process
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.trials) < 1:
        parser.error(f"--trials are 1 or more, but got {min(args.trials)}")
    if args.part is not None:
        print(json.dumps(PARTS[args.part](args.file, args.trials[0])))
        return
    studies = []
    for trials in args.trials:
        studies.append(measure(trials))
        print(f"{trials} trials")
        for name, of in studies[-1].items():
            if isinstance(of, dict):
                inside = ", ".join(f"{key} {value:.3f}" for key, value in list(of.items())[3:])
                print(
                    f"  {name}: {of['cpu_seconds']:.2f} s of CPU, {of['wall_seconds']:.2f} s, "
                    f"{of['peak_bytes'] / 2**20:.0f} MiB  {inside}"
                )
    if args.json:
        from benchmarks.record import environment, write_json

        result = {"studies": studies, **environment("scale")}
        write_json(args.json, result)


if __name__ == "__main__":
    main()
