"""What recorded curves of other data sets say about a study that has just begun.

`python -m benchmarks.prior --write` learned the files in this folder from the records in
benchmarks/results/curves: `all.json` from all of them, `without_NAME.json` from those of all data
sets except NAME. `none.json` is written by hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import FAMILIES
from search.spec.config import StudySpec
from search.spec.parameters import DEFAULT_FAMILY
from search.spec.recipe import RECIPE
from search.spec.space import base_values

Array = NDArray[np.floating[Any]]
FOLDER = Path(__file__).parent
POLICIES = (
    *("flip-crop", "flip-rotate-crop", "rotate-jitter-erase", "zoom-translate-flip"),
    "flip-crop-erase",
)
PARAMETERS = frozenset({  # that the features are made of
    *("depth", "width", "residual", "learning_rate", "dropout", "label_smoothing"),
    *("weight_decay_kind", "weight_decay", "augmentation", "augmentation_strength"),
})  # fmt: skip
FEATURES = (
    *("depth", "width", "residual", "learning_rate", "learning_rate_squared"),
    *("dropout", "label_smoothing", "coupled", "coupled_decay", "decoupled", "decoupled_decay"),
    *("augmentation", *POLICIES),
)


def recorded_parameters(spec: StudySpec) -> dict[str, Any]:
    """The study's parameters that the records vary, too: each with the value of trials that do not
    say otherwise, which is the study's own if it fixes one.

    A parameter of the user's own network is another one, even if it has the same name.
    """
    here, usual = spec.parameters, base_values(spec)
    there = {**FAMILIES[DEFAULT_FAMILY].parameters, **RECIPE}
    return {name: usual[name] for name in PARAMETERS if here.get(name) is there[name]}


def as_recorded(params: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """What the prior knows of a configuration; `usual`: from `recorded_parameters`."""
    return {name: params.get(name, value) for name, value in usual.items()}


def features(recorded: Mapping[str, Any]) -> list[float]:
    """The values of FEATURES, each centred near 0 and about 1 wide; 0 if it is not known.

    `recorded`: see `as_recorded`.
    """
    kind, weight_decay = recorded.get("weight_decay_kind"), recorded.get("weight_decay", 3e-4)
    if kind == "l2":  # differs only by a factor, see `search.training.step`
        kind, weight_decay = "coupled", 2 * weight_decay
    decay = math.log10(max(weight_decay, 1e-8)) + 3.5
    rate = math.log10(recorded.get("learning_rate", 10**-2.5)) + 2.5
    policy, strength = recorded.get("augmentation", ""), recorded.get("augmentation_strength", 1.0)
    augmented = {"": 0.5, "none": 0.0}.get(policy, strength)
    kinds = [
        (kind == known and weight_decay > 0) * value
        for known in ("coupled", "decoupled")
        for value in (1.0, decay)
    ]
    return [  # each default is what makes a feature 0
        (recorded.get("depth", 3) - 3) / 2,
        math.log2(recorded.get("width", 24) / 24),
        float(recorded.get("residual", 0.5)) - 0.5,
        rate,
        rate * rate,
        2 * recorded.get("dropout", 0.25) - 0.5,
        5 * recorded.get("label_smoothing", 0.1) - 0.5,
        *kinds,
        augmented - 0.5,
        *((policy == known) * strength for known in POLICIES),
    ]


@dataclass(frozen=True, slots=True)
class Prior:
    """What recorded curves of other data sets say: R reports along each curve, F features.

    The unit of all but `level` is a data set's scale: the standard deviation of the logarithms of
    its configurations' final objectives.
    """

    scale: Array  # mean and standard deviation of the scale's logarithm
    fractions: Array  # of the training, at the reports, (R,)
    falls: Array  # mean fall of the logarithm until the end, (R,)
    level: Array  # how the fall depends on the level, (R,)
    promised: Array  # how the fall depends on the parameters, (R, F)
    falls_sd: Array  # how much data sets differ in these three, (R,)
    level_sd: Array
    promised_sd: Array
    noise: Array  # standard deviation of what remains, (R,)
    starts: Array  # how the first level depends on the parameters, (F,), in its own deviations
    ends: Array  # how the end depends on the parameters, (F,)

    def at(self, fraction: float, column: Array) -> float:
        """An attribute, interpolated between its reports."""
        return float(np.interp(fraction, self.fractions, column))


@cache
def prior_for(dataset: str) -> Path:
    """The prior for studies of a data set, learned without any curve of that data set.

    What such studies of a recorded data set show therefore holds for other data sets, too.
    """
    known = {file.stem: file for file in FOLDER.glob("*.json")}
    return known.get(f"without_{dataset}", known["all"])


@cache
def read_prior(file: Path | None) -> Prior:
    """The prior that `python -m benchmarks.prior` wrote.

    None: one by which all trials fall alike; the study must show by how much and how unevenly.
    """
    stored = json.loads((file or FOLDER / "none.json").read_text())
    assert stored.pop("features") == list(FEATURES), "learn it anew: python -m benchmarks.prior"
    return Prior(**{name: np.array(value) for name, value in stored.items()})


def promise(recorded: Mapping[str, Any], prior: Path | None) -> float:
    """Where such a configuration ended on other data sets, in standard deviations of all that were
    tried there: lower is better. 0 for what the prior does not know."""
    return float(np.sum(np.array(features(recorded)) * read_prior(prior).ends))
