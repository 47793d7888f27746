"""How a study stands, for `--status`: a few queries, whatever its length.

Loads neither Optuna nor a view of every trial, so that it answers at once. Reads tables, and
changes nothing.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from search.analysis.measures import accuracy_of, measure_of
from search.analysis.time_left import GUESS_VARIATION, RECENT, spread
from search.analysis.wording import duration, grouped, percent, printable
from search.sampling.registry import find_pruner
from search.spec.objectives import RAW_LOSS
from search.store import (
    DEFAULT_STORAGE,
    display_name,
    is_sqlite,
    mask_password,
    read_url,
    without_password,
)
from search.terminal.command_line import as_called

if TYPE_CHECKING:
    from sqlalchemy import Connection

WIDTH = 80
MOST_FAILURES = 10  # told one by one
PATIENCE = 5  # seconds, for a database that is locked or silent
LATEST = """
    SELECT s.study_id, s.study_name FROM studies s JOIN trials t ON t.study_id = s.study_id
    JOIN study_user_attributes a ON a.study_id = s.study_id AND a.key = 'spec'
    GROUP BY s.study_id, s.study_name HAVING min(t.datetime_start) IS NOT NULL
    ORDER BY min(t.datetime_start) DESC, s.study_id DESC LIMIT 1
"""
COUNTS = "SELECT state, count(*) FROM trials WHERE study_id = :study GROUP BY state"
HELD = """
    SELECT t.number, l.worker, l.expires_at, l.paused, e.epoch, v.intermediate_value AS value
    FROM trials t
    LEFT JOIN leases l ON l.trial_id = t.trial_id
    LEFT JOIN epochs e ON e.trial_id = t.trial_id
        AND e.epoch = (SELECT max(epoch) FROM epochs WHERE trial_id = t.trial_id)
    LEFT JOIN trial_intermediate_values v ON v.trial_id = e.trial_id AND v.step = e.epoch
    WHERE t.study_id = :study AND t.state = 'RUNNING' ORDER BY t.number
"""
FAILED = """
    SELECT t.number, a.value_json FROM trials t
    LEFT JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'reason'
    WHERE t.study_id = :study AND t.state = 'FAIL' ORDER BY t.number DESC LIMIT :most
"""
BEST = """
    SELECT e.trial_number, e.epoch, e.best_validation_loss, e.validation_error FROM epochs e
    JOIN trials t ON t.trial_id = e.trial_id
    WHERE t.study_id = :study AND t.state = 'COMPLETE' AND e.epoch > 0
        AND e.best_validation_loss IS NOT NULL
    ORDER BY e.best_validation_loss, e.trial_number, e.epoch LIMIT 1
"""
SPENT = """
    SELECT sum(e.seconds) FROM epochs e JOIN trials t ON t.trial_id = e.trial_id
    WHERE t.study_id = :study AND t.state IN ('COMPLETE', 'PRUNED')
    GROUP BY t.trial_id ORDER BY t.trial_id DESC LIMIT :most
