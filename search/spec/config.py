"""What is fixed for a study, and the configuration of one trial.

A `StudySpec` is stored with its study as JSON, so that no command needs its flags repeated, and so
is what it keeps from each `Earlier` study.
A `TrialConfig` is what `search.spec.space.suggest` makes from Optuna's parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from data.folders.preparation import Reading
from models import Architecture, Parameter, to_dict
from models.checks import shown
from models.family import choice, count, number
from search.spec.arms import PUBLISHED, TEXT, Arm, JournalEntry
from search.spec.domains import (
    Domain,
    ParameterValue,
    SpecError,
    check_fields,
    check_keys,
    corners,
    plain,
)
from search.spec.extensions import CopyOf, Extension, needed, require
from search.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES, RAW_LOSS, SIZES, Objective
from search.spec.parameters import (
    DEFAULT_FAMILY,
    FAMILY,
    families_in,
    known_parameters,
    read_tables,
)
from search.spec.recipe import Recipe

MAX_ARMS, MAX_REPEATS = 200, 1000
MOST_SEED = 2**32 - 1
FORMAT = 1  # of the stored specification
WARM_START = "warm_start"  # attribute of a study: a list of `asdict(Earlier)`

_text = partial(Parameter, kinds=(str,), default="")
_number = partial(count, 1, most=10**6)
_size = partial(count, 1, most=10**15)
# What the fields of a study may be that are single values; also the keys of [study].
FIELDS: Mapping[str, Parameter] = {
    "dataset": _text(description="as --dataset"),
    "title": _text(description="one line, for display"),
    "source": _text(description="where its question and its reported metrics come from"),
    "image_size": count(1, "side in pixels that your own pictures are resized to", most=10_000),
    "mirror_changes_class": Parameter(
        kinds=(bool,), default=False, description="mirrored pictures may be of another class"
    ),
    "reading_version": count(1, "version", most=Reading().version),
    "validation_count": count(1, "training images that are held out for validation"),
    "limit": count(1, "train on only so many images, the same share of each class"),
    "trials": _number("total number of finished trials, complete or pruned"),
    "epochs": _number("maximum per trial, and the length of its schedule"),
    "budget": number(0.3, 'share of trials x epochs, for pruner = "promotion"', most=1),
    "final_stretch": Parameter(
        kinds=(float,),
        default=1.0,
        least=1,
        most=100,
        description="finalize trains the winner for this many times the epochs, its schedule "
        "scaled to them; without it, up to the trial's best epoch",
    ),
    "patience": _number("epochs without a lower value, after which a trial is complete"),
    "max_parameters": _size("of a network; larger ones are not trained"),
    "max_multiply_adds": _size("of a network for one image; larger ones are not trained"),
    "seed": count(0, "decides split, sampling and initial weights", least=0, most=MOST_SEED),
    "sampler": _text(description="how configurations are chosen"),
    "pruner": _text(description="which trials pause or stop early"),
    "repeats": count(1, "how many times each [[arm]] is trained", most=MAX_REPEATS),
    "objective": choice(OBJECTIVES, DEFAULT_OBJECTIVE, "what a trial's value is"),
    "minimize_also": choice(SIZES, SIZES[0], "find the best network of each size"),
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

    A study either searches a space or, if it has arms, compares them. `FIELDS` gives the meaning of
    each single value and what it may be. In addition:

    Attributes:
        dataset: canonical name, `folder:PATH`, `npz:FILE` or `FILE.py:FUNCTION`.
        image_size, mirror_changes_class, reading_version: how a folder's images are read, see
            `Reading`. The first two are filled in when a study is made.
        validation_count: None: the data set's default.
        trials: for a comparison arms x repeats, failed trials included: an arm that diverges is a
            result.
        sampler, pruner: names in the registries of `search.sampling`. A comparison uses the sampler
            `grid` and trains every arm to its end.
        space: a domain for each parameter that is not at its default, see `known_parameters`. For a
            comparison one value each: the base configuration.
        baseline: parameters of trial 0, which need not lie in the space; None: no such trial.
        arms: the base first, with which the others are compared; empty in a search.
        journal: questions put to the study beforehand.
        published: the limit, epochs and repeats of the experiment whose metrics the arms report,
            as given in the study file. Empty if unknown.
        extensions: the user's own files that it needs; those of `dataset` and of the families are
            filled in.
        metrics: names in `search.training.metrics.METRICS`, recorded each epoch.
        objective: name in OBJECTIVES: what a trial's value is.
        minimize_also: name in SIZES: then it searches for a Pareto front. None: only the objective.
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
    final_stretch: float | None = None
    patience: int | None = None
    max_parameters: int | None = None
    max_multiply_adds: int | None = None
    seed: int = 0
    sampler: str = "gp"
    pruner: str = "promotion"
    space: Mapping[str, Domain] = field(default_factory=dict)
    baseline: Mapping[str, ParameterValue] | None = None
    arms: tuple[Arm, ...] = ()
    repeats: int = 1
    journal: tuple[JournalEntry, ...] = ()
    published: Mapping[str, int] = field(default_factory=dict)
    extensions: tuple[Extension, ...] = ()
    metrics: tuple[str, ...] = ()
    objective: str = DEFAULT_OBJECTIVE
    minimize_also: str | None = None

    def __post_init__(self) -> None:
        optional = {one.name for one in dataclasses.fields(self) if one.default is None}
        check_fields({name: getattr(self, name) for name in FIELDS}, FIELDS, optional)
        check_keys(self.published, PUBLISHED, "key", " in [published]")
        check_fields(self.published, FIELDS)
        if self.budget == 0:
            raise SpecError("budget", "budget must be above 0, but got 0")
        if not isinstance(self.metrics, list | tuple) or any(map(TEXT.fault, self.metrics)):
            raise SpecError("metrics", f"metrics is a list of names, but got {shown(self.metrics)}")
        self._check_arms()
        follows: dict[str, Any] = {
            "metrics": tuple(dict.fromkeys(self.metrics)),
            "extensions": needed(self.extensions, self.families, self.dataset),
        }
        if self.arms:
            total = len(self.arms) * self.repeats
            follows |= {"sampler": "grid", "pruner": "none", "trials": total}
        for name, value in follows.items():
            object.__setattr__(self, name, value)

    def _check_arms(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(names) > MAX_ARMS:
            raise SpecError("arms", f"at most {MAX_ARMS} arms can be compared, not {len(names)}")
        for name in names:
            if names.count(name) > 1:
                raise SpecError("arms", f"two arms are called {name!r}")
        if names and self.baseline is not None:
            raise SpecError("baseline", "[baseline] is for a search; make it the first [[arm]]")
        if not names and (self.repeats != 1 or self.sampler == "grid"):
            key = "repeats" if self.repeats != 1 else "sampler"
            needs = f"{key} = {getattr(self, key)!r} needs [[arm]] tables"
            raise SpecError(key, f"{needs}; leave it out of a search")
        expected = [one for entry in self.journal for one in entry.expect]
        for name in (name for one in expected for name in (one.arm, one.than)):
            if name not in names:
                there = f"there are: {', '.join(names)}" if names else "there is no [[arm]]"
                message = f"[[journal]] expect: no arm is called {shown(name)}; {there}"
                raise SpecError("journal", message)

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
    def final_epochs(self) -> int | None:
        """How long `finalize` trains; None: up to the trial's best epoch."""
        return None if self.final_stretch is None else round(self.final_stretch * self.epochs)

    @property
    def is_comparison(self) -> bool:
        """Whether arms are compared; otherwise a space is searched."""
        return bool(self.arms)

    @property
    def families(self) -> tuple[str, ...]:
        """The families of its networks, the space's first."""
        named = corners(self.space.get(FAMILY, DEFAULT_FAMILY))
        others = [one.get(FAMILY) for one in (self.baseline or {}, *(a.values for a in self.arms))]
        return tuple(dict.fromkeys(str(name) for name in (*named, *others) if name is not None))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What the study can fix, choose or search."""
        return known_parameters(self.families)

    def place_of(self, trial_number: int) -> tuple[Arm, int]:
        """The arm of a comparison's trial, and which repeat of it, from 0."""
        repeat, arm = divmod(trial_number, len(self.arms))
        return self.arms[arm], repeat

    def seed_number(self, trial_number: int) -> int:
        """What determines a trial's seed, besides the study's: its number, or in a comparison its
        repeat, so that arms share their seeds."""
        return trial_number // len(self.arms) if self.is_comparison else trial_number

    def with_total(self, trials: int) -> StudySpec:
        """The same study with this total of trials: for a comparison, a multiple of its arms."""
        if not self.is_comparison:
            return dataclasses.replace(self, trials=trials)
        repeats, rest = divmod(trials, arms := len(self.arms))
        if rest:
            raise SpecError("trials", f"{arms} arms need a multiple of {arms} trials, not {trials}")
        return dataclasses.replace(self, repeats=repeats)

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **plain(self)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], copy_of: CopyOf | None = None) -> StudySpec:
        """Read what `to_dict` of this or an earlier version wrote; its extensions are loaded.

        Raises SpecError if it is from another version of cnn-search or of an extension (but see
        `require` for `copy_of`), or holds what no study file can.
        """
        older = {"reading_version": 1, "objective": RAW_LOSS, "budget": 1.0, "pruner": "halving"}
        values = {"extensions": (), **older, **stored}
        if values.pop("format", None) != FORMAT:
            raise SpecError("format", "this study was made by another version of cnn-search")
        values.pop("base", None)  # from an earlier version: the first arm's name
        for key in sorted(values.keys() - {one.name for one in dataclasses.fields(cls)}):
            raise SpecError(key, f"unknown key {shown(key)}")
        values["extensions"] = tuple(Extension(**it) for it in values["extensions"])
        require(values["extensions"], families_in(values), str(values["dataset"]), copy_of)
        return cls(**{**values, **read_tables(values)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """A warm start, stored with the new study, which no longer needs the earlier one's database."""

    source: str  # as the user named it, without a password
    data: str  # title of its data set
    objective: str  # name in OBJECTIVES
    best: float | None  # lowest value of a complete trial, if any
    # The new study's first trials, the best first; in older databases up to 60, each with its end.
    configurations: tuple[Any, ...]
    left_out: int = 0  # better ones that do not fit the new study
    repeated: int = 0  # better ones that the baseline or another earlier study has given
    clipped: int = 0  # configurations with a number moved to the nearest end of its range
    not_searched: tuple[str, ...] = ()  # parameters that varied there and are fixed here

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Earlier:
        if stored["objective"] not in OBJECTIVES:
            raise ValueError(f"unknown objective {stored['objective']!r}")
        lists = {name: tuple(stored[name]) for name in ("configurations", "not_searched")}
        return cls(**{**stored, **lists})
