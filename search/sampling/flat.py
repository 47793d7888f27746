"""Whether a study has gone flat: further training is expected to gain less than the user asks for.

Two things can still lower the best value: paused and running trials, judged by their forecasts, and
new configurations, judged by what the latest third of the trials gained. A study is flat when both
are below the gain. This is checked only after FEWEST trials; if a flat study is given more trials,
only once a third of its trials are new.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.trial import TrialState
from sqlalchemy import Connection, func, select

from search.sampling.chooser import TELLING, Contenders
from search.sampling.forecast import Contender, estimates_of
from search.sampling.priors import prior_for
from search.sampling.promotion import expected_improvement
from search.spec.config import StudySpec
from search.store.claims import COUNTED, stored_attribute
from search.store.leases import revive
from search.store.schema import FLAT, STOPPED, stored_flat, trials
from search.store.studies import StudyHandle, load_spec

FEWEST = 20  # started trials; the first ten were not proposed by a model


def why_flat(
    contenders: Sequence[Contender], spec: StudySpec, gain: float, prior: Path | None
) -> str | None:
    """Why further training is expected to lower the best value by less than `gain`, or None.

    `contenders`: all trials of the study except failed ones, by number. `prior`: see `read_prior`.
    """
    ends = estimates_of(contenders, spec.epochs, prior)
    # Even a complete trial has no estimate if it was added by hand, without a finite report.
    known = [one for one in contenders if one.number in ends]
    whole = [ends[one.number][0] for one in known if one.state == "complete"]
    early = contenders[: math.ceil(2 * len(contenders) / 3)]
    before = [ends[one.number][0] for one in early if one.number in ends]
    if not whole or not before:
        return None
    open_ones = [one.number for one in contenders if one.state in ("paused", "running")]
    lowest = min(whole)  # a logarithm, like all values here
    promised = max(
        (expected_improvement(lowest, *ends[number]) for number in open_ones if number in ends),
        default=0.0,
    )
    promised *= math.exp(lowest)
    gained = math.exp(min(before)) - math.exp(min(mean for mean, _ in ends.values()))
    if max(promised, gained) >= gain:
        return None
    left = f"no paused one promises more than {promised:.2g}" if open_ones else "none is paused"
    return (
        f"further trials are expected to lower the {spec.value.word} by less than {gain:g}: the "
        f"latest {len(contenders) - len(early)} of {len(contenders)} lowered the best forecast by "
        f"{gained:.2g}, and {left}; its total was {spec.trials} trials"
    )


def make_flat(contenders: Contenders) -> Callable[[Connection], str | None]:
    """A function that returns why the study should end now, or None if it should not.

    It follows the setting, which another start may change at any time.
    """
    study, spec = contenders.study, contenders.spec
    of_study = trials.c.study_id == study.study_id
    queued = select(func.count()).where(of_study, trials.c.state == TrialState.WAITING)

    def why(connection: Connection) -> str | None:
        setting = json.loads(stored_attribute(connection, study.study_id, FLAT) or "null")
        if (stored := stored_flat({FLAT: setting})) is None:
            return None
        gain, begun = stored
        found = contenders(connection)
        if len(found) < max(FEWEST, 1.5 * begun) or connection.scalar(queued):
            return None
        return why_flat(found, spec, gain, prior_for(spec.dataset))

    return why


def set_flat(study: StudyHandle, gain: float | None, total: int) -> None:
    """Set whether the study ends when it is flat; to be called before its total is changed.

    If it has ended that way, and the setting changes or a new total leaves room for more trials, it
    goes on, and the trials that were paused then pause again.
    """

    def change(connection: Connection) -> None:
        attributes = study.study.user_attrs
        stored, stopped = stored_flat(attributes), attributes.get(STOPPED) is not None
        begun = 0 if stored is None else stored[1]
        if stopped and total != load_spec(study, attributes).trials:
            there = study.db.optuna.get_all_trials(study.study_id, deepcopy=False)
            if total > sum(trial.state in COUNTED for trial in there):
                begun = sum(trial.state in TELLING for trial in there)
        new = None if gain is None else (gain, begun)
        if new != stored:
            study.study.set_user_attr(FLAT, None if new is None else list(new))
        if stopped and (new != stored or new is None):
            unstop(study)
            revive(connection, study.study_id)

    study.write(change)


def unstop(study: StudyHandle) -> None:
    """Unmark a study that ended as flat, if it did: there is more to train. In a transaction."""
    if study.study.user_attrs.get(STOPPED) is not None:
        study.study.set_user_attr(STOPPED, None)
