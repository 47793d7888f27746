"""What is fixed for a study, and what one trial is.

A `StudySpec` is stored with its study as JSON, so that no command needs its flags repeated.
A `TrialConfig` is what `search.spec.space.suggest` makes of Optuna's parameters.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.folders.preparation import Reading
from models import Architecture, Parameter, to_dict
from models.checks import shown
from models.family import choice, count, number
from search.spec.arms import MAX_REPEATS, Arm, check_arms
from search.spec.domains import (
    Domain,
    Fixed,
    ParameterValue,
    SpecError,
    plain_values,
)
from search.spec.extensions import Extension, needed, require
from search.spec.journal import JournalEntry, check_journal
from search.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES, RAW_LOSS, Objective
from search.spec.parameters import (
    DEFAULT_FAMILY,
    FAMILY,
    families_in,
    known_parameters,
    read_parameter,
    read_values,
)
from search.spec.recipe import Recipe

MAX_NAME = 100
MOST_SEED = 2**32 - 1
RESERVED_NAME = "artifacts"  # the folder beside the studies' own, of the dashboard's pictures
FORMAT = 1  # of the stored specification
_TEXT = Parameter(kinds=(str,), default="", description="text")
_NUMBER = count(1, "number", most=10**6)
_EXAMPLES = count(1, "number of examples")
FIELDS: Mapping[str, Parameter] = {  # what a field may be, where it is a single value
    "title": _TEXT,
    "source": _TEXT,
    "dataset": _TEXT,
    "image_size": count(1, "pixels", most=10_000),
    "mirror_changes_class": Parameter(kinds=(bool,), default=False, description="of a folder"),
    "reading_version": count(1, "version", most=2),
    "validation_count": _EXAMPLES,
    "limit": _EXAMPLES,
    "trials": _NUMBER,
    "epochs": _NUMBER,
    "budget": number(0.3, "share of trials x epochs", most=1),
    "patience": _NUMBER,
    "seed": count(0, "seed", least=0, most=MOST_SEED),
    "sampler": _TEXT,
    "pruner": _TEXT,
    "repeats": count(1, "number of repeats", most=MAX_REPEATS),
    "base": _TEXT,
    "objective": choice(OBJECTIVES, DEFAULT_OBJECTIVE, "what trials are compared by"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialConfig:
    """One configuration: the network and how it is trained."""

    architecture: Architecture
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        return {"architecture": to_dict(self.architecture), "recipe": self.recipe.to_dict()}


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySpec:
    """Everything that two workers must agree on.

    A study either searches a space or, where it has arms, compares them.

    Attributes:
        title: one line for people.
        source: where its reported metrics and its question are from; one line, may be empty.
        dataset: canonical name, or `folder:PATH`.
        image_size, mirror_changes_class, reading_version: how a folder's images are read, see
            `Reading`. A study that is made has the first two filled in.
        validation_count: examples held out of the training set; None: the data set's default.
        limit: train on this many examples only (a stratified subset); None: all.
        trials: finished (complete or pruned) trials that the study ends with. A total: with
            `repeats` the only field that a later start may change. Of a comparison always arms x
            repeats, failed trials included: an arm that diverges is a result.
        epochs: maximum epochs per trial, and the length of its schedule.
        budget: share of trials x epochs that a study whose pruner lays trials aside may spend;
            above 0.
        patience: epochs without a lower value of the objective before a trial stops; None: never.
        seed: decides the split, every trial's seed, and the sampler's draws.
        sampler, pruner: names in the registries of `search.sampling`. A comparison has the sampler
            `grid`, and trains every arm to its end.
        space: a domain for each parameter that is not at its default, see `known_parameters`. Of a
            comparison one value each: the base configuration.
        baseline: parameters of trial 0, which need not lie in the space; None: no such trial.
        arms: see `search.spec.arms`; the base arm first. None in a search.
        base: the first arm's name, with which the others are compared; None in a search.
        repeats: how many times each arm is trained, with a seed each.
        journal: questions put to the study beforehand.
        published: the limit, epochs and repeats of the experiment whose metrics the arms report,
            as the study file has them; without a limit where there is none. Empty where unknown.
        extensions: a person's own files that it needs; those of `dataset` and of the families are
            filled in.
        metrics: names in `search.training.metrics.METRICS`, recorded each epoch beside loss and
            error.
        objective: name in OBJECTIVES: what a trial's value is.
    """

    dataset: str
    title: str = ""
    source: str = ""
    image_size: int | None = None
    mirror_changes_class: bool | None = None
    reading_version: int = Reading().version
    validation_count: int | None = None
    limit: int | None = None
    trials: int = 50
    epochs: int = 12
    budget: float = 0.3
    patience: int | None = None
    seed: int = 0
    sampler: str = "gp"
    pruner: str = "halving"
    space: Mapping[str, Domain] = field(default_factory=dict)
    baseline: Mapping[str, ParameterValue] | None = None
    arms: tuple[Arm, ...] = ()
    base: str | None = None
    repeats: int = 1
    journal: tuple[JournalEntry, ...] = ()
    published: Mapping[str, int] = field(default_factory=dict)
    extensions: tuple[Extension, ...] = ()
    metrics: tuple[str, ...] = ()
    objective: str = DEFAULT_OBJECTIVE

    def __post_init__(self) -> None:
        optional = {one.name for one in dataclasses.fields(self) if one.default is None}
        for name, parameter in FIELDS.items():
            value = getattr(self, name)
            if value is not None or name not in optional:
                check_field(name, value, parameter)
        if self.budget == 0:
            raise SpecError("budget", "budget must be above 0, but got 0")
        check_arms(self.arms, self.base, self.repeats, self.trials)
        check_journal(self.journal, [arm.name for arm in self.arms])
        if not self.arms and self.sampler == "grid":
            raise SpecError("sampler", "sampler = 'grid' needs [[arm]] tables")
        if self.arms and self.pruner != "none":
            raise SpecError("pruner", 'arms are trained to their end; give pruner = "none"')
        if self.arms and self.baseline is not None:
            raise SpecError("baseline", "[baseline] is of a search; make it the first [[arm]]")
        listed = isinstance(self.metrics, list | tuple)
        if not listed or not all(isinstance(name, str) for name in self.metrics):
            raise SpecError("metrics", f"metrics is a list of names, but got {shown(self.metrics)}")
        object.__setattr__(self, "metrics", tuple(dict.fromkeys(self.metrics)))
        extensions = needed(self.extensions, self.families, self.dataset)
        object.__setattr__(self, "extensions", extensions)

    @property
    def reading(self) -> Reading:
        return Reading(
            image_size=self.image_size,
            mirror_changes_class=self.mirror_changes_class,
            version=self.reading_version,
        )

    @property
    def value(self) -> Objective:
        """What a trial's value is."""
        return OBJECTIVES[self.objective]

    @property
    def is_comparison(self) -> bool:
        """Whether arms are compared; else a space is searched."""
        return bool(self.arms)

    @property
    def families(self) -> tuple[str, ...]:
        """Of its networks, the space's first."""
        named = self.space.get(FAMILY, Fixed(value=DEFAULT_FAMILY)).corners
        others = [one.get(FAMILY) for one in (self.baseline or {}, *(a.values for a in self.arms))]
        return tuple(dict.fromkeys(str(name) for name in (*named, *others) if name is not None))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What it can fix, choose or search."""
        return known_parameters(self.families)

    def place_of(self, trial_number: int) -> tuple[Arm, int]:
        """The arm of a comparison's trial, and which repeat of it, from 0."""
        repeat, arm = divmod(trial_number, len(self.arms))
        return self.arms[arm], repeat

    def seed_number(self, trial_number: int) -> int:
        """What, beside the study's seed, decides a trial's: its number, or of a comparison its
        repeat, so that arms share their seeds."""
        return trial_number // len(self.arms) if self.is_comparison else trial_number

    def with_total(self, trials: int) -> StudySpec:
        """The same study, to end with so many trials: of a comparison, a multiple of its arms."""
        repeats = trials // len(self.arms) if self.is_comparison else 1
        return dataclasses.replace(self, trials=trials, repeats=repeats)

    def to_dict(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["space"] = {name: domain.written for name, domain in self.space.items()}
        plain["published"] = dict(self.published)
        plain["metrics"] = list(self.metrics)
        if self.baseline is not None:
            plain["baseline"] = plain_values(self.baseline)
        for name in ("arms", "journal", "extensions"):
            plain[name] = [one.to_dict() for one in plain[name]]
        return {"format": FORMAT, **plain}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> StudySpec:
        """What `to_dict` wrote, of this version or an earlier one; its extensions are loaded.

        Raises SpecError where it is of another version of cnn-search, or of an extension, or holds
        what no study file can.
        """
        plain = dict(stored)
        if plain.pop("format", None) != FORMAT:
            raise SpecError("format", "this study was made by another version of cnn-search")
        # Studies of before there were comparisons, or extensions, have none of them.
        plain["extensions"] = tuple(map(Extension.from_dict, plain.get("extensions", ())))
        plain["journal"] = tuple(map(JournalEntry.from_dict, plain.get("journal", ())))
        space, baseline, arms = plain["space"], plain["baseline"], plain.get("arms", ())
        families = families_in((space, baseline or {}, *(arm["values"] for arm in arms)))
        require(plain["extensions"], families, str(plain["dataset"]))
        known = known_parameters(families)
        plain["space"] = {name: read_parameter(name, it, known) for name, it in space.items()}
        if baseline is not None:
            plain["baseline"] = read_values(baseline, known)
        plain["arms"] = tuple(
            Arm(**{**arm, "values": read_values(arm["values"], known)}) for arm in arms
        )
        plain.setdefault("reading_version", 1)
        plain.setdefault("objective", RAW_LOSS)
        plain.setdefault("budget", 1.0)
        return cls(**plain)


def check_study_name(name: str) -> str:
    """The name, if it can also be a folder's name and stand in a URL, a page and a terminal.

    Raises SpecError where it cannot, or is the name of the folder beside the studies' own.
    """
    fits = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) and len(name) <= MAX_NAME
    if not fits or name.lower() == RESERVED_NAME:
        raise SpecError(
            "study",
            f"study name {shown(name)} is not usable; give 1 to {MAX_NAME} letters, digits, '.', "
            f"'_' or '-', not starting with '.' or '-', and not {RESERVED_NAME!r}",
        )
    return name


def study_name_for(dataset: str) -> str:
    """The name of a study that nobody named: the data set's, or the folder's."""
    last = dataset.removeprefix("folder:").rstrip("/").rsplit("/", 1)[-1]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")
    return name[:MAX_NAME] if name and name.lower() != RESERVED_NAME else "images"


def check_field(name: str, value: object, parameter: Parameter) -> None:
    """Raises SpecError for a value that the field or parameter cannot have."""
    if (expected := parameter.fault(value)) is not None:
        raise SpecError(name, f"{name} must be {expected}, but got {shown(value)}")
