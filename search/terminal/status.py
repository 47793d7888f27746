"""The state of a study, for `--status`: a few queries, however long the study is.

Loads neither Optuna nor a view of every trial, so that it answers at once. Only reads tables.
"""

from __future__ import annotations

import json
import re
import socket
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from search.analysis.measures import MEASURES, accuracy_of
from search.analysis.time_left import MOST_BETWEEN, TimeLeft, Trained, estimate
from search.analysis.wording import (
    WORDS,
    duration,
    numbers_in_words,
    percent,
    printable,
    warm_start_in_words,
)
from search.spec.config import WARM_START, Earlier, StudySpec
from search.spec.recipe import PARTIAL_EPOCH
from search.store import NOW, is_sqlite, latest_study, mask_password, read_url
from search.terminal.command_line import command

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from search.store.views import State

WIDTH = 80
MOST_FAILURES = 10  # listed one by one
PATIENCE = 5  # seconds, for a database that is locked or silent
TRIALS = """
    WITH spent AS (
        SELECT trial_id, epoch, seconds,
            reported_at - lag(reported_at) OVER (PARTITION BY worker ORDER BY reported_at) AS gap
        FROM epochs WHERE study_id = :study
    ), trained AS (
        SELECT trial_id, max(epoch) AS epoch,
            sum(CASE WHEN gap > seconds AND gap < seconds + :between THEN gap ELSE seconds END)
            AS seconds
        FROM spent GROUP BY trial_id
    )
    SELECT t.number, t.state, l.worker, l.expires_at, l.expires_at < {now} AS is_late, l.paused,
        e.epoch, e.seconds, v.intermediate_value AS value,
        a.value_json AS reason, c.key AS continued
    FROM trials t
    LEFT JOIN leases l ON l.trial_id = t.trial_id
    LEFT JOIN trained e ON e.trial_id = t.trial_id
    LEFT JOIN trial_intermediate_values v ON v.trial_id = e.trial_id AND v.step = e.epoch
    LEFT JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'reason'
    LEFT JOIN trial_user_attributes c ON c.trial_id = t.trial_id AND c.key = 'continued'
    WHERE t.study_id = :study ORDER BY t.number
"""
BEST = """
    SELECT e.trial_number, e.epoch, v.intermediate_value, e.validation_error FROM epochs e
    JOIN trials t ON t.trial_id = e.trial_id
    JOIN trial_intermediate_values v ON v.trial_id = e.trial_id AND v.step = e.epoch
    WHERE t.study_id = :study AND t.state = 'COMPLETE' AND e.epoch > 0
        AND v.intermediate_value IS NOT NULL
    ORDER BY v.intermediate_value, e.trial_number, e.validation_loss, e.epoch LIMIT 1
"""


def quick_status(url: str, name: str | None = None) -> str | None:
    """The text, of the study worked on last if none is named; None if the database or the study
    has to be opened to find out what is wrong."""
    address = read_url(url)
    if address is None or (is_sqlite(address) and not Path(address.database or "").is_file()):
        return None
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    arguments: dict[str, Any] = {"timeout": PATIENCE}
    if not is_sqlite(address):
        address = address.set(drivername="postgresql+psycopg")
        arguments = {"connect_timeout": PATIENCE, "client_encoding": "utf8"}
    try:
        engine = create_engine(address, poolclass=NullPool, connect_args=arguments)
        with engine.connect() as connection:
            return "\n".join(_lines(connection, mask_password(url), name))
    except Exception:  # of any kind: opening the database reports it on one line
        return None


