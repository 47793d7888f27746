"""An earlier study as a warm start: its best configurations are the first trials of a new one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from copy import copy
from typing import Any

from optuna.trial import FrozenTrial

from models import Parameter
from search.sampling.chooser import TELLING, contender_of
from search.sampling.forecast import fit
from search.sampling.limits import Limits
from search.sampling.priors import prior_for, recorded_parameters
from search.spec.config import Earlier, StudySpec
from search.spec.domains import ParameterValue, Range, SpecError, as_spec_error, choice_label
from search.spec.extensions import Extension, file_of, register_families
from search.spec.parameters import FAMILY, families_in, known_parameters, read_parameter
from search.spec.space import (
    OVERRIDES,
    base_values,
    queued_baseline,
    searched,
    suggest_values,
    values_of,
)
from search.store import without_password
from search.store.database import Database
from search.store.extensions import read_spec
from search.store.opening import open_database
from search.store.schema import SPEC
from search.store.studies import StudyHandle, damage_in_a_line, load_facts, require_study

FIRST = 3  # best configurations are taken, but at most a tenth of the new study's trials
TABLES = ("space", "baseline")  # of a stored specification: parameters by name
Params = Mapping[str, Any]  # as Optuna stores them


def read_earlier(
    named: Sequence[str], spec: StudySpec, storage: str, db: Database | None, limits: Limits | None
) -> tuple[Earlier, ...]:
    """What a new study takes over from each earlier one; no configuration twice.

    Args:
        named: `STUDY` of the study's own database, `URL#STUDY`, or `URL` for the latest there.
        db: the database at `storage`, if it is open.
        limits: of the new study.

    Raises:
        SpecError: none of an earlier study's trials can be trained here, or two names are of the
            same study.
        StorageError: there is no such study or database.
    """
    if named and spec.is_comparison:
        what = "--warm-start is for a search, but this study compares arms; leave it out"
        raise SpecError("warm_start", what)
    found, seen = list[Earlier](), dict[str, str]()
    baseline = [] if spec.baseline is None else [values_of(queued_baseline(spec), spec)]
    for name in dict.fromkeys(named):
        url, study = _place(name, storage)
        other = db if url == storage and db is not None else open_database(url, must_exist=True)
        try:
            earlier = require_study(other, study or None, lambda _: None)  # read below
            if earlier.identity and (same := seen.setdefault(earlier.identity, name)) != name:
                both = " and ".join(f"--warm-start {without_password(it)}" for it in (same, name))
                raise SpecError("warm_start", f"{both} are the same study; leave one of them out")
            there = "" if url == storage else f"{without_password(url)}#"
            taken = [*baseline, *(it for one in found for it in one.configurations)]
            found.append(_taken_over(earlier, there + earlier.name, spec, limits, taken))
        finally:
            if other is not db:
                other.close()
    return tuple(found)


def is_source(source: str, named: str, storage: str) -> bool:
    """Whether `Earlier.source` is what the user names now, see `read_earlier`.

    Earlier versions stored an empty one for the URL of the study's own database.
    """
    url, study = _place(named, storage)
    there, _, name = source.rpartition("#")
    places = {without_password(url), *([""] if url == storage else [])}
    return there in places and study in ("", name)


def _place(named: str, storage: str) -> tuple[str, str]:
    """The database's URL and the study's name; an empty name for the latest one there."""
    if "://" not in named:
        return storage, named
    url, _, study = named.rpartition("#")
    return (url, study) if url else (named, "")


def _read_spec(study: StudyHandle, files: Collection[Extension]) -> StudySpec:
    """Its specification, read with the new study's `files` rather than its own versions of them.

    Only its values are of use, and a process cannot hold two versions of a file. Parameters that
    are unknown there by now are left out. Raises SpecError if a file has lost a network.
    """
    attributes, names = study.attributes, {one.name for one in files}
    stored: Any = attributes.get(SPEC)
    with damage_in_a_line(study):
        own = (stored or {}).get("extensions", ())
        others = [it for it in own if it["name"] not in names]
        families = families_in(stored) if len(others) < len(own) else []
    with as_spec_error("warm_start", f"study {study.name!r} cannot be a warm start: "):
        register_families(it for it in families if file_of(it) in names)
    if families:
        with damage_in_a_line(study):
            known = known_parameters(families)
            tables = {it: _known(stored[it], known) for it in TABLES if stored.get(it)}
            attributes[SPEC] = {**stored, **tables, "extensions": others}
    return read_spec(study, attributes)


def _known(table: Mapping[str, Any], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """A stored table's entries that are still parameters, and of the same type."""
    found = dict[str, Any]()
    for name, written in table.items():
        with suppress(SpecError):
            if name != FAMILY:  # without it, trials would be of another family
                read_parameter(name, written, known)
            found[name] = written
    return found


