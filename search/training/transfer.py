"""Studies that start from trained weights: checked before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from models import build
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import Choice, Domain, Fixed, SpecError
from search.spec.space import arm_config, base_values, make_config
from search.training.epoch import WeightsError
from search.training.initial_weights import check_initial_weights

WEIGHTS = "initial_weights"


def with_weights(fields: Mapping[str, Any], file: str) -> dict[str, Any]:
    """A study's fields with `file` wherever it starts from trained weights.

    Raises:
        SpecError: it nowhere does.
    """
    space: Mapping[str, Domain] = fields.get("space", {})
    arms = [
        dataclasses.replace(arm, values={**arm.values, WEIGHTS: file})
        if arm.values.get(WEIGHTS)
        else arm
        for arm in fields.get("arms", ())
    ]
    if WEIGHTS in space and space[WEIGHTS] != Fixed(value=""):
        space = {**space, WEIGHTS: Fixed(value=file)}
    elif arms == list(fields.get("arms", ())):
        raise SpecError(
            WEIGHTS,
            f"--weights {file!r} has no place in this study: nothing in it starts from trained "
            "weights; give a --config with initial_weights, such as e_transfer",
        )
    return {**fields, "space": space, **({"arms": tuple(arms)} if arms else {})}


def check_sources(spec: StudySpec, image_shape: tuple[int, int, int], classes: int) -> None:
    """Read all weights that the study starts from, and see whether they fit its networks.

    Raises:
        SpecError: they cannot be had, or are of another network.
    """
    seen = set()
    for config in _configurations(spec):
        source = config.recipe.initial_weights
        if source is None or (source, config.architecture) in seen:
            continue
        seen.add((source, config.architecture))
        network = build(config.architecture, image_shape, classes)
        try:
            check_initial_weights(network, config.architecture, source)
        except WeightsError as error:
            raise SpecError(WEIGHTS, str(error)) from error


def _configurations(spec: StudySpec) -> Iterator[TrialConfig]:
    """The arms, or of a search its first network with each of the sources."""
    if spec.is_comparison:
        yield from (arm_config(spec, arm) for arm in spec.arms)
        return
    match spec.space.get(WEIGHTS):
        case Choice(values=sources):
            pass
        case Fixed(value=source):
            sources = (source,)
        case _:
            return
    for source in sources:
        yield make_config({**base_values(spec), WEIGHTS: source}, spec)