def _lines(connection: Connection, url: str, name: str | None) -> Iterator[str]:
    from sqlalchemy import text

    def ask(query: str, **values: Any) -> list[Any]:
        return list(connection.execute(text(query), values).all())

    by_name = "SELECT study_id, study_name FROM studies WHERE study_name = :name"
    ((study, name),) = ask(by_name, name=name or latest_study(connection))
    attributes = "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study"
    stored = {key: json.loads(value) for key, value in ask(attributes, study=study)}
    spec, facts = StudySpec.from_dict(stored["spec"]), stored["dataset"]
    measure = MEASURES[spec.objective]
    query = TRIALS.format(now=NOW[connection.dialect.name])
    trials = [(_state(row), row) for row in ask(query, study=study, between=MOST_BETWEEN)]
    counts = Counter(state for state, _ in trials)
    finished = counts["complete"] + counts["pruned"] + counts["failed"] * spec.is_comparison
    stopped = stored.get("stopped")
    total = finished if stopped and finished else max(spec.trials, finished)
    told = numbers_in_words({state: counts[state] for state in WORDS})
    yield from wrap(f"Study {name}: {finished} of {total} trials finished ({told})")
    yield from wrap(f"{facts['title']}. {stored.get('hardware', 'unknown')}.")
    for one in map(Earlier.from_dict, stored.get(WARM_START, ())):
        yield from wrap(f"{warm_start_in_words(one)}.")
    yield from stopped_in_words(stopped)
    if finished < total:
        trained = [
            Trained(
                row.number,
                state,
                row.epoch or PARTIAL_EPOCH * (row.epoch == 0),
                row.seconds or 0,
                row.continued is not None,
                row.worker,
            )
            for state, row in trials
        ]
        left = time_left_in_words(estimate(spec, trained), idle=not counts["running"])
        yield from wrap(f"Time: {left}.")
    titles: dict[State, str] = {
        "running": "Running",
        "interrupted": "Interrupted, for the next worker to resume",
    }
    for wanted, title in titles.items():
        yield from ["", f"{title}:"] * (counts[wanted] > 0)
        for row in (row for state, row in trials if state == wanted):
            reached = "nothing reported yet"
            if row.epoch is not None:
                value = "not finite" if row.value is None else measure.shown(row.value)
                reached = f"epoch {row.epoch or 1} of {spec.epochs}, {measure.words} {value}"
            worker = ":".join((row.worker or "unknown").split(":")[:2])  # host and process
            on = f", on {printable(worker)}" if wanted == "running" else ""
            yield from wrap(f"trial {row.number}, {reached}{on}", "  ", "    ")
    failed = [row for state, row in trials if state == "failed"]
    yield from failures([(row.number, json.loads(row.reason or '""')) for row in failed])
    best = ask(BEST, study=study)
    for number, epoch, value, error in best:
        accuracy = accuracy_of([error], int(facts["validation_count"]))
        score = f"{measure.words} {measure.shown(value)}, accuracy {accuracy}"
        yield from ["", *wrap(f"Best: trial {number}, {score}, epoch {epoch}")]
    yield from ["", "Next:"]
    tested = bool(ask("SELECT 1 FROM results WHERE study_name = :name", name=name))
    more = next_commands(name, url, total - finished, bool(best), evaluated=tested)
    yield from (f"  {one}" for one in more)


def stopped_in_words(why: str | None) -> list[str]:
    """That a study ended before its total, and how to resume it."""
    if not why:
        return []
    more = "To resume, repeat the command without --stop-when-flat or with more --trials than that."
    return wrap(f"Ended early: {why}. {more}")


def failures(failed: Sequence[tuple[int, str | None]]) -> Iterator[str]:
    """Why the latest failed trials failed; `failed`: (number, reason), by number."""
    latest = failed[-MOST_FAILURES:]
    few = "" if len(latest) == len(failed) else f", the latest {len(latest)}"
    yield from ["", f"Failed{few}:"] * bool(latest)
    for number, reason in latest:
        why = printable(str(reason or "for an unknown reason"))
        yield from wrap(f"trial {number}: {why}", "  ", "    ")


def _state(row: Any) -> State:
    """Whether a worker has ended is only a guess; `search.store.claims` knows, but loads Optuna."""
    if row.state != "RUNNING":
        state: State = "failed" if row.state == "FAIL" else row.state.lower()
        return state
    if row.paused is not None and row.expires_at is None:
        return "paused"
    if row.worker is None:
        return "running"
    host, pid, *_ = row.worker.split(":")
    here = host == socket.gethostname() and pid.isdigit()
    gone = here and not psutil.pid_exists(int(pid))
    return "interrupted" if gone or row.expires_at is None or row.is_late else "running"


def time_left_in_words(left: TimeLeft | None, *, idle: bool = False) -> str:
    """`about 14 min left, give or take 40 %`, `no estimate yet`, `done`; one standard deviation.
    idle: no worker is training now; the estimate is for one."""
    if left is None:
        return "no estimate yet"
    if left == TimeLeft(0.0, 0.0):
        return "done"
    if left.seconds < 1:
        return "moments left"
    nobody = " with one worker; none is training now" if idle else ""
    return f"about {duration(left.seconds)} left, give or take {percent(left.spread, 0)}{nobody}"


def next_commands(
    name: str, storage: str, missing: int, has_best: bool, *, evaluated: bool = False
) -> list[str]:
    """What to type next, without a password; `missing`: trials; evaluated: on the test set."""
    modules = ("report", "finalize")[: 2 - evaluated] if has_best else ()
    found = [command(module, name, storage) for module in modules]
    if missing > 0:
        found.insert(0, f"{command('study', name, storage)}   # the other {missing} trials")
    return [*found, command("dashboard", None, storage)]


def wrap(text: str, first: str = "", indent: str = "") -> list[str]:
    """Printable lines of at most WIDTH that do not split what `unbroken` keeps together."""
    lines = textwrap.wrap(
        unbroken(printable(text)),
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return [line.replace("\u00a0", " ") for line in lines]


def unbroken(text: str) -> str:
    """With no-break spaces in `50 000`, `± 0.26` and `92.93 %`."""
    return re.sub(r"(?<=\d) (?=\d{3}\b|[±%])|(?<=±) (?=\d)", "\u00a0", text)
