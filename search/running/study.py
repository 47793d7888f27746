"""Start or resume a study, from the command line and from Python."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from search.analysis.wording import printable
from search.running import by_hand
from search.running.pool import WorkerPool, default_workers, threads_for
from search.running.request import Request, read_request
from search.running.run import make_plan
from search.running.worker import TRIALS_PER_GPU, train_shown, train_trials
from search.spec.domains import SpecError, plain
from search.spec.extensions import load_extension
from search.store.database import optuna_warnings_only, with_retry
from search.store.views import StudyView, view_study
from search.terminal.commands import LONGEST, log
from search.terminal.forecast import forecast
from search.terminal.status import stopped_in_words
from search.terminal.stopping import interrupts_set, stop_after
from search.terminal.summary import fallback_notice, fallback_words, resumed_in_words
from search.training.device import choose_device, kept_threads, prepare_process

if TYPE_CHECKING:
    from search.running.results import Study

Configuration = str | Mapping[str, Any]


def run_study(
    config: str | Path | None = None,
    *,
    study: str | None = None,
    dataset: str | None = None,
    trials: int | None = None,
    repeats: int | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    space: Mapping[str, Any] | None = None,
    warm_start: str | Sequence[str] = (),
    workers: int | None = None,
    trials_per_device: int | None = None,
    continue_trials: int | Sequence[int] = (),
    enqueue: Configuration | Sequence[Configuration] = (),
    stop_when_flat: float | None = None,
    device: str = "auto",
    ray: str | None = None,
    cpus_per_worker: float = 1.0,
    gpus_per_worker: float = 0.0,
    storage: str | None = None,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    mirror_changes_class: bool | None = None,
    runs_dir: str | Path | None = None,
    checkpoints: str | None = None,
    extensions: str | Path | Sequence[str | Path] = (),
    timeout: float | None = None,
    stop: threading.Event | None = None,
    progress: bool = True,
) -> Study:
    """Start a study, or resume it where it stopped: the same call does both.

    Does what `python -m search.study` does; each argument is the option of that name, and None is
    the same as leaving the option out. Returns when the study has its total.

    An interrupt (Ctrl-C, a notebook's stop button) raises KeyboardInterrupt within seconds, after
    the running trials were released: at most the current epochs are lost, `load_study` returns what
    there is, and the same call resumes.

    Example:
        >>> study = run_study(dataset="digits", trials=20, seed=0)
        >>> study.to_pandas().sort_values("value").head()

    Args:
        config: a study file (TOML), or a ready-made study's name; None for the default search.
        seed: in [0, 2**32): decides split, sampling and initial weights; one worker by default.
        space: replaces the file's [space], in its form: one value is fixed, a list is a choice, a
            dict with `low`, `high` and `log` or `step` is a range. There is no baseline then.
        continue_trials: numbers of paused or pruned trials to train to their ends first; in a
            comparison also of failed ones that did not diverge.
        enqueue: configurations of your own, trained before the sampler's: a dict of parameters,
            `"learning_rate=3e-3, depth=4"` or a .toml file of [[trial]] tables, or several.
        warm_start: earlier studies whose best configurations a new one begins with: names in this
            database, or `URL#NAME`.
        stop_when_flat: end the study when further trials are expected to lower its objective by
            less than this.
        device: auto, cpu, cuda or cuda:N.
        ray: train on the nodes of this Ray cluster: `local`, `auto`, `HOST:PORT` or `ray://...`;
            if this process is already connected to a Ray, that one is used.
        cpus_per_worker, gpus_per_worker: a worker's share of a node there; fractions are allowed.
        storage: URL of the database, `sqlite:///FILE` or `postgresql://USER@HOST/NAME`; None:
            $SEARCH_STORAGE, or studies.db in the current folder.
        checkpoints: a folder or URL that every machine reaches (`s3://BUCKET/FOLDER`), for the
            checkpoints of running trials; None: $SEARCH_CHECKPOINTS, or the study's folder.
        mirror_changes_class: a mirrored picture may belong to another class, so none is flipped;
            None: guessed from the data set.
        extensions: Python files of your own that add data sets, network families and more.
        timeout: seconds after which to stop; the same call resumes.
        stop: set it from another thread to stop within seconds.
        progress: show it on standard error.

    Returns:
        The study as it is then; see `load_study`, `to_pandas` and `study_figures`.

    Raises:
        SpecError, StudyFileError: the study or the device is invalid, or the study differs from the
            one of that name.
        DataError: its images are unavailable.
        StorageError: the database cannot be used.
        StudyBrokenError: trial after trial fails.
        CheckpointError: a checkpoint could not be read, or a finished epoch not be saved.
        DeviceLostError: this process can no longer use its GPU; restart it, and the same call
            resumes.

    Warns:
        UserWarning: Fashion-MNIST is unavailable and no data set was named: digits is used.
    """
    given = {
        **locals(),
        "storage": storage or None,
        "checkpoints": checkpoints or None,
        "data_dir": Path(data_dir) if data_dir else None,
    }
    timeout = plain(timeout)
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and 0 < timeout <= LONGEST):
        limits = "seconds above 0, at most a year"
        raise SpecError("timeout", f"timeout must be {limits}, but got {timeout!r}")
    files = [extensions] if isinstance(extensions, str | Path) else extensions
    added = [load_extension(str(file), Path(file)) for file in files]
    file = None if config is None else str(config)
    request = read_request(file, given, space=space, extensions=added)

    def warn(substitute: str) -> None:
        warnings.warn(fallback_words(substitute), stacklevel=5)

    stop = stop or threading.Event()
    with kept_threads(), interrupts_set(stop):
        found = search_study(
            request, stop=stop, timeout=timeout, progress=progress, on_substitute=warn
        )
    from search.running.results import Study  # with the plotting libraries

    return Study.of(found)


def choose_devices(request: Request) -> list[torch.device]:
    """The device of each training process; images are checked on the first one's."""
    devices = [chosen := choose_device(request.device)]
    if request.device in ("auto", "cuda") and chosen.type == "cuda":
        devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    # With several workers, their timing would decide what the sampler proposes, not the seed alone.
    default = 1 if "seed" in request.options else default_workers(chosen.type, len(devices))
    return list(islice(cycle(devices), request.workers or default))


def what_a_seed_costs(request: Request, device: torch.device) -> list[str]:
    """A note that trials train one at a time, and how to change it, if more would be usual."""
    flag, given, usual = "trials-per-device", request.trials_per_device, TRIALS_PER_GPU
    if device.type == "cpu":
        flag, given, usual = "workers", request.workers or 1, default_workers("cpu")
    if "seed" not in request.options or usual == 1 or given != 1:
        return []
    why = "one trial at a time, so that the same --seed gives the same study"
    return [f"{why}; with --{flag} {usual} it takes less time"]


@optuna_warnings_only()
def search_study(
    request: Request,
    *,
    stop: threading.Event,
    timeout: float | None = None,
    progress: bool = True,
    on_substitute: Callable[[str], None] = lambda _: None,
) -> StudyView:
    """Create or resume a study, and train until its total, the time limit or `stop`.

    Any exception, including KeyboardInterrupt, releases the running trials and stops the workers.

    Args:
        timeout: seconds; None: no limit.
        progress: show it on standard error.
        on_substitute: called before any writing, with the reason why digits is used instead.

    Raises:
        ValueError: see `make_plan` and `train_trials`.
    """
    prepare_process()
    making, device = _make_pool(request)
    with making as pool, ExitStack() as opened:
        plan = make_plan(request, device)
        if plan.db is not None:
            opened.callback(plan.db.close)
        if plan.substitute is not None:
            on_substitute(plan.substitute)
        run = plan.begin(stop)
        opened.callback(run.db.close)
        with run.study.told_if_gone():
            told = by_hand.enqueue(run.study, run.spec, plan.queue) if plan.queue else []
            if request.continue_trials:
                told += by_hand.continue_trials(run.study, run.spec, request.continue_trials)
            if progress:
                notes = (*resumed_in_words(plan.existing), *plan.notes, *told, *pool.words)
                for note in (*notes, *what_a_seed_costs(request, device)):
                    log(printable(note))
            with stop_after(timeout, stop):
                train = pool.train if pool.devices else train_trials
                train_shown(run, train, progress=progress)
            return with_retry(run.db, lambda: view_study(run.study))


def rehearse(request: Request) -> str:
    """What would be trained, and how long that may take; no study is created or changed."""
    devices = choose_devices(request)
    prepare_process(threads_for(len(devices)) if devices[0].type == "cpu" else None)
    plan = make_plan(request, devices[0])
    spec, begun, stopped = by_hand.foreseen(plan.existing, plan.spec, request, plan.queue)
    text = forecast(plan.name, spec, plan.task, begun, len(devices))
    notice = "" if plan.substitute is None else f"{fallback_notice(plan.substitute)}\n"
    told = [*plan.notes, *stopped_in_words(stopped)]
    if request.ray is not None:
        told.append("The time is for workers on this machine; those on Ray may be more, or faster.")
    notes = "".join(f"{printable(it)}\n" for it in told)
    end = "No study was created" if plan.existing is None else "The study was not changed"
    return f"{notice}{text}\n\n{notes}{end}. Leave out --dry-run to begin."


def _make_pool(request: Request) -> tuple[AbstractContextManager[WorkerPool], torch.device]:
    """The workers, and where images are checked; without workers, this process trains."""
    same = ("storage", "data_dir", "runs_dir", "checkpoints", "trials_per_device")
    arguments = {name: getattr(request, name) for name in same}
    if request.ray is not None:
        from search.running.on_ray import ray_pool  # otherwise Ray need not be installed

        return ray_pool(request, arguments), torch.device("cpu")
    devices = choose_devices(request)
    threads = threads_for(len(devices)) if devices[0].type == "cpu" else 1
    names = [str(device) for device in devices] if len(devices) > 1 else []
    return nullcontext(WorkerPool(names, {**arguments, "threads": threads})), devices[0]
