"""Start a study, or carry it on: the same command does both."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from data.datasets import choose_dataset, default_data_dir
from search.reporting.commands import HelpFormatter, duration, natural, positive_int, run
from search.training.device import choose_device, describe_hardware
from search.trials.catalog import (
    carry_on_spec,
    create_study,
    find_study,
    note_environment,
)
from search.trials.config import StudySpec, check_study_name, study_name_for
from search.trials.domains import SpecError
from search.trials.loop import Worker
from search.trials.space import check_space
from search.trials.storage import open_database
from search.trials.study_file import StudyFileError, find_study_file, located, read_study_file
from search.trials.task import load_task
from search.trials.view import load_facts

DEFAULT_STORAGE = "sqlite:///studies.db"
RUNS = Path("runs")
EXAMPLES = """\
examples:
  python -m search.study                            50 trials on Fashion-MNIST into studies.db
  python -m search.study --trials 80                go on with that study, up to 80 trials
  python -m search.study --timeout 30m              leave after half an hour; repeat to go on
  python -m search.study --dataset folder:photos    your own images: photos/train/<class>/*
  python -m search.study --config mine.toml         your own search space; start from a copy
                                                    of search/studies/default.toml
  python -m search.study --status                   how it stands, from another terminal

Ctrl-C stops within seconds and loses nothing; the same command goes on.
"""


def parser() -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(
        prog="python -m search.study",
        description="Search for a good image classifier: start a study, or carry it on.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    own.add_argument(
        "--config", metavar="FILE.toml", help="study file, or the name of a ready-made one"
    )
    own.add_argument(
        "--trials",
        type=positive_int,
        metavar="N",
        help="finished trials (complete or pruned) that the study ends with, a total "
        "(default: the study file's, 50)",
    )
    own.add_argument(
        "--timeout", type=duration, metavar="30m", help="leave after this long; nothing is lost"
    )
    own.add_argument(
        "--dataset",
        metavar="NAME|folder:PATH",
        help="fashion_mnist, mnist, cifar10, cifar100, cifar100_coarse, digits, or a folder of "
        "images (default: Fashion-MNIST; digits where it cannot be had)",
    )
    own.add_argument("--study", metavar="NAME", help="name in the database (default: data set's)")
    own.add_argument(
        "--storage", metavar="URL", default=DEFAULT_STORAGE, help="database (default: %(default)s)"
    )
    own.add_argument(
        "--epochs", type=positive_int, metavar="E", help="most epochs a trial trains (default: 12)"
    )
    own.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    own.add_argument(
        "--seed", type=natural, metavar="S", help="decides split, draws and weights (default: 0)"
    )
    own.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where data sets are kept (default: $SEARCH_DATA_DIR, else data/raw)",
    )
    own.add_argument("--status", action="store_true", help="say how the study stands, and leave")
    return own


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a person asked for, by flags and study file.

    Attributes:
        fields: of `StudySpec`, the file's first and the flags over them.
        named: the fields that must also hold for a study that exists.
        file: where they come from, for messages.
    """

    fields: dict[str, Any]
    named: frozenset[str]
    file: Path

    def spec(self, dataset: str) -> StudySpec:
        return StudySpec(**{**self.fields, "dataset": dataset})


def read_wish(args: argparse.Namespace) -> Wish:
    file = find_study_file(args.config or "default")
    fields = read_study_file(file)
    flags = {
        name: getattr(args, name)
        for name in ("dataset", "trials", "epochs", "seed")
        if getattr(args, name) is not None
    }
    named = {*flags} | ({*fields} if args.config else set())
    return Wish(fields={**fields, **flags}, named=frozenset(named), file=file)


def open_existing(storage: str, name: str | None) -> optuna.Study | None:
    """The study of that name; None where there is no such study, or no database yet."""
    if name is None or not database_exists(storage):
        return None
    return find_study(open_database(storage), name)


def choose(args: argparse.Namespace, wish: Wish, data_dir: Path) -> tuple[str, str, str | None]:
    """(study's name, data set, why it is only the substitute or None)."""
    dataset, reason = wish.fields.get("dataset"), None
    existing = open_existing(args.storage, args.study)
    if dataset is None and existing is not None:
        dataset = load_facts(existing).name
    if dataset is None:
        dataset, reason = choose_dataset(data_dir)
    parts = [wish.file.stem] if args.config else []
    name = args.study or study_name_for("-".join([*parts, study_name_for(dataset)]))
    return check_study_name(name), dataset, reason


def start(args: argparse.Namespace, wish: Wish) -> tuple[Worker, str | None]:
    """Everything that can be wrong is found in here, before anything is written."""
    data_dir = args.data_dir or default_data_dir()
    device = choose_device(args.device)
    name, dataset, reason = choose(args, wish, data_dir)
    existing = open_existing(args.storage, name)
    try:
        if existing is None:
            spec = wish.spec(dataset)
        else:
            spec = carry_on_spec(existing, wish.spec(dataset), wish.named, args.trials)
        task = load_task(
            spec.dataset,
            data_dir,
            device,
            seed=spec.seed,
            image_size=spec.image_size,
            validation_count=spec.validation_count,
            limit=spec.limit,
        )
        check_space(spec, task.image_shape, task.classes)
    except SpecError as error:
        place = located(wish.file, error.key) if error.key in wish.fields else name
        raise StudyFileError(f"{place}: {error}") from error
    folder = make_folder(RUNS / name)
    db = open_database(args.storage)
    study = existing or create_study(
        db, name, spec, task.info, validation_count=len(task.validation)
    )
    note_environment(study, describe_hardware(device))


if __name__ == "__main__":
    run(main)
