"""How a process joins a study that is there, and trains its trials until it has its total."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from search.running.loop import train_trials
from search.running.run import begin_run
from search.spec.config import check_study_name
from search.spec.space import check_space
from search.store import StudyGoneError
from search.store.data import find_place, load_study_task
from search.store.database import optuna_warnings_only
from search.store.folders import runs_folder, sweep
from search.store.opening import open_database
from search.store.reading import view_study
from search.store.studies import load_spec, require_study
from search.terminal.commands import BAD_INPUT, console
from search.terminal.progress import Progress
from search.terminal.stopping import StopOnSignal
from search.training.device import choose_device, describe_hardware, prepare_process
from search.training.weights import check_training


@optuna_warnings_only()
def join_study(
    *,
    storage: str,
    study: str | None,
    data_dir: Path,
    dataset: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    trials_per_device: int | None = None,
    runs_dir: Path | None = None,
    quiet: bool = False,
) -> int:
    """What `python -m search.worker` does; arguments are its options. Returns the exit code."""
    if study is not None:
        check_study_name(study)
    chosen = choose_device(device)
    prepare_process(threads)
    with StopOnSignal() as stopping:
        db = open_database(storage, must_exist=True)
        stopping.on_signal = db.hurry
        found = require_study(db, study)
        with found.told_if_gone():
            runs, spec = runs_folder(storage, runs_dir), load_spec(found)
            place = find_place(found, dataset, data_dir)
            task = load_study_task(spec, data_dir, chosen, place=place)
            # Whoever made the study has checked it; whoever can write to the database may have not.
            check_space(spec, task.image_shape, task.classes)
            check_training(spec, task.image_shape, task.classes)
            options = {"stop": stopping.event, "trials_at_a_time": trials_per_device}
            run = begin_run(found, spec, task, runs=runs, **options)
            if quiet:
                train_trials(run)
                return stopping.exit_code
            sweep(found, run.folder)
            print(f"{describe_hardware(chosen)} joins study {found.name}", file=sys.stderr)
            read = found.told_if_gone()(partial(view_study, found))
            with Progress(read, console=console()):
                train_trials(run)
            # Workers that a study command starts are spared the libraries for pictures.
            from search.dashboard.content import ContentWriter

            ContentWriter(found).write()
            sweep(found, run.folder)
    return stopping.exit_code


def work_for_study(arguments: Mapping[str, Any]) -> int:
    """What a worker that `search.running.pool` has started does; see `join_study`."""
    try:
        return join_study(**arguments, quiet=True)
    except StudyGoneError:
        return BAD_INPUT  # the process that has started this one says it for all