def _trials(study: StudyHandle, spec: StudySpec) -> list[FrozenTrial]:
    """Its trials that tell something, without overrides of parameters left out of `spec`."""
    found, known = list[FrozenTrial](), spec.parameters
    for trial in study.study.get_trials(deepcopy=False, states=TELLING):
        if isinstance(written := trial.user_attrs.get(OVERRIDES), dict):
            trial = copy(trial)
            trial.user_attrs = {**trial.user_attrs, OVERRIDES: _known(written, known)}
        found.append(trial)
    return found


def _taken_over(
    study: StudyHandle,
    source: str,
    spec: StudySpec,
    limits: Limits | None,
    taken: Sequence[Params],
) -> Earlier:
    old = _read_spec(study, spec.extensions)
    if old.is_comparison:
        problem = f"study {study.name!r} compares arms; a warm start needs one that searched"
        raise SpecError("warm_start", problem)
    trials = _trials(study, old)
    usual = recorded_parameters(old)
    contenders = [contender_of(trial, old, usual) for trial in trials]
    forecast = fit(contenders, old.epochs, prior_for(old.dataset))
    # No forecast holds outside the space.
    told = [one for one in contenders if one.in_space or one.state == "complete"]
    ends, place_of = forecast.estimates(told), {it.number: at for at, it in enumerate(trials)}
    # Ranked by mean plus standard deviation: a young trial may end higher than forecast.
    by_end = sorted((sum(end), place_of[number]) for number, end in ends.items())
    first, left_out, clipped, repeated = list[Params](), 0, 0, 0
    for _, place in by_end:
        if not searched(old).keys() <= contenders[place].params.keys():
            continue  # not all of it is known
        own = suggest_values(trials[place], old)
        values = {**base_values(old, own), **own}
        moved = adapted(values, spec)
        if moved is None or (limits is not None and not limits.fit_with(moved[0])):
            left_out += 1
        elif moved[0] in taken:
            repeated += 1
        elif moved[0] not in first:
            first.append(moved[0])
            clipped += moved[1]
        if len(first) == min(FIRST, math.ceil(spec.trials / 10)):
            break
    if not first:
        alike = set(old.families) & set(spec.families)
        whose = "" if alike else f" (their networks are {' or '.join(old.families)})"
        raise SpecError(
            "warm_start",
            f"study {study.name!r} has no trial that this study could start with: {left_out} do "
            f"not fit its space or limits{whose}, {repeated} are among its first trials already; "
            f"leave --warm-start {source} out",
        )
    levels = [one.level() for one in contenders if one.state == "complete"]
    return Earlier(
        source=source,
        data=load_facts(study).title,
        objective=old.objective,
        best=math.exp(min(levels)) if levels else None,
        configurations=tuple(first),
        left_out=left_out,
        repeated=repeated,
        clipped=clipped,
        not_searched=tuple(sorted({n for it in trials for n in it.params} - searched(spec).keys())),
    )


def adapted(values: Mapping[str, ParameterValue], spec: StudySpec) -> tuple[Params, bool] | None:
    """Another study's values in this one's space, and whether a number had to be moved.

    None if the space lacks one of its choices, or the family of networks differs. A required
    argument that the other study does not have is left out, to be sampled.
    """
    open_ones, found, moved = searched(spec), dict[str, Any](), False
    known = spec.parameters
    if FAMILY not in open_ones and values[FAMILY] != base_values(spec)[FAMILY]:
        return None
    for name, domain in open_ones.items():
        value = values.get(name, known[name].default)
        if known[name].fault(value) is not None:
            continue
        if isinstance(domain, Range) and isinstance(value, int | float):
            near = min(max(value, domain.low), domain.high)
            if domain.integer:
                near = domain.low + domain.step * round((near - domain.low) / domain.step)
            found[name], moved = near, moved or near != value
        elif domain.contains(value):
            found[name] = choice_label(value)
        else:
            return None
    return found, moved
