"""A study's winner, trained again on the full training set and scored on the test set once."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data.datasets import count_test, default_data_dir
from models import build
from models.family import count
from models.summary import anatomy
from search.analysis.candidates import Candidate
from search.analysis.final_result import FeatureMaps, FinalResult, metrics
from search.analysis.wording import counted, printable
from search.dashboard.content import ContentWriter
from search.final.choose import (
    as_recorded,
    choose_candidates,
    choose_trial,
    decide,
    require_all_trials,
    stretched,
)
from search.final.export import as_onnx
from search.final.folder import Final, check_writable, make_bundle, write_all
from search.final.runs import THREADS, train_all
from search.final.scoring import begin_evaluation, test
from search.pages.render import evaluated_before, in_utc
from search.spec.domains import SpecError, check_count, check_fields, check_ray, plain
from search.spec.study_name import check_study_name
from search.store import default_storage, folders
from search.store.data import find_place, hold_out, keep_data, keep_weights
from search.store.database import optuna_warnings_only
from search.store.extensions import check_files
from search.store.opening import open_database
from search.store.records import complete_result, require_recordable
from search.store.studies import require_study
from search.store.views import view_study
from search.terminal.commands import log
from search.terminal.stopping import interrupts_set
from search.training.bundle import Bundle
from search.training.device import (
    choose_device,
    describe_hardware,
    kept_threads,
    prepare_process,
    versions,
)
from search.training.task import Task, load_study_task, stage_maps

CANDIDATE_SEEDS = 2


@optuna_warnings_only()
@kept_threads()
def finalise(
    study: str | None = None,
    *,
    storage: str | None = None,
    dataset: str | None = None,
    seeds: int = 3,
    trial: int | None = None,
    arm: str | None = None,
    epochs: int | None = None,
    candidates: int | None = None,
    candidate_seeds: int = CANDIDATE_SEEDS,
    export: str | None = None,
    now: bool = False,
    device: str = "auto",
    ray: str | None = None,
    gpus_per_worker: float = 0.0,
    data_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    stop: threading.Event | None = None,
    progress: bool = False,
) -> Final:
    """Repeat a study's best trial on all training images, and score it on the test set.

    This is what `python -m search.finalize` does. Call it once, when the study is done: each test
    evaluation of new weights is recorded in the database. The files of the N-th go to
    `runs/<study>/final-N/` beside the database; `runs/<study>/final` points to the first.

    An interrupt raises KeyboardInterrupt; the same call resumes, and only current epochs are lost.

    Example:
        >>> final = finalise("digits", seeds=3)
        >>> final.metrics["test"]["accuracy"], final.metrics["test"]["std"]

    Args:
        study: its name; None for the most recently active one.
        storage: URL of the database; None: $SEARCH_STORAGE, or studies.db in the current folder.
        dataset: the study's if it was moved: `folder:PATH`, `npz:FILE` or `FILE.py:FUNCTION`.
        seeds: number of training runs, from 1 up; the metrics are means over them.
        trial: number of the trial to finalise instead of the best.
        arm: take the best repeat of this arm of a comparison.
        epochs: number of epochs to train, with the recipe's schedule scaled to match, and stronger
            augmentation if the trial memorised its images (`search.final.choose.stretched`); None:
            the study's `final_epochs`, or up to the trial's best epoch with its schedule unchanged.
        candidates: number of the best trials, from 2 up (complete ones, and those stopped past half
            their epochs), that are first trained again with fresh seeds on the study's own split;
            the one with the lowest mean value is finalised. `epochs` applies to these runs, too.
        candidate_seeds: number of fresh seeds, from 1 up; with 1 there is no measure of certainty.
        export: "onnx" writes `model.onnx` too.
        now: finalise even if some of the study's trials have not finished.
        device: auto, cpu, cuda or cuda:N. On a CPU each training has one thread.
        ray: train on the nodes of this Ray cluster, as for `run_study`; testing is done here.
        gpus_per_worker: GPUs of each training on Ray; with 0 it trains on a CPU.
        data_dir: where data sets are kept; None: the same default as the commands.
        runs_dir: where files go; None: $SEARCH_RUNS_DIR, or runs/ beside an SQLite file, or ./runs.
        stop: set it from another thread to stop at the next training step.
        progress: report each epoch, and earlier test evaluations, on standard error.

    Raises:
        SpecError: an argument is invalid, or there is no such device.
        StorageError: no such database, study, trial or arm; it is not finished, or not writable.
        StudyGoneError: the study or its folder was deleted meanwhile; nothing was recorded.
        DataError: images are not available; they or the initial weights are not the study's own.
        BundleError, CheckpointError: files cannot be read, written or exported.
        RepeatError: a training diverged or died.
        StoppedError: `stop` was set; the same call resumes.
    """
    if study is not None:
        check_study_name(study)
    seeds, epochs, candidates, candidate_seeds, trial, gpus_per_worker = map(
        plain, (seeds, epochs, candidates, candidate_seeds, trial, gpus_per_worker)
    )
    check_count("seeds", seeds)
    check_count("epochs", epochs)
    check_count("candidates", candidates)
    check_count("candidate_seeds", candidate_seeds)
    check_fields({"trial": trial}, {"trial": count(0, "its number", least=0)}, optional=["trial"])
    check_ray(ray, gpus_per_worker)
    if candidates is None and candidate_seeds != CANDIDATE_SEEDS:
        raise SpecError("candidate_seeds", "candidate_seeds is for --candidates; give both")
    if candidates == 1:
        raise SpecError("candidates", "candidates must be 2 or more to choose from, but got 1")
    named = {"trial": trial, "arm": arm, "candidates": candidates}
    if len(given := {name: it for name, it in named.items() if it is not None}) > 1:
        raise SpecError("trial", f"give one of trial, arm and candidates, but got {given}")
    if export not in (None, "onnx"):
        raise SpecError("export", f"export must be 'onnx' or None, but got {export!r}")
    on = choose_device(device)
    if ray is not None and (on.type == "cuda") != (gpus_per_worker > 0):
        raise SpecError(
            "gpus_per_worker",
            f"this process tests on {on.type}, and training on Ray must use the same kind of "
            "device; give --device cpu, or, if this host has a GPU too, --gpus-per-worker above 0",
        )
    prepare_process(THREADS if on.type == "cpu" else None)
    storage = storage or default_storage()
    images = default_data_dir() if data_dir is None else Path(data_dir)
    stop = stop or threading.Event()
    with (
        interrupts_set(stop),
        closing(open_database(storage, must_exist=True, runs_dir=runs_dir)) as db,
    ):
        found = require_study(db, study, check_files)
        view = view_study(found)
        epochs = epochs or view.spec.final_epochs
        chosen = stretched(choose_trial(view, trial, arm), epochs)
        several = [] if candidates is None else choose_candidates(view, candidates, epochs)
        if not now:
            require_all_trials(view)
        source = find_place(found, dataset, images)
        task = load_study_task(view.spec, images, on, place=source, final=True)
        keep_data(found, task)
        hold_out(task, images)
        weights = keep_weights(
            found, [it.config.recipe.initial_weights for it in (chosen, *several)]
        )
        count_test(source, images, reading=view.spec.reading)  # notices a damaged test file early
        folder = folders.study_folder(found, folders.runs_folder(storage, runs_dir))
        check_writable(folder)
        require_recordable(found)
        if export is not None:  # before anything is trained or tested
            for one in several or [chosen]:
                network = build(one.config.architecture, task.image_shape, task.classes)
                untrained = make_bundle(view, one, task, 0, network.state_dict())
                as_onnx(untrained, task.training.images_NCHW)
        say = log if progress else lambda _: None
        if (lacking := view.spec.trials - view.finished) > 0:
            say(f"Note: the study still lacks {lacking} of its trials.")
        ended = replace(view, results=tuple(it for it in view.results if it.figures is not None))
        if ended.results:  # one that was killed may be this one
            say(f"Note: {printable(evaluated_before(ended, chosen.trial))}")
        check = folders.presence_check(found, folder)
        train = partial(
            train_all, stop=stop, check=check, progress=progress, ray=ray, gpus=gpus_per_worker
        )
        common: dict[str, Any] = {
            "spec": view.spec,
            "data_dir": images,
            "checkpoints": folder / folders.CHECKPOINTS,
            "content": task.content,
            "place": source,
            "weights": weights,
        }
        rivals = [
            job for one in several for job in one.jobs(candidate_seeds, is_candidate=True, **common)
        ]
        decided: tuple[Candidate, ...] = ()
        if rivals:
            say(
                f"Trials {', '.join(str(one.trial.number) for one in several)} of study "
                f"{view.name}, each trained again on the study's own split with "
                f"{counted(candidate_seeds, 'fresh seed')}, to choose between them"
            )
            chosen, decided = decide(view, several, train(rivals, rivals[0].load(on)))
        if chosen.why:
            say(f"Note: {printable(chosen.why)}")
        say(
            f"Trial {chosen.trial.number} of study {view.name}, trained on all training images, "
            f"{counted(seeds, 'time')}"
        )
        finals = chosen.jobs(seeds, **common)
        runs = train(finals, task)
        bundle = make_bundle(view, chosen, task, runs[0].seed, runs[0].weights)
        inside = look_inside(bundle, task)

        # Training may have taken hours: check again what could fail once the evaluation has begun.
        folders.check_folder(found, folder)
        check_writable(folder)
        row, earlier = begin_evaluation(found, chosen.trial, finals[0], task, runs)
        if row.figures is None and any(it.result_id == row.result_id for it in view.results):
            say(f"Note: this completes the test evaluation begun on {in_utc(row.opened_at)}.")
        if row.figures is not None:
            lost, (chosen, recorded) = "", as_recorded(view, chosen, row)
            if decided and not recorded:
                lost = " This choice among candidates is not added to them."
            decided = recorded
            bundle = replace(bundle, trial=chosen.trial.number, temperature=chosen.temperature)
            epochs = row.figures.get("requested_epochs", epochs)
            say(
                f"Note: these networks were tested on {in_utc(row.opened_at)} already; the "
                f"recorded results are used, and no test evaluation is added.{lost}"
            )
        result = FinalResult(
            view=replace(view, results=earlier),
            trial=chosen.trial,
            epochs=chosen.epochs,
            layers=anatomy(chosen.config.architecture, task.image_shape, task.classes),
            training_count=len(task.training),
            opened_at=row.opened_at,
            hardware=("" if ray is None else "trained on Ray, tested on ") + describe_hardware(on),
            versions=versions(),
            temperature=bundle.temperature,
            why=chosen.why,
            candidates=decided,
            requested_epochs=epochs,
            evaluation=len(earlier) + 1,
            fingerprint=None if task.content is None else task.content.digest,
            **inside,
            **test(finals[0], task, runs, bundle, row.figures),
        )
        written = metrics(result)
        kept = {name: written[name] for name in ("confusion", "candidates", "requested_epochs")}
        complete_result(db, row.result_id, {**written["test"], **kept})
        final = write_all(folder, result, bundle, task.training.images_NCHW if export else None)
        folders.sweep(found, folder)
        ContentWriter(found).write()
        return final


def look_inside(bundle: Bundle, task: Task) -> dict[str, Any]:
    """`kernels` and `features` of `FinalResult`, as far as the network has them.

    The features are those of the first training image of the first class that has any.
    """
    index = int(task.training.labels_N.argmin())
    image_CHW = task.training.images_NCHW[index].cpu()
    name = task.info.class_names[int(task.training.labels_N[index])]
    what = f"training image {index}: {printable(name)}"
    stages = stage_maps(bundle.network(), image_CHW, bundle.mean_C, bundle.std_C)
    features = FeatureMaps(image_CHW=image_CHW.numpy(), what=what, stages=stages)
    weight = bundle.weights.get(f"{next(iter(stages), None)}.weight")
    # A user's own network may begin with a block, which has no kernels of its own.
    kernels = None if weight is None or weight.ndim != 4 else weight.float().numpy()
    return {"kernels": kernels, "features": features if stages else None}
