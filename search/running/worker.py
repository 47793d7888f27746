"""A worker: it joins a study, claims trials, advances them in turn, and ends them.

Optuna decides (sampler, pruner, storage), the loop drives: only so can a trial be carried on by
another process, be counted exactly, and outlive its worker. See `search.store.claims`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from search.dashboard.artifacts import TrialPictures
from search.running.run import Run, begin_run, checkpoint_path
from search.running.slots import Packing, Slot, Slots
from search.running.trial import (
    Ending,
    describe,
    end_trial,
    give_up_if_broken,
    is_out_of_memory,
    train_trial,
)
from search.sampling.chooser import Chooser, make_chooser
from search.sampling.sampler import make_sampler
from search.spec.config import check_study_name
from search.spec.space import check_space
from search.store import CheckpointUnwritableError, StorageError, StudyGoneError
from search.store.claims import COUNTED, COUNTED_OF_ARMS, Done, Wait, claim
from search.store.data import find_place, load_study_task
from search.store.database import optuna_warnings_only
from search.store.folders import artifact_folder, runs_folder, sweep
from search.store.leases import Heartbeat, Lease, LostLeaseError, drop, release
from search.store.opening import open_database
from search.store.reading import view_study
from search.store.studies import load_spec, require_study
from search.terminal.commands import BAD_INPUT, console
from search.terminal.progress import Progress
from search.terminal.stopping import StopOnSignal
from search.training.device import (
    MemoryGauge,
    choose_device,
    describe_hardware,
    prepare_process,
    return_memory,
)
from search.training.epoch import StoppedError
from search.training.files import delete_checkpoint
from search.training.weights import check_training

WAIT_SECONDS = 0.5  # between looks for work while others train the last trials
Start = Callable[[Lease], Generator[None, None, Ending]]


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
        db.leaving = stopping.event
        found = require_study(db, study)
        with found.told_if_gone():
            runs, spec = runs_folder(storage, runs_dir), load_spec(found)
            place = find_place(found, dataset, data_dir)
            task = load_study_task(spec, data_dir, chosen, place=place)
            # Whoever made the study has checked it; whoever can write to the database may have not.
            check_space(spec, task.image_shape, task.classes)
            check_training(spec, task.image_shape, task.classes)
            run = begin_run(
                found,
                spec,
                task,
                runs=runs,
                stop=stopping.event,
                trials_at_a_time=trials_per_device,
            )
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


def train_trials(run: Run) -> None:
    """Train trials until the study has its total, or `stop` is set; lay aside what is left then.

    Raises:
        StudyBrokenError: several trials in a row failed without one success.
        StorageError: the database was unavailable for longer than we wait.
        CheckpointUnwritableError: a finished epoch could not be saved.
        StudyGoneError: the study was deleted, or its database or folder taken away.
    """
    run.study.study.sampler = make_sampler(run.spec)  # Optuna stores none with a study
    device = run.task.device
    adapts = run.trials_at_a_time is None and device.type == "cuda"
    fits = MemoryGauge(device).fits
    slots = Slots(Packing(limit=run.trials_at_a_time or 1, adapts=adapts, fits=fits))
    pictures = TrialPictures(run.study, artifact_folder(run.folder.parent))
    chooser = make_chooser(run.study, run.spec)
    with Heartbeat(run.db) as heartbeat:

        def start(lease: Lease) -> Generator[None, None, Ending]:
            return train_trial(run, lease, heartbeat, pictures, chooser)

        try:
            while not run.stop.is_set():
                _claim_more(run, slots, heartbeat, start, chooser)
                if not slots:
                    return
                _advance(run, slots, start, chooser)
        except StoppedError:
            pass
        except StorageError:
            slots.clear()  # whose leases run out by themselves: nothing can be written now
            raise
        finally:
            for lease in slots.clear():
                release(run.db, lease)


def _claim_more(
    run: Run, slots: Slots, heartbeat: Heartbeat, start: Start, chooser: Chooser | None
) -> None:
    """Fill the free slots. On return none is filled only if there is nothing to do, ever."""
    while slots.has_room() and not run.stop.is_set():
        match claim(
            run.study,
            total=run.spec.trials,
            counted=COUNTED_OF_ARMS if run.spec.is_comparison else COUNTED,
            choose=chooser,
            lease_seconds=run.lease_seconds,
        ):
            case Lease() as lease:
                keeping = ExitStack()
                keeping.enter_context(heartbeat.keep(lease))
                slots.add(Slot(lease=lease, training=start(lease), keeping=keeping))
            case Wait() if not slots:
                run.stop.wait(WAIT_SECONDS)
            case Done() if not slots:
                return
            case _:
                slots.rest(WAIT_SECONDS)


def _advance(run: Run, slots: Slots, start: Start, chooser: Chooser | None) -> None:
    """Train one trial for a slice; end it or lay it aside if that was the last one."""
    slot = slots.next()
    crowded = False
    try:
        ending = slots.advance(slot)
    except LostLeaseError:
        slots.remove(slot)  # another worker took the trial over; its checkpoint is in use there
        return
    except (StoppedError, StorageError, CheckpointUnwritableError):
        raise
    except Exception as error:
        # Whatever a configuration does to its training is its own fault, and not the study's.
        crowded = is_out_of_memory(error) and not slots.is_alone()
        ending = TrialState.FAIL, describe(error)
    # Out here no error holds on to tensors any more.
    if crowded:
        slots.crowd_out(slot)
        slot.training = start(slot.lease)
        return_memory()
        return
    if ending is None:
        return
    try:
        end_trial(run, slot.lease, *ending)
    except LostLeaseError:
        slots.remove(slot)
        return
    slots.remove(slot)
    ended: Sequence[int] = [slot.lease.trial_number]
    if ending[0] == TrialState.RUNNING and chooser is not None:
        ended = drop(run.study, chooser.surplus())
    for number in ended:
        delete_checkpoint(checkpoint_path(run.folder, number))
    return_memory(of_gpu=not slots)
    if ending[0] == TrialState.FAIL:
        give_up_if_broken(run)
    run.on_change()
