"""Whether a search's winners lie on an edge of its space, and which range to try instead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from optuna.trial import FixedTrial

from models import ArchitectureError
from models.family import compact
from models.summary import anatomy
from search.spec.config import StudySpec
from search.spec.domains import Domain, Range, SpecError
from search.spec.parameters import read_parameter
from search.spec.recipe import RECIPE, idle
from search.spec.space import limits, matters, searched, share_of_limits, suggest
from search.store.views import StudyView, TrialView

FEWEST = 10  # finished trials
WINNERS = 3
NEAR = 0.05  # share of the range's length, which is logarithmic for a log range
# Steps by which a range is widened, as shares of its length or, for a log range, of half its
# logarithmic length (at most a factor of 10). The first one that gives a valid network is taken.
BY = (1.0, 0.5, 0.25)


def edges_in_words(view: StudyView) -> list[str]:
    """A sentence for each edge on which all winners lie.

    `The best 3 trials have width 32, the largest allowed: try width = { ... } in [space].`
    """
    spec, space = view.spec, searched(view.spec)
    if spec.is_comparison or spec.minimize_also or view.finished < FEWEST:
        return []
    winners = [
        one
        for one in view.trained_far
        if one.config is not None
        and not one.is_baseline
        and space.keys() <= one.params.keys()
        and all(_contains(domain, one.params[name]) for name, domain in space.items())
    ][:WINNERS]
    if len(winners) < WINNERS:
        return []
    found = (
        _sentence(view, winners, name, domain, end)
        for name, domain in space.items()
        if isinstance(domain, Range) and domain.low < domain.high
        for end in ("low", "high")
    )
    return [sentence for sentence in found if sentence is not None]


def _sentence(
    view: StudyView, winners: list[TrialView], name: str, domain: Range, end: str
) -> str | None:
    """None unless all winners lie near that end, which rarely happens by chance if the range has
    three values or more and no limit keeps most networks small."""
    edge, parameter = getattr(domain, end), view.spec.parameters[name]
    if (
        edge in (parameter.least, parameter.most)
        or (domain.integer and domain.high - domain.low < 2 * domain.step)
        or (limits(view.spec) and end == "low" and name not in RECIPE)
        or not all(_is_near(view.spec, one, name, domain, end) for one in winners)
    ):
        return None
    wider = next(_wider(view, winners[0], name, domain, end), None)
    if wider is None:
        return None
    exact = all(one.params[name] == edge for one in winners)
    written = ", ".join(f"{key} = {json.dumps(value)}" for key, value in wider.written.items())
    return (
        f"The best {WINNERS} trials have {name} {'' if exact else 'close to '}"
        f"{edge if domain.integer else compact(edge)}, the "
        f"{'smallest' if end == 'low' else 'largest'} allowed: try {name} = {{ {written} }} in "
        "[space]."
    )


def _contains(domain: Domain, value: Any) -> bool:
    return not isinstance(domain, Range) or domain.contains(value)


def _is_near(spec: StudySpec, trial: TrialView, name: str, domain: Range, end: str) -> bool:
    """Whether the trial lies near that end, and its training depends on the parameter."""
    assert trial.config is not None
    position = domain.position(trial.params[name])
    if (position if end == "low" else 1 - position) > NEAR or name in idle(trial.config.recipe):
        return False
    stored = FixedTrial(dict(trial.params))
    values = {key: one.suggest(stored, key) for key, one in searched(spec).items()}
    return matters(name, values, spec)


def _wider(view: StudyView, best: TrialView, name: str, domain: Range, end: str) -> Iterator[Range]:
    """Wider ranges at whose new end the best trial's network is valid and within all limits."""
    spec, facts = view.spec, view.dataset
    parameter, edge = spec.parameters[name], getattr(domain, end)
    sign = 1 if end == "high" else -1
    for by in BY:
        if domain.log:
            new = edge * min((domain.high / domain.low) ** 0.5, 10.0) ** (sign * by)
            new = min(max(float(f"{new:.1g}"), edge / 10), edge * 10)
        else:
            new = edge + sign * by * (domain.high - domain.low)
        new = float(f"{new:.4g}")
        if domain.integer:
            new = edge + sign * domain.step * max(1, round(abs(new - edge) / domain.step))
        if end == "low" and parameter.least is not None:
            new = max(new, parameter.least)
        if end == "high" and parameter.most is not None:
            new = min(new, parameter.most)
        with suppress(SpecError, ArchitectureError):
            wider = read_parameter(name, {**domain.written, end: new}, spec.parameters)
            assert isinstance(wider, Range)
            space = {**spec.space, name: wider}
            values: dict[str, Any] = {**best.params, name: new}
            network = suggest(FixedTrial(values), replace(spec, space=space)).architecture
            shape, classes = facts.image_shape, len(facts.class_names)
            anatomy(network, shape, classes)
            if share_of_limits(network, spec, shape, classes)[0] <= 1:
                yield wider
