"""What a study's trials show: its best trials, and advice that is given only if it applies."""

from __future__ import annotations

import json
import math
import shlex
import warnings
from contextlib import suppress
from dataclasses import replace
from operator import itemgetter
from random import Random

from optuna.trial import FixedTrial

from models import ArchitectureError
from models.family import compact
from models.summary import anatomy
from search.analysis.measures import measure_of, measured, objective_in_words
from search.analysis.wording import printable
from search.spec.config import StudySpec
from search.spec.domains import Range, SpecError, corners
from search.spec.objectives import CALIBRATED_LOSS, RAW_LOSS
from search.spec.parameters import read_parameter
from search.spec.recipe import RECIPE, idle
from search.spec.space import limits, make_config, matters, searched, share_of_limits, suggest
from search.store.views import StudyView, TrialView

# Ratio of training to validation loss below which a network has learned images by heart.
BY_HEART = 0.8
LONG, SHARE = 10, 1 / 3  # without a gain: from so many trials on, and that share, it is told
LATER = 2, 0.2  # minimum epochs from the best to the last, and minimum share of all epochs
USUAL_STRENGTH = 1.0  # of an augmentation; finalize strengthens none beyond it
LONGER = 2  # times the epochs: over-fitting recipes gained from it with stronger augmentation
RISE = 0.05  # minimum relative rise of the value from the best to the last epoch
FEWEST = 10  # finished trials for advice about edges of the space
WINNERS = 3  # that must lie on an edge
TRIED = 64  # configurations in which a parameter may make a difference
NEAR = 0.05  # of an edge: share of the range's length, which is logarithmic for a log range
# Steps by which a range is widened, as shares of its length or, for a log range, of half its
# logarithmic length (at most a factor of 10). The first one that gives a valid network is taken.
BY = (1.0, 0.5, 0.25)


def stopped_trials(view: StudyView, count: int) -> list[TrialView]:
    """At most `count` pruned trials, the longest trained first; among equals, the lowest value."""
    found = [(-len(t.curve), t.best.value, t) for t in view.in_state("pruned") if t.best]
    return [trial for *_, trial in sorted(found, key=lambda each: each[:2])][:count]


def named(trial: TrialView) -> str:
    """`trial 7`, `trial 0, the baseline itself`, `trial 3, arm dropout 0.2`; not escaped."""
    which = ", the baseline itself" if trial.is_baseline else ""
    if trial.arm is not None:
        which = f", arm {printable(trial.arm)}"
    return f"trial {trial.number}{which}"


def size_name(view: StudyView) -> str:
    """The size that the study minimises beside its objective; else `parameters`."""
    return view.spec.minimize_also or "parameters"


def loss_name(view: StudyView) -> str:
    """The loss in tables: what the study minimises, unless that is an error."""
    return view.spec.objective if view.spec.value.unit else RAW_LOSS


def pareto_front(view: StudyView) -> list[TrialView]:
    """Complete trials that no other matches in both size and value and beats in one of them, the
    smallest network first."""
    front, least = list[TrialView](), math.inf
    sizes = [(measured(trial, size_name(view)) or 0, trial) for trial in view.leaderboard]
    for size, trial in sorted(sizes, key=itemgetter(0)):  # among equals, lowest value first
        if size and trial.best and trial.best.value < least:
            least = trial.best.value
            front.append(trial)
    return front


def front_in_words(view: StudyView) -> str:
    """`Pareto front, complete trials that ...: #3 (2 410 parameters, calibrated loss 0.31), ...`"""
    word, name = view.spec.value.word, size_name(view)
    trials = ", ".join(
        f"#{trial.number} ({measure_of(name).shown(measured(trial, name) or 0)} "
        f"{name.replace('_', '-')}, {word} {objective_in_words(view, trial.best.value)})"
        for trial in pareto_front(view)
        if trial.best is not None
    )
    return f"Pareto front, complete trials that no other beats in both size and {word}: {trials}."


