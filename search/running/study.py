"""A study, started or carried on."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.datasets import default_data_dir
from search.running.crew import Crew, carry_out
from search.running.planning import make_plan
from search.running.surroundings import check_count, kept_surroundings
from search.spec.config import check_study_name
from search.spec.domains import SpecError
from search.spec.parameters import read_parameter
from search.store.folders import DEFAULT_STORAGE
from search.store.view import StudyView
from search.terminal.summary import fallback_words
from search.training.device import choose_device, prepare_process


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
    weights: str | Path | None = None,
    workers: int | None = None,
    trials_per_device: int | None = None,
    device: str = "auto",
    storage: str = DEFAULT_STORAGE,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    mirror_changes_class: bool | None = None,
    runs_dir: str | Path | None = None,
    timeout: float | None = None,
    stop: threading.Event | None = None,
    progress: bool = True,
) -> StudyView:
    """Start a study, or carry it on where it stopped: the same call does both.

    What `python -m search.study` does; each argument is its flag of that name, and None means what
    leaving the flag out means. Returns when the study has its total.

    An interrupt (Ctrl-C, a notebook's stop button) raises KeyboardInterrupt within seconds, after
    the running trials were laid aside: at most the epochs under way are lost, `load_study` gives
    what is there, and the same call goes on. It is raised, and not returned from, so that a
    notebook that is run as a whole stops there.

    Example:
        >>> view = run_study(dataset="digits", trials=20, seed=0)
        >>> view.best.number, view.best.best.validation_loss

    Args:
        config: a study file (TOML), or a ready-made study's name; None for the default search.
        study: its name in the database; None: the file's or the data set's.
        dataset: fashion_mnist, mnist, cifar10, cifar100, cifar100_coarse, digits or folder:PATH.
        trials: finished trials (complete or pruned) to end with, in all.
        repeats: of a study that compares arms: how many times each is trained, in all.
        epochs: most epochs of a trial.
        limit: train on so many examples only, the same share of each class.
        seed: in [0, 2**32): decides split, draws and initial weights; one worker by default.
        space: in place of the file's, as in its [space]: one value is fixed, a list is a choice,
            a dict with `low`, `high` and `log` or `step` is a range. There is no baseline then.
        weights: a file to start from, in place of those that the study file names.
        workers: processes that train at a time; None: one a core, 8 at most; one on a GPU.
        trials_per_device: that a process trains at a time; None: as many as pay.
        device: auto, cpu, cuda or cuda:N.
        storage: URL of the database, `sqlite:///FILE` or `postgresql://USER@HOST/NAME`.
        data_dir: where data sets are kept; None: as the commands do.
        image_size: side in pixels of the images that a folder's pictures are made; None: chosen.
        mirror_changes_class: a mirrored picture may belong to another class, and none is flipped;
            None: guessed from the data set.
        runs_dir: where files go; None: $SEARCH_RUNS_DIR, or runs/ beside an SQLite file, or ./runs.
        timeout: seconds after which to leave; the same call goes on.
        stop: set it from another thread to leave within seconds.
        progress: show it on standard error.

    Returns:
        The study as it stands then; see `load_study`, `trials_table` and `figures`.

    Raises:
        SpecError, StudyFileError: the study cannot be, or differs from the one of that name.
        DataError: its images cannot be had.
        DeviceError, StorageError: the device or the database cannot be used.
        StudyBrokenError: trial after trial fails.
        CheckpointUnwritableError: a finished epoch could not be saved.

    Warns:
        UserWarning: Fashion-MNIST could not be had and no data set was named: digits stands in.
    """
    if study is not None:
        check_study_name(study)
    for name, value in (("workers", workers), ("trials_per_device", trials_per_device)):
        check_count(name, value)
    if timeout is not None and not timeout > 0:
        raise SpecError("timeout", f"timeout must be seconds above 0, but got {timeout!r}")
    flags = {
        "dataset": dataset,
        "trials": trials,
        "repeats": repeats,
        "epochs": epochs,
        "limit": limit,
        "seed": seed,
        "image_size": image_size,
        "mirror_changes_class": mirror_changes_class,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    if space is not None:
        given |= _fields_of(space, has_file=config is not None)
    crew = Crew(
        device=device,
        data_dir=default_data_dir() if data_dir is None else Path(data_dir),
        runs_dir=None if runs_dir is None else Path(runs_dir),
        workers=workers,
        trials_per_device=trials_per_device,
        repeatable=seed is not None,
    )
    with kept_surroundings():
        prepare_process()
        chosen = choose_device(device)
        with crew.team(chosen, storage) as team:
            plan = make_plan(
                config=None if config is None else str(config),
                flags=given,
                weights=None if weights is None else str(weights),
                study=study,
                url=storage,
                data_dir=crew.data_dir,
                runs_dir=crew.runs_dir,
                device=chosen,
            )
            if plan.substitute is not None:
                warnings.warn(fallback_words(plan.substitute), stacklevel=2)
            return carry_out(
                plan,
                crew,
                team,
                stop=stop or threading.Event(),
                timeout=timeout,
                progress=progress,
                most=None,
            )


def _fields_of(space: Mapping[str, Any], *, has_file: bool) -> dict[str, Any]:
    """Fields of `StudySpec` in place of a file's; what the default file says of its own space goes.

    Raises:
        SpecError: an unknown parameter, or a value of the wrong type.
    """
    fields: dict[str, Any] = {
        "space": {name: read_parameter(name, _as_written(it)) for name, it in space.items()},
        "baseline": None,
    }
    return fields if has_file else {**fields, "title": ""}


def _as_written(value: Any) -> Any:
    """With lists for tuples, as TOML gives them."""
    if isinstance(value, tuple | list):
        return [_as_written(item) for item in value]
    return value
