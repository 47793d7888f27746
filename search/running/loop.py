"""The trial loop: claim trials, advance them in turn, end them.

Optuna decides (sampler, pruner, storage), the loop drives: only so can a trial be carried on by
another process, be counted exactly, and outlive its worker. See `search.store.claims`.
"""

from __future__ import annotations

from contextlib import ExitStack

from optuna.trial import TrialState

from search.running.packing import Packing
from search.running.resuming import checkpoint_identity, save, saved_state
from search.running.run import Run, checkpoint_path
from search.running.slots import Course, CrowdedError, Packing, Slot, Slots
from search.running.trial import (
    Ending,
    describe,
    end_trial,
    give_up_if_broken,
    is_out_of_memory,
    train_trial,
)
from search.sampling.pruner import should_prune
from search.sampling.sampler import make_sampler
from search.spec.space import suggest
from search.store.claims import COUNTED, COUNTED_OF_ARMS, Done, Wait, claim
from search.store.errors import CheckpointUnwritableError
from search.store.heartbeat import Heartbeat
from search.store.history import record_epoch
from search.store.leases import Lease, LostLeaseError, release, sample
from search.store.pictures import record_confusion
from search.store.storage import StorageError
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
    worker.study.sampler = make_sampler(worker.spec)  # which Optuna does not store
    slots = Slots(_packing(worker))
    with Heartbeat(worker.db) as heartbeat:
        try:
            while not run.stop.is_set():
                _claim_more(run, slots, heartbeat)
                if not slots:
                    return
                _advance(run, slots, heartbeat)
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


def _claim_more(run: Run, slots: Slots, heartbeat: Heartbeat) -> None:
    """Fill the free slots. On return none is filled only if there is nothing to do, ever."""
    while slots.has_room() and not run.stop.is_set():
        match claim(
            run.db,
            run.study,
            total=run.spec.trials,
            counted=COUNTED_OF_ARMS if run.spec.is_comparison else COUNTED,
            lease_seconds=run.lease_seconds,
        ):
            case Lease() as lease:
                keeping = ExitStack()
                keeping.enter_context(heartbeat.keep(lease))
                training = train_trial(run, lease, heartbeat)
                slots.add(Slot(lease=lease, training=training, keeping=keeping))
            case Wait() if not slots:
                run.stop.wait(WAIT_SECONDS)
            case Done() if not slots:
                return
            case _:
                slots.rest(WAIT_SECONDS)


def _advance(run: Run, slots: Slots, heartbeat: Heartbeat) -> None:
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
        slot.training = train_trial(run, lease, heartbeat)
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
    if state == TrialState.FAIL:
        give_up_if_broken(worker)
    worker.on_change()


def _course(worker: Run, lease: Lease, heartbeat: Heartbeat, slots: Slots) -> Course:
    """The training of one trial, a slice for each `next()`; its value is how the trial ended."""
    if lease.exhausted:
        vanished = lease.attempt - 1
        return TrialState.FAIL, (
            f"abandoned {vanished} times without a new epoch: each time its worker was gone"
        )
    try:
        return (yield from _train(worker, lease, heartbeat)), None
    except (StoppedError, LostLeaseError, StorageError, CheckpointUnwritableError):
        raise
    except Exception as error:
        if is_out_of_memory(error) and not slots.is_alone():
            raise CrowdedError from error
        # Whatever a configuration does to its training is its own fault, and not the study's.
        reason = describe(error)
    return TrialState.FAIL, reason


def _train(worker: Run, lease: Lease, heartbeat: Heartbeat) -> Generator[None, None, TrialState]:
    """Train the trial from where it stands to its end; says whether it was pruned."""
    db, study, spec, task = worker.db, worker.study, worker.spec, worker.task
    config, started = sample(
        db, study, lease, lambda trial: (suggest(trial, spec), trial.datetime_start)
    )
    checkpoint = checkpoint_path(worker.folder, lease.trial_number)
    identity = checkpoint_identity(lease, started, config, task.content)
    training = train(
        config.architecture,
        config.recipe,
        task,
        seed=trial_seed(spec.seed, spec.seed_number(lease.trial_number)),
        state=saved_state(worker.db, lease, checkpoint, identity),
        stop=worker.stop,
        early_look=True,
    )
    with closing(training):
        if training.epoch > 0 and should_prune(db, study, spec, lease, training.epoch):
            return TrialState.PRUNED  # what the worker before us died too early to say
        for epoch in training.slices():
            if epoch is not None:
                if heartbeat.lost(lease):
                    raise LostLeaseError(f"trial {lease.trial_number} was taken over")
                refuse_nonsense(epoch)
                _record(worker, lease, epoch)
                if epoch.epoch > 0:
                    worker.check()
                    try:
                        save(checkpoint, {"identity": identity, "training": training.state()})
                    except CheckpointUnwritableError:
                        worker.check()  # the folder may have been taken away at this very moment
                        raise
                if should_prune(db, study, spec, lease, epoch.epoch):
                    return TrialState.PRUNED
            yield
        record_confusion(db, lease, training.confusion().numpy())
    return TrialState.COMPLETE


def _record(worker: Run, lease: Lease, epoch: Epoch) -> None:
    record_epoch(
        worker.db,
        lease,
        epoch=epoch.epoch,
        train_loss=epoch.train_loss,
        train_error=epoch.train_error,
        validation_loss=epoch.validation_loss,
        validation_error=epoch.validation_error,
        learning_rate=epoch.learning_rate,
        seconds=epoch.seconds,
        images=epoch.images,
    )
    if worker.journal is not None:
        worker.journal.acknowledge(lease.trial_number, epoch.epoch, epoch.validation_loss)
