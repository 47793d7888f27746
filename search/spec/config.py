"""What is fixed for a study, and what one trial is.

A `StudySpec` is stored with its study as JSON, so that no command needs its flags repeated.
A `TrialConfig` is what `search.spec.space.suggest` makes of Optuna's parameters.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from data.folders.preparation import Reading
from models import Architecture, to_dict
from models.checks import shown
from search.spec.design import Arm, JournalEntry, check_arms, check_journal
from search.spec.domains import (
    Domain,
    ParameterValue,
    SpecError,
    domain_from_json,
    domain_to_json,
)
from search.spec.recipe import Recipe
from search.store.folders import ARTIFACTS

SamplerName = Literal["gp", "tpe", "random", "grid"]
PrunerName = Literal["halving", "median", "none"]
MAX_NAME = 100
FORMAT = 1  # of the stored specification
MOST_TRIALS = MOST_EPOCHS = 10**6
MOST_SIDE = 10_000  # pixels
MOST_EXAMPLES = 10**9


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
        source: where its figures and its question are from; one line, may be empty.
        dataset: canonical name, or `folder:PATH`.
        image_size, mirror_changes_class, reading_version: how a folder's images are read, see
            `Reading`. A study that is made has the first two filled in.
        validation_count: examples held out of the training set; None: the data set's default.
        limit: train on this many examples only (a stratified subset); None: all.
        trials: finished (complete or pruned) trials that the study ends with. A total: with
            `repeats` the only field that a later start may change. Of a comparison always arms x
            repeats, failed trials included: an arm that diverges is a result.
        epochs: most epochs a trial trains, and the length of its schedule.
        patience: epochs without a lower validation loss before a trial stops; None: never.
        seed: decides the split, every trial's seed, and the sampler's draws.
        sampler, pruner: see `search.sampling.choosing`. A comparison has the sampler `grid`, and
            trains every arm to its end.
        space: a domain for each parameter of `search.spec.space.PARAMETERS`. Of a comparison
            one value each: the base configuration.
        baseline: parameters of trial 0, which need not lie in the space; None: no such trial.
        arms: see `search.spec.design`; the base arm first. None in a search.
        base: the first arm's name, with which the others are compared; None in a search.
        repeats: how many times each arm is trained, with a seed each.
        journal: questions put to the study beforehand.
        published: the limit, epochs and repeats of the experiment whose figures the arms report,
            as the study file has them; without a limit where there is none. Empty where unknown.
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
    patience: int | None = None
    seed: int = 0
    sampler: SamplerName = "gp"
    pruner: PrunerName = "halving"
    space: Mapping[str, Domain] = field(default_factory=dict)
    baseline: Mapping[str, ParameterValue] | None = None
    arms: tuple[Arm, ...] = ()
    base: str | None = None
    repeats: int = 1
    journal: tuple[JournalEntry, ...] = ()
    published: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dataset", "title", "source"):
            if not isinstance(getattr(self, name), str):
                raise SpecError(name, f"{name} must be text, but got {shown(getattr(self, name))}")
        for name, most in (
            ("repeats", MOST_TRIALS),
            ("trials", MOST_TRIALS),
            ("epochs", MOST_EPOCHS),
            ("patience", MOST_EPOCHS),
            ("image_size", MOST_SIDE),
            ("validation_count", MOST_EXAMPLES),
            ("limit", MOST_EXAMPLES),
        ):
            if getattr(self, name) is not None or name in ("repeats", "trials", "epochs"):
                _check_count(name, getattr(self, name), most)
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise SpecError("seed", f"seed must be in [0, 2**32), but got {shown(self.seed)}")
        for name, choices in (
            ("sampler", get_args(SamplerName)),
            ("pruner", get_args(PrunerName)),
            ("mirror_changes_class", (None, False, True)),
            ("reading_version", (1, 2)),
        ):
            if getattr(self, name) not in choices:
                raise SpecError(
                    name, f"{name} must be one of {choices}, but got {getattr(self, name)!r}"
                )
        check_arms(self.arms, self.base, self.repeats, self.trials)
        check_journal(self.journal, self.arms)
        if self.is_comparison:
            self._check_comparison()
        elif self.sampler == "grid":
            raise SpecError("sampler", "sampler = 'grid' needs [[arm]] tables, or lists in [space]")

    def _check_comparison(self) -> None:
        if self.pruner != "none":
            raise SpecError(
                "pruner",
                f"arms are trained to their end to be compared, but got pruner = {self.pruner!r}; "
                'give "none"',
            )
        if self.baseline is not None:
            raise SpecError("baseline", "[baseline] is of a search; make it the first [[arm]]")

    @property
    def reading(self) -> Reading:
        return Reading(
            image_size=self.image_size,
            mirror_changes_class=self.mirror_changes_class,
            version=self.reading_version,
        )

    @property
    def is_comparison(self) -> bool:
        """Whether arms are compared; else a space is searched."""
        return bool(self.arms)

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
        plain["space"] = {name: domain_to_json(domain) for name, domain in self.space.items()}
        if self.baseline is not None:
            plain["baseline"] = dict(self.baseline)
        plain["arms"] = [arm.to_dict() for arm in self.arms]
        plain["published"] = dict(self.published)
        plain["journal"] = [entry.to_dict() for entry in self.journal]
        return {"format": FORMAT, **plain}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> StudySpec:
        plain = dict(stored)
        if plain.pop("format", None) != FORMAT:
            raise SpecError("format", "this study was made by another version of cnn-search")
        plain["space"] = {
            name: domain_from_json(domain, name) for name, domain in plain["space"].items()
        }
        if plain["baseline"] is not None:
            plain["baseline"] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in plain["baseline"].items()
            }
        plain.setdefault("reading_version", 1)
        # Studies of before there were comparisons have neither of the two.
        plain["arms"] = tuple(map(Arm.from_dict, plain.get("arms", ())))
        plain["journal"] = tuple(map(JournalEntry.from_dict, plain.get("journal", ())))
        return cls(**plain)


def check_study_name(name: str) -> str:
    """The name, if it can also be a folder's name and stand in a URL, a page and a terminal.

    Raises:
        SpecError: anything but letters, digits, `.`, `_`, `-`; or too long; or a leading dot; or
            the name of the folder beside the studies' own.
    """
    if name.lower() == ARTIFACTS.name:
        raise SpecError(
            "study",
            f"study name {name!r} is not usable: {ARTIFACTS} holds the dashboard's "
            "pictures; give another",
        )
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or len(name) > MAX_NAME:
        raise SpecError(
            "study",
            f"study name {name!r} is not usable; give 1 to {MAX_NAME} letters, digits, "
            "'.', '_' or '-', not starting with '.' or '-'",
        )
    return name


def study_name_for(dataset: str) -> str:
    """The name of a study that nobody named: the data set's, or the folder's."""
    last = dataset.removeprefix("folder:").rstrip("/").rsplit("/", 1)[-1]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")
    if not name or name.lower() == ARTIFACTS.name:
        return "images"
    return name[:MAX_NAME]


def _check_count(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(
            name, f"{name} must be a whole number of at least 1, but got {shown(value)}"
        )
    if value > most:
        raise SpecError(name, f"{name} must be at most {most}, but got {shown(value)}")
