"""The trial loop: claim trials, advance them in turn, end them.

Optuna decides (sampler, pruner, storage), the loop drives: only so can a trial be carried on by
another process, be counted exactly, and outlive its worker. See `search.store.claims`.
"""

from __future__ import annotations

from contextlib import ExitStack

from optuna.trial import TrialState

from search.dashboard.artifacts import TrialPictures
from search.running.run import Run, checkpoint_path
from search.running.slots import Packing, Slot, Slots
from search.running.trial import (
    Ending,
    describe,
    end_trial,
    give_up_if_broken,
    is_out_of_memory,
    train_trial,
)
from search.sampling.sampler import make_sampler
from search.store import CheckpointUnwritableError, StorageError
from search.store.claims import COUNTED, COUNTED_OF_ARMS, Done, Wait, claim
from search.store.folders import artifact_folder
from search.store.leases import Heartbeat, Lease, LostLeaseError, release
from search.training.device import MemoryGauge, return_memory
from search.training.epoch import StoppedError
from search.training.files import delete_checkpoint

WAIT_SECONDS = 0.5  # between looks for work while others train the last trials


def train_trials(run: Run) -> None:
    """Train trials until the study has its total, or `stop` is set; lay aside what is left then.

    Raises:
        StudyBrokenError: several trials in a row failed without one success.
        StorageError: the database was unavailable for longer than we wait.
        CheckpointUnwritableError: a finished epoch could not be saved.
        StudyGoneError: the study was deleted, or its database or folder taken away.
    """
    run.study.study.sampler = make_sampler(run.spec)  # Optuna stores none with a study
    slots = Slots(_packing(run))
    pictures = TrialPictures(run.study, artifact_folder(run.folder.parent))
    with Heartbeat(run.db) as heartbeat:
        try:
            while not run.stop.is_set():
                _claim_more(run, slots, heartbeat, pictures)
                if not slots:
                    return
                _advance(run, slots, heartbeat, pictures)
        except StoppedError:
            pass
        except StorageError:
            slots.clear()  # whose leases run out by themselves: nothing can be written now
            raise
        finally:
            for lease in slots.clear():
                release(run.db, lease)


def _packing(run: Run) -> Packing:
    if run.trials_at_a_time is not None:
        return Packing(limit=run.trials_at_a_time)
    device = run.task.device
    return Packing(adapts=device.type == "cuda", fits=MemoryGauge(device).fits)


def _claim_more(run: Run, slots: Slots, heartbeat: Heartbeat, pictures: TrialPictures) -> None:
    """Fill the free slots. On return none is filled only if there is nothing to do, ever."""
    while slots.has_room() and not run.stop.is_set():
        match claim(
            run.study,
            total=run.spec.trials,
            counted=COUNTED_OF_ARMS if run.spec.is_comparison else COUNTED,
            lease_seconds=run.lease_seconds,
        ):
            case Lease() as lease:
                keeping = ExitStack()
                keeping.enter_context(heartbeat.keep(lease))
                training = train_trial(run, lease, heartbeat, pictures)
                slots.add(Slot(lease=lease, training=training, keeping=keeping))
            case Wait() if not slots:
                run.stop.wait(WAIT_SECONDS)
            case Done() if not slots:
                return
            case _:
                slots.rest(WAIT_SECONDS)


def _advance(run: Run, slots: Slots, heartbeat: Heartbeat, pictures: TrialPictures) -> None:
    """Train one trial for a slice; complete, prune or fail it if that was the last one."""
    slot = slots.next()
    lease, crowded = slot.lease, False
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
        slot.training = train_trial(run, lease, heartbeat, pictures)
        return_memory()
    elif ending is not None:
        _end(run, slots, slot, ending)


def _end(run: Run, slots: Slots, slot: Slot, ending: Ending) -> None:
    try:
        end_trial(run, slot.lease, *ending)
    except LostLeaseError:
        slots.remove(slot)
        return
    slots.remove(slot)
    delete_checkpoint(checkpoint_path(run.folder, slot.lease.trial_number))
    return_memory(of_gpu=not slots)
    if ending[0] == TrialState.FAIL:
        give_up_if_broken(run)
    run.on_change()
