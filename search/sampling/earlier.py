"""An earlier study read as a warm start for a new one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search.sampling.forecast import fit
from search.sampling.registry import find_sampler
from search.sampling.sampler import LEARNED_FROM, contender_of
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.earlier import Earlier, Params, adapted, values_of
from search.spec.space import searched
from search.store import without_password
from search.store.database import Database
from search.store.opening import open_database
from search.store.studies import StudyHandle, load_facts, load_spec, require_study

LEAST = 3  # configurations without which a study says nothing
KEPT, KEPT_BEST = 60, 15  # configurations at most: so many of the best, others evenly by rank
MOST_AWAY = 2.5  # standard deviations: how bad the worst are is of no interest


def read_earlier(
    named: Sequence[str], spec: StudySpec, storage: str, db: Database | None
) -> tuple[Earlier, ...]:
    """What a new study keeps of each earlier one.

    Args:
        named: `STUDY` of the study's own database, `URL#STUDY`, or `URL` for the latest there.
        db: the database at `storage`, where it is open.

    Raises:
        SpecError: a study from which nothing can be learned for this space.
        StorageError: there is no such study or database.
    """
    if named and spec.is_comparison:
        what = "--warm-start is for a search, but this study compares arms; leave it out"
        raise SpecError("warm_start", what)
    if named and not find_sampler(spec.sampler).on_estimates:
        what = f"--warm-start has no use for sampler {spec.sampler!r}, which does not learn from it"
        raise SpecError("warm_start", f"{what}; leave one of them out")
    found = []
    for name in dict.fromkeys(named):
        url, _, study = name.rpartition("#") if "://" in name else (storage, "", name)
        if "://" in name and not url:
            url, study = name, ""
        other = db if url == storage and db is not None else open_database(url, must_exist=True)
        try:
            earlier = require_study(other, study or None)
            source = study if url == storage else f"{without_password(url)}#{earlier.name}"
            found.append(_keep(earlier, source, spec))
        finally:
            if other is not db:
                other.close()
    return tuple(found)


def _keep(study: StudyHandle, source: str, spec: StudySpec) -> Earlier:
    old = load_spec(study)
    if old.is_comparison:
        problem = f"study {study.name!r} compares arms; a warm start needs one that searched"
        raise SpecError("warm_start", problem)
    trials = [
        (trial, values)
        for trial in study.study.get_trials(deepcopy=False)
        if trial.state in LEARNED_FROM and (values := values_of(trial, old)) is not None
    ]
    contenders = [contender_of(trial) for trial, _ in trials]
    forecast = fit(contenders, old.epochs)
    ends, levels = list[tuple[Params, float]](), list[float]()
    left_out = clipped = 0
    for (_, values), one in zip(trials, contenders, strict=True):
        if (estimate := forecast.estimate_final(one)) is None:
            continue
        if (moved := adapted(values, spec)) is None:
            left_out += 1
            continue
        clipped += moved[1]
        ends.append((moved[0], sum(estimate)))  # a young trial may end higher than it promises
        if one.state == "complete":
            levels.append(one.level())
    if len(ends) < LEAST:
        why = f"; {left_out} more chose what this study does not offer" if left_out else ""
        raise SpecError(
            "warm_start",
            f"study {study.name!r} has too few trials for a warm start: {len(ends)}, {LEAST} are "
            f"needed{why}; leave --warm-start {source} out",
        )
    return Earlier(
        source=source,
        data=load_facts(study).title,
        objective=old.objective,
        best=math.exp(min(levels)) if levels else None,
        configurations=standardised(ends),
        left_out=left_out,
        clipped=clipped,
        not_searched=tuple(sorted(searched(old).keys() - searched(spec).keys())),
    )


def standardised(ends: Sequence[tuple[Params, float]]) -> tuple[tuple[Params, float], ...]:
    """Those to keep, the best first, by standard deviations above the mean of all.

    Args:
        ends: parameters, and logarithms of the final objective.
    """
    values_N = np.array([end for _, end in ends])
    away_N = (values_N - values_N.mean()) / max(float(values_N.std()), 1e-9)
    order = np.argsort(away_N, kind="stable")
    if len(order) > KEPT:
        others = np.linspace(KEPT_BEST, len(order) - 1, KEPT - KEPT_BEST).round().astype(int)
        order = np.concatenate([order[:KEPT_BEST], order[others]])
    return tuple((ends[at][0], round(min(float(away_N[at]), MOST_AWAY), 4)) for at in order)
