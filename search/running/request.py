"""The user's request: a study file, options that override it, and where to run the study."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.datasets import canonical_name, default_data_dir, find_dataset
from data.errors import DataError
from data.extensions import is_reference
from models.checks import shown
from search.spec.config import StudySpec
from search.spec.domains import SpecError, check_count, check_ray, plain
from search.spec.extensions import Extension, file_of, load_extension, register_from_here
from search.spec.parameters import families_in, read_tables
from search.spec.study_file import (
    StudyFileError,
    find_study_file,
    read_configurations,
    read_study_file,
)
from search.spec.study_name import check_study_name, study_name_for
from search.store import default_checkpoints, default_storage

if TYPE_CHECKING:
    from search.store.studies import StudyHandle

OPTIONS = (  # fields of StudySpec that have an option of their own
    *("dataset", "trials", "repeats", "epochs", "limit", "seed"),
    *("image_size", "mirror_changes_class"),
)
OF_ITS_DATASET = ("validation_count", "image_size", "mirror_changes_class", "source", "published")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the user asks for; made by `read_request`.

    Attributes:
        fields: the study file's, as arguments of `StudySpec`.
        options: fields of `StudySpec` given as options, which override the file's.
        file: the study file, for messages and for the study's name.
        names_file: whether the user named it; an existing study must then agree with it.

    The others are arguments of `run_study`; `enqueue` holds what `read_configurations` returns.
    """

    fields: Mapping[str, Any]
    options: Mapping[str, Any]
    file: Path
    names_file: bool
    study: str | None = None
    storage: str = field(default_factory=default_storage)
    data_dir: Path = field(default_factory=default_data_dir)
    runs_dir: Path | None = None
    checkpoints: str | None = field(default_factory=default_checkpoints)
    device: str = "auto"
    workers: int | None = None
    trials_per_device: int | None = None
    continue_trials: Sequence[int] = ()
    enqueue: Sequence[Mapping[str, Any]] = ()
    warm_start: Sequence[str] = ()
    stop_when_flat: float | None = None
    ray: str | None = None
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        for name in ("workers", "trials_per_device"):
            check_count(name, getattr(self, name))
        check_ray(self.ray, self.gpus_per_worker)
        if self.ray is not None and self.device != "auto":
            raise SpecError("device", "--device is for this machine; with --ray, --gpus-per-worker")
        for name in ("stop_when_flat", "cpus_per_worker"):
            value = getattr(self, name)
            is_above_0 = isinstance(value, int | float) and 0 < value < math.inf
            if value is not None and not is_above_0:
                raise SpecError(name, f"{name} must be a number above 0, but got {value!r}")

    @property
    def dataset(self) -> str | None:
        """The data set that options or file name."""
        name: str | None = self.options.get("dataset", self.fields.get("dataset"))
        return name

    @property
    def named_place(self) -> str | None:
        """The same; None for a folder or file that only the study file names, and that is gone."""
        return None if "dataset" not in self.options and self._own_is_gone() else self.dataset

    def _own_is_gone(self) -> bool:
        own = self.fields.get("dataset")
        path = None if own is None else find_dataset(own).path
        return path is not None and not path.exists()

    def study_name(self, dataset: str) -> str:
        """The study's name; if none was given, made from its file, its data set and the limit."""
        if self.study is not None:
            return self.study
        name = study_name_for(dataset)
        if self.names_file:
            stem = study_name_for(self.file.stem)
            name = stem if self._is_of(dataset) else f"{stem}-{name}"
        if "limit" in self.options:
            name += f"-limit{self.options['limit']}"
        return check_study_name(name)

    def spec(
        self, dataset: str, existing: StudyHandle | None = None, place: str | None = None
    ) -> StudySpec:
        """What to run; for an existing study its own specification, except for the total.

        Args:
            place: the user's name for the data set, if an existing study has another one.

        Raises:
            SpecError: values that cannot be combined, or that differ from the existing study's.
        """
        from search.store.studies import load_spec, resumed_spec

        fields = self._fields_on(place or dataset)
        if existing is not None:
            stored = load_spec(existing)
            if not self.names_file:
                fields = {it.name: getattr(stored, it.name) for it in dataclasses.fields(stored)}
        options = self._options_over(fields)
        if place is not None and place != dataset and is_reference(place):
            load_extension(file_of(dataset), Path(file_of(place)))  # not from where it was
        wanted = StudySpec(**{**fields, **options, "dataset": dataset})
        if existing is None:
            return wanted
        named = {*options, *(self.fields if self.names_file else ())}
        if wanted.is_comparison and "repeats" in named:
            named.add("trials")  # which follows from them
        if "trials" not in options and wanted.trials < stored.trials:
            named.discard("trials")  # the file does not lower a total that an option has raised
        return resumed_spec(existing, wanted, named)

    def _fields_on(self, dataset: str) -> dict[str, Any]:
        """The file's fields; for another data set, without what only holds for the file's own."""
        if self.fields.get("dataset") is None or self._is_of(dataset):
            return dict(self.fields)
        fields = {name: it for name, it in self.fields.items() if name not in OF_ITS_DATASET}
        if "arms" in fields:
            fields["arms"] = tuple(replace(arm, reported={}) for arm in fields["arms"])
        return fields

    def _is_of(self, dataset: str) -> bool:
        """Whether the file is about this data set, which may have moved."""
        own = self.fields.get("dataset")
        if own is None:
            return False
        if own == dataset or canonical_name(own) == canonical_name(dataset):
            return True
        return self._own_is_gone() and find_dataset(dataset).path is not None

    def _options_over(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The options, if they suit these fields; a comparison's total follows from `repeats`."""
        options, arms = dict(self.options), len(fields.get("arms", ()))
        of_other_kind = {
            "trials": f"--trials is for a search, but this study compares {arms} arms; give "
            f"--repeats R, which makes {arms} x R trials",
            "space": f"this study compares {arms} arms, whose base is its file's own [space]",
            "repeats": "--repeats is for a study with [[arm]] tables, but this one searches a "
            "space; give --trials N",
        }
        for name in ("trials", "space") if arms else ("repeats",):
            if name in options:
                raise SpecError(name, of_other_kind[name])
        if "repeats" in options:
            options["trials"] = arms * options["repeats"]
        return options

    def with_file(self, error: SpecError) -> ValueError:
        """The error, naming the study file if it stems from that."""
        of_file, of_options = (
            {*fields, *fields.get("space", ())} for fields in (self.fields, self.options)
        )
        is_of_file = error.key in of_file - of_options
        return StudyFileError(f"{self.file}: {error}") if is_of_file else error


def read_request(
    config: str | None,
    given: Mapping[str, Any],
    *,
    space: Mapping[str, Any] | None = None,
    extensions: Sequence[Extension] = (),
) -> Request:
    """Read the study file and combine it with what the user gave.

    Args:
        config: name or path of a study file; None for the default one.
        given: values of OPTIONS and of a Request's other attributes by name, None: not given;
            others are ignored.
        space: replaces the file's, in the form of its [space]; there is no baseline then.
        extensions: files that the study needs, in addition to those that its file names.

    Raises:
        SpecError: an invalid study name, or an unknown parameter in `space`.
        DataError: an unknown data set.
        StorageError: it may be one of an existing study's extensions, which cannot be read.
        StudyFileError: there is no such file, or it is not a study file.
    """
    given = {name: it for name, it in given.items() if it is not None}
    options = {name: plain(given[name]) for name in OPTIONS if name in given}
    names = [it.name for it in dataclasses.fields(Request) if it.name in given]
    where = {name: plain(given[name]) for name in names}
    for name in ("continue_trials", "enqueue", "warm_start"):  # one or several
        named = where.get(name, ())
        is_one = isinstance(named, str | Mapping) or not isinstance(named, Iterable)
        where[name] = [named] if is_one else list(named)
    if not all(isinstance(one, str) for one in where["warm_start"]):
        said = f"must be a study's name or URL#NAME, but got {shown(given['warm_start'])}"
        raise SpecError("warm_start", f"warm_start {said}")
    where["enqueue"] = plain(read_configurations(where["enqueue"]))
    if "study" in where:
        check_study_name(where["study"])
    if "seed" in options:
        where.setdefault("trials_per_device", 1)
    file = find_study_file(config or "default")
    fields = read_study_file(file)
    if extensions:
        options["extensions"] = (*fields.get("extensions", ()), *extensions)
    if space is not None:
        if not isinstance(space, Mapping):
            raise SpecError("space", f"space must be a table of parameters, but got {shown(space)}")
        written = {"space": plain(space)}
        register_from_here(families_in(written))
        options |= {"space": read_tables(written, by_user=True)["space"], "baseline": None}
        if config is None:
            # The default file's title, and the evidence for a longer training, are of its space.
            options |= {"title": "", "final_stretch": None}
    request = Request(
        fields=fields, options=options, file=file, names_file=config is not None, **where
    )
    if request.dataset is not None:
        _check_dataset(request, request.dataset)
    return request


def _check_dataset(request: Request, name: str) -> None:
    """Raises DataError if the data set is unknown, also to the extensions of an existing study."""
    try:
        canonical_name(name)
    except DataError:
        from search.store.extensions import check_files  # takes a while to load
        from search.store.opening import database_exists, open_database
        from search.store.studies import find_study

        if not database_exists(request.storage):
            raise
        with closing(open_database(request.storage, runs_dir=request.runs_dir)) as db:
            find_study(db, request.study_name(name), check_files)
        canonical_name(name)