"""
TRAINED = "SELECT count(*), sum(seconds) FROM epochs WHERE study_id = :study AND epoch > 0"


def quick_status(url: str, name: str | None = None) -> str | None:
    """The text; None where the database or the study has to be opened to tell what is wrong.

    Args:
        name: of the study; None: the one begun last.
    """
    address = read_url(url)
    if address is None or (is_sqlite(address) and not Path(address.database or "").is_file()):
        return None
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    arguments = {"timeout": PATIENCE}
    if not is_sqlite(address):
        address = address.set(drivername="postgresql+psycopg")
        arguments = {"connect_timeout": PATIENCE}
    try:
        engine = create_engine(address, poolclass=NullPool, connect_args=arguments)
        with engine.connect() as connection:
            return "\n".join(_lines(connection, mask_password(url), name))
    except Exception:  # whatever it is, opening the database says it in a line
        return None


def _lines(connection: Connection, url: str, name: str | None) -> Iterator[str]:
    from sqlalchemy import text

    def ask(query: str, **values: Any) -> list[Any]:
        return list(connection.execute(text(query), values).all())

    by_name = "SELECT study_id, study_name FROM studies WHERE study_name = :name"
    ((study, name),) = ask(LATEST) if name is None else ask(by_name, name=name)
    attributes = "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study"
    stored = {key: json.loads(value) for key, value in ask(attributes, study=study)}
    spec, facts = stored["spec"], stored["dataset"]
    measure = measure_of(spec.get("objective", RAW_LOSS))
    counts = {str(state): int(count) for state, count in ask(COUNTS, study=study)}
    finished = counts.get("COMPLETE", 0) + counts.get("PRUNED", 0)
    finished += counts.get("FAIL", 0) if spec["arms"] else 0
    total = max(int(spec["trials"]), finished)
    begun = ask(HELD, study=study)
    held = [row for row in begun if row.paused is None or row.expires_at is not None]
    running = [row for row in held if not _is_left(row.worker, row.expires_at)]
    states = {"complete": counts.get("COMPLETE", 0), "pruned": counts.get("PRUNED", 0)}
    states |= {"failed": counts.get("FAIL", 0), "running": len(running)}
    states |= {"paused": len(begun) - len(held), "interrupted": len(held) - len(running)}
    states |= {"queued": counts.get("WAITING", 0)}
    told = [f"{grouped(n)} {state}" for state, n in states.items() if n or state == "complete"]
    yield from wrap(f"Study {name}: {finished} of {total} trials finished ({', '.join(told)})")
    hardware = printable(str(stored.get("hardware", "unknown")))
    yield from wrap(f"{printable(facts['title'])}. {hardware}.")
    if finished < total:
        spent = [seconds for (seconds,) in ask(SPENT, study=study, most=RECENT) if seconds]
        varies = pstdev(spent) / fmean(spent) if len(spent) > 3 else GUESS_VARIATION
        left = fmean(spent) * (total - finished) if spent else None
        if find_pruner(spec["pruner"]).choose is not None:  # it may spend so many epochs
            ((epochs, seconds),) = ask(TRAINED, study=study)
            budget = spec.get("budget", 1.0) * total * spec["epochs"]
            left = seconds / epochs * max(0.0, budget - epochs) if epochs else None
        around = spread(varies, total - finished, len(spent))
        yield from wrap(f"Time: {_time_left(left, around, len(running))}.")
    for title, rows in (
        ("Running", running),
        ("Interrupted, for the next worker to carry on", [r for r in held if r not in running]),
    ):
        yield from ["", f"{title}:"] * bool(rows)
        for row in rows:
            reached = "nothing reported yet"
            if row.epoch is not None:
                value = "not finite" if row.value is None else measure.shown(row.value)
                reached = f"epoch {row.epoch or 1} of {spec['epochs']}, {measure.words} {value}"
            worker = (
                f", on {printable(display_name(row.worker or 'unknown'))}" if row in running else ""
            )
            yield from wrap(f"trial {row.number}, {reached}{worker}", "  ", "    ")
    failed = ask(FAILED, study=study, most=MOST_FAILURES)[::-1]
    few = "" if len(failed) == states["failed"] else f", the latest {len(failed)}"
    yield from ["", f"Failed{few}:"] * bool(failed)
    for number, reason in failed:
        why = json.loads(reason) if reason else "for an unknown reason"
        yield from wrap(f"trial {number}: {printable(str(why))}", "  ", "    ")
    best = ask(BEST, study=study)
    for number, epoch, value, error in best:
        accuracy = accuracy_of([error], int(facts["validation_count"]))
        yield ""
        score = f"{measure.words} {measure.shown(value)}, accuracy {accuracy}"
        yield from wrap(f"Best: trial {number}, {score}, epoch {epoch}")
    yield from ["", "Next:"]
    yield from (f"  {one}" for one in next_commands(name, url, total - finished, bool(best)))


def _is_left(worker: str | None, expires_at: float | None) -> bool:
    """Whether nobody trains the trial any more: not a promise, see `search.store.claims`."""
    if worker is None:
        return False
    if expires_at is None or expires_at < time.time():
        return True
    host, pid, *_ = worker.split(":")
    here = host == socket.gethostname() and pid.isdigit() and Path("/proc/self").exists()
    return here and not Path("/proc", pid).exists()


def _time_left(seconds: float | None, around: float, workers: int) -> str:
    """Of seconds for one worker, none where nothing was trained."""
    if seconds is None:
        return "no estimate yet"
    nobody = "" if workers else " with one worker; none is training now"
    left = duration(seconds / max(1, workers))
    return f"about {left} left, give or take {percent(around, 0)}{nobody}"


def next_commands(name: str, storage: str, missing: int, has_best: bool) -> list[str]:
    """What to type next, without a password; `missing`: trials."""
    url = shlex.quote(without_password(storage))
    stored = "" if storage == DEFAULT_STORAGE else f" --storage {url}"
    named = f"--study {shlex.quote(name)}{stored}"
    call = as_called("python -m search.")
    more = [f"{call}study {named}   # the other {missing} trials"] if missing > 0 else []
    found = [f"{call}report {named}", f"{call}finalize {named}"] if has_best else []
    return [*more, *found, f"{call}dashboard{stored}"]


def wrap(text: str, first: str = "", indent: str = "", width: int = WIDTH) -> list[str]:
    """Lines of at most `width` that do not part `50 000`, `± 0.26` or `92.93 %`."""
    whole = re.sub(r"(?<=\d) (?=\d{3}\b|[±%])|(?<=±) (?=\d)", "\u00a0", text)
    lines = textwrap.wrap(
        whole, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
    return [line.replace("\u00a0", " ") for line in lines]