def advice_in_words(view: StudyView) -> list[str]:
    """What to do next, a sentence each, from the best trial, the last ones, and the edges."""
    if view.best is None:
        return []
    found = (overfitting_in_words(view.best, view), stop_in_words(view), *edges_in_words(view))
    return [sentence for sentence in found if sentence is not None]


def stop_in_words(view: StudyView) -> str | None:
    """A line if nothing was gained for long; None in a comparison, and for a Pareto front, which
    grows without a new best.

    It is no advice to stop: of 30 random configurations the best is among the first 20 in two
    studies of three, and as many again would beat it in one of two.
    """
    if view.spec.is_comparison or view.spec.minimize_also or view.best is None:
        return None
    # By their last reports, because paused trials all end at the same time.
    last = view.best.reports[-1].reported_at
    others = view.in_state("complete", "pruned")
    without = sum(bool(one.reports) and one.reports[-1].reported_at > last for one in others)
    if without < max(LONG, SHARE * view.finished):
        return None
    return f"None of the last {without} of {view.finished} trials beat the best."


def overfitting_in_words(trial: TrialView, view: StudyView) -> str | None:
    """A warning if its value has long been rising while its training loss kept falling."""
    best = trial.best
    if trial.state != "complete" or best is None:
        return None
    last = trial.curve[-1]
    lowest, risen = (objective_in_words(view, row.value) for row in (best, last))
    shown = (
        last.epoch - best.epoch >= max(LATER[0], LATER[1] * last.epoch)
        and last.train_loss < best.train_loss
        and math.isfinite(last.value)
        and last.value >= (1 + RISE) * best.value
        and lowest != risen  # both are 0, for example
    )
    if not shown:
        return None
    remedy = ""
    if not view.spec.is_comparison and needs_stronger_augmentation(trial):
        trained = f"With finalize --epochs {LONGER * view.spec.epochs} it is trained"
        if view.spec.final_stretch is not None:
            trained = "finalize trains it"
        remedy = f" {trained} longer, with stronger augmentation."
    return (
        f"Trial {trial.number} over-fits: its {view.spec.value.label} is lowest in epoch "
        f"{best.epoch} of {last.epoch} ({lowest}) and rises to {risen} by the last, while its "
        f"training loss falls from {best.train_loss:.4f} to {last.train_loss:.4f}.{remedy}"
    )


def needs_stronger_augmentation(trial: TrialView) -> bool:
    """Whether its augmentation can be strengthened, and its last training loss is well below its
    validation loss."""
    if trial.config is None or trial.config.recipe.augmentation == "none":
        return False
    if not 0 < trial.config.recipe.augmentation_strength < USUAL_STRENGTH:
        return False
    last = trial.curve[-1]
    return last.train_loss < BY_HEART * last.metrics.get(CALIBRATED_LOSS, last.validation_loss)


def without_effect(spec: StudySpec) -> list[str]:
    """A sentence on each searched parameter that changes no training, and on arms that are alike.

    `width changes nothing here: no network or setting of this study uses it; leave it out.`
    """
    found = []
    if spec.is_comparison:
        made = [make_config(arm.values, spec) for arm in spec.arms]
        for index, arm in enumerate(spec.arms):
            if (first := made.index(made[index])) != index:
                same = f"arms {spec.arms[first].name!r} and {arm.name!r}"
                found.append(f"{same} train the same network in the same way.")
        return found
    random, space = Random(0), searched(spec)
    tried = [
        {name: random.choice(corners(domain)) for name, domain in space.items()}
        for _ in range(TRIED)
    ]
    return [
        f"{name} changes nothing here: no network or setting of this study uses it; leave it out."
        for name in space
        if not any(matters(name, values, spec) for values in tried)
    ]


def edges_in_words(view: StudyView) -> list[str]:
    """A sentence for each edge of the searched space on which all winners lie; then how to go on.

    `The best 3 trials have width 32, the largest allowed: try width = { ... } in [space].`
    `A changed space needs a new study: --study NAME --warm-start fashion.`
    """
    spec, space = view.spec, searched(view.spec)
    if spec.is_comparison or spec.minimize_also or view.finished < FEWEST:
        return []
    ranges = {name: one for name, one in space.items() if isinstance(one, Range)}
    # Only its short training favours weak augmentation; finalize strengthens it.
    memorised = view.best is not None and needs_stronger_augmentation(view.best)
    winners = [
        one
        for one in view.trained_far
        if one.config is not None
        and not one.is_baseline
        and space.keys() <= one.params.keys()
        and all(domain.contains(one.params[name]) for name, domain in ranges.items())
    ][:WINNERS]
    if len(winners) < WINNERS:
        return []
    found = [
        sentence
        for name, domain in ranges.items()
        for end in ("low", "high")
        if not (memorised and (name, end) == ("augmentation_strength", "low"))
        if (sentence := _edge_in_words(view, winners, name, domain, end)) is not None
    ]
    if found:
        again = f"--study NAME --warm-start {shlex.quote(printable(view.name))}"
        found[-1] += f" A changed space needs a new study: {again}."
    return found


def _edge_in_words(
    view: StudyView, winners: list[TrialView], name: str, domain: Range, end: str
) -> str | None:
    """None unless all winners lie near that end, which rarely happens by chance if the range has
    three values or more and no limit keeps most networks small."""
    edge, parameter = getattr(domain, end), view.spec.parameters[name]
    if (
        domain.low == domain.high
        or edge in (parameter.least, parameter.most)
        or (domain.integer and domain.high - domain.low < 2 * domain.step)
        or (limits(view.spec) and end == "low" and name not in RECIPE)
        or not all(_is_near(view.spec, one, name, domain, end) for one in winners)
    ):
        return None
    wider = _wider(view, winners[0], name, domain, end)
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


def _is_near(spec: StudySpec, trial: TrialView, name: str, domain: Range, end: str) -> bool:
    """Whether the trial lies near that end, and its training depends on the parameter."""
    assert trial.config is not None
    position = domain.position(trial.params[name])
    # By an override, what it was trained with can differ from what its parameters say.
    if (position if end == "low" else 1 - position) > NEAR or name in idle(trial.config.recipe):
        return False
    stored = FixedTrial(dict(trial.params))
    values = {key: one.suggest(stored, key) for key, one in searched(spec).items()}
    return matters(name, values, spec)


def _rounded(value: float, edge: float, digits: int) -> float:
    """To so many significant digits, or to as many as it takes to stay on its side of the edge."""
    while (near := float(f"{value:.{digits}g}")) != value and (near - edge) * (value - edge) <= 0:
        digits += 1
    return near


def _wider(view: StudyView, best: TrialView, name: str, domain: Range, end: str) -> Range | None:
    """A wider range at whose new end the best trial's network is valid and within all limits."""
    spec, facts = view.spec, view.dataset
    parameter, edge = spec.parameters[name], getattr(domain, end)
    sign = 1 if end == "high" else -1
    for by in BY:
        if domain.log:
            new = edge * min((domain.high / domain.low) ** 0.5, 10.0) ** (sign * by)
            new = min(max(_rounded(new, edge, 1), edge / 10), edge * 10)
        else:
            new = edge + sign * by * (domain.high - domain.low)
        new = _rounded(new, edge, 4)
        if domain.integer:
            new = edge + sign * domain.step * max(1, round(abs(new - edge) / domain.step))
        if end == "low" and parameter.least is not None:
            new = max(new, parameter.least)
        if end == "high" and parameter.most is not None:
            new = min(new, parameter.most)
        with suppress(SpecError, ArchitectureError):
            wider = read_parameter(name, {**domain.written, end: new}, spec.parameters)
            assert isinstance(wider, Range)
            wide = replace(spec, space={**spec.space, name: wider})
            network = suggest(FixedTrial({**best.params, name: new}), wide).architecture
            images = facts.image_shape, len(facts.class_names)
            with warnings.catch_warnings(action="ignore"):  # a user's network of no channels
                anatomy(network, *images)
            if share_of_limits(network, spec, *images)[0] <= 1:
                return wider
    return None
