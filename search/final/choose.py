"""Which trial of a study is finalised, and how long it is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import geometric_mean
from typing import Any

from models import to_dict
from search.analysis.candidates import Candidate, decision_in_words, ranked, recorded_candidates
from search.analysis.comparison import has_diverged
from search.analysis.final_result import STUDYS_BEST
from search.analysis.findings import USUAL_STRENGTH, needs_stronger_augmentation
from search.analysis.measures import objective_in_words
from search.analysis.wording import counted
from search.spec.config import TrialConfig
from search.spec.objectives import TEMPERATURE
from search.store import StorageError
from search.store.records import ResultRow
from search.store.views import StudyView, TrialView
from search.terminal.command_line import command
from search.training.epoch import Epoch, RepeatError
from search.training.metrics import HIGHEST_TEMPERATURE
from search.training.repeat import Job, TrainedRun


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A trial to repeat.

    Attributes:
        trial: its configuration may have another schedule than the study trained, see `stretched`.
        epochs: up to the trial's best epoch, or the length of the other schedule.
        temperature: fitted on the validation images after that epoch; 1 if none is on record, or if
            the network classified all of them correctly, so that no temperature was best.
        why: how it was chosen, unless it is simply the study's best; else empty.
    """

    trial: TrialView
    epochs: int
    temperature: float
    why: str = ""

    @property
    def config(self) -> TrialConfig:
        assert self.trial.config is not None
        return self.trial.config

    def jobs(self, seeds: int, *, is_candidate: bool = False, **common: Any) -> list[Job]:
        """A training for each seed, from 0. `common`: what all trials share, see `Job`."""
        return [
            Job(
                architecture=to_dict(self.config.architecture),
                recipe=self.config.recipe,
                epochs=self.epochs,
                seed=seed,
                candidate=self.trial.number if is_candidate else None,
                **common,
            )
            for seed in range(seeds)
        ]


def choose_trial(view: StudyView, number: int | None = None, arm: str | None = None) -> Chosen:
    """The complete trial with the lowest value, of the study or of an arm; or trial `number`.

    Raises StorageError if there is no such trial, or it cannot be repeated.
    """
    of, trials = f"study {view.name!r}", list(view.leaderboard)
    if number is not None:
        trials = [trial for trial in view.trials if trial.number == number]
        if not trials:
            raise StorageError(f"{of} has no trial {number}; it has {view.count()}, counted from 0")
        if trials[0].state not in ("complete", "pruned"):
            raise StorageError(
                f"trial {number} of {of} is {trials[0].state}; name one that is complete or pruned"
            )
    elif arm is not None:
        arms = dict.fromkeys(trial.arm for trial in view.trials if trial.arm is not None)
        if arm not in arms:
            there = ", ".join(map(repr, arms)) or "none"
            raise StorageError(f"{of} has no arm {arm!r}; its arms are {there}")
        of, trials = f"arm {arm!r} of {of}", [trial for trial in trials if trial.arm == arm]
    if not trials:
        raise StorageError(f"no complete trials in {of}{_none_complete(view, arm)}")
    trial = trials[0]
    if trial.best is None or trial.config is None:
        raise StorageError(
            f"trial {trial.number} of {of} has no finished epoch with a loss; name another --trial"
        )
    why = "" if number is None and arm is None else _why(view, trial, arm)
    best = trial.best
    return Chosen(trial=trial, epochs=best.epoch, temperature=temperature_of(best), why=why)


def _none_complete(view: StudyView, arm: str | None) -> str:
    """The reason, if it is known, and the remedy."""
    planned = view.spec.trials if arm is None else view.spec.repeats
    failed = [one for one in view.in_state("failed") if arm in (None, one.arm)]
    if not view.spec.is_comparison or len(failed) < planned:
        return f"; train some first with {command('study', view.name, view.storage)}"
    again = [str(one.number) for one in failed if not has_diverged(one.reason)]
    if not again:
        return f", because all diverged; name another {'study' if arm is None else 'arm'}"
    train = command("study", view.name, view.storage, "--continue", *again)
    return f", because all failed; train them again with {train}"


def require_all_trials(view: StudyView) -> None:
    """Raises StorageError if the study is not finished."""
    if view.finished < view.spec.trials:
        finish = command("study", view.name, view.storage)
        raise StorageError(
            f"study {view.name!r} has {view.finished} of its {view.spec.trials} trials, and only a "
            f"first test evaluation is unbiased: finish it with {finish}, or give --now to "
            "finalize it as it is"
        )


def temperature_of(epoch: Epoch) -> float:
    """The epoch's fitted temperature; 1 if none is on record, or none was best."""
    temperature, bound = epoch.metrics.get(TEMPERATURE, 1.0), 0.99 * HIGHEST_TEMPERATURE
    return temperature if 1 / bound < temperature < bound else 1.0


def choose_candidates(view: StudyView, count: int, epochs: int | None = None) -> list[Chosen]:
    """The trials with the lowest values, lowest first: complete ones, and those that were stopped
    past half their epochs, which are then trained for their whole schedule.

    Args:
        epochs: as for `stretched`; if None, see `choose_trial`.

    Raises:
        StorageError: there are fewer than `count`, or the study compares arms.
    """
    if view.spec.is_comparison:
        raise StorageError(
            f"study {view.name!r} compares arms, each with several seeds already; leave out "
            "--candidates, and name one with --arm NAME"
        )
    far = [one for one in view.trained_far if one.state in ("complete", "pruned") and one.config]
    if len(far) < count:
        remedy = f"give --candidates {len(far)}" if len(far) > 1 else "leave out --candidates"
        raise StorageError(
            f"study {view.name!r} has {counted(len(far), 'trial')} that got past half their "
            f"epochs, but got --candidates {count}; {remedy}, or train more trials"
        )
    found = []
    for trial in far[:count]:
        chosen = replace(choose_trial(view, trial.number), why="")
        whole = None if trial.state == "complete" else chosen.config.recipe.epochs
        found.append(stretched(chosen, epochs or whole))
    return found


def decide(
    view: StudyView, candidates: Sequence[Chosen], trained: Sequence[TrainedRun]
) -> tuple[Chosen, tuple[Candidate, ...]]:
    """The winner among runs with fresh seeds on the study's own split, and all candidates.

    The winner's temperature is the geometric mean of those of its fresh runs. `trained` has equally
    many runs per candidate, in the candidates' order. Raises RepeatError if every one diverged.
    """
    found, fresh, runs = [], dict[int, Chosen](), iter(trained)
    for chosen in candidates:
        ends = [run.curve[-1] for run in islice(runs, len(trained) // len(candidates))]
        values = map(view.spec.value.of, ends)
        number, best = chosen.trial.number, chosen.trial.best
        assert best is not None
        fresh[number] = replace(chosen, temperature=geometric_mean(map(temperature_of, ends)))
        found.append(
            Candidate(
                trial=number,
                epochs=chosen.epochs,
                searched=best.value,
                values=tuple(value if math.isfinite(value) else math.inf for value in values),
            )
        )
    winner = ranked(found)[0]
    if not math.isfinite(winner.mean):
        raise RepeatError(
            "every candidate diverged with a fresh seed; name a trial with --trial N instead"
        )
    chosen = fresh[winner.trial]
    why = f"{decision_in_words(found, view.spec.objective)} {chosen.why}".rstrip()
    return replace(chosen, why=why), tuple(found)


def as_recorded(
    view: StudyView, chosen: Chosen, row: ResultRow
) -> tuple[Chosen, tuple[Candidate, ...]]:
    """The decision on record with a complete evaluation of the same weights, whatever was decided
    now; earlier versions recorded less.

    It may be of another trial: all repeats of an arm have the same configuration.
    """
    assert row.figures is not None
    trial = next((it for it in view.trials if it.number == row.trial_number and it.best), None)
    why = row.figures.get("chosen", chosen.why)
    decision = replace(
        chosen,
        trial=replace(trial or chosen.trial, config=chosen.config),
        temperature=row.figures.get("calibration", {}).get("temperature", chosen.temperature),
        why="" if why == STUDYS_BEST else why,
    )
    return decision, recorded_candidates(row.figures)


def stretched(chosen: Chosen, epochs: int | None) -> Chosen:
    """The choice with its schedule scaled to `epochs`, all of them trained; None: as it is.

    A search with short trainings favours the weak augmentation that suits them. If the trial was
    memorising its images, the strength grows in proportion to `epochs` over the trial's best epoch,
    up to the usual strength (evidence: docs/search.md, "Choosing the winner"). The temperature is
    the one from the end of the trial's own schedule, or from the last epoch that it reached.
    """
    best, own, trial = chosen.epochs, chosen.config.recipe.epochs, chosen.trial
    if epochs is None or best == own == epochs:
        return chosen
    how = "its whole schedule" if own == epochs else "with its schedule scaled to match"
    told = (
        f"Trained for {counted(epochs, 'epoch')}, {how}; the trial was best after epoch {best} of "
        f"{own}."
    )
    recipe, frozen = chosen.config.recipe, epochs
    if recipe.frozen_epochs < own:  # the other layers are trained, too
        frozen = min(math.ceil(recipe.frozen_epochs * epochs / own), epochs - 1)
    recipe = replace(recipe, epochs=epochs, frozen_epochs=frozen)
    if epochs > own and needs_stronger_augmentation(trial):
        weak = recipe.augmentation_strength
        strong = min(USUAL_STRENGTH, weak * epochs / best)
        told += (
            f" Its augmentation has strength {strong:.2g} instead of {weak:.2g}, because it was "
            "memorising its training images."
        )
        recipe = replace(recipe, augmentation_strength=strong)
    return Chosen(
        trial=replace(trial, config=replace(chosen.config, recipe=recipe)),
        epochs=epochs,
        temperature=temperature_of(trial.curve[-1]),
        why=f"{chosen.why} {told}".lstrip(),
    )


def _why(view: StudyView, trial: TrialView, arm: str | None) -> str:
    how = "was named by hand" if arm is None else f"is the best repeat of arm {arm}"
    best = view.best
    if best is None or best.best is None:
        beside = "none is complete"
    elif best.number == trial.number:
        beside = "which is also the study's best"
    else:
        own, theirs = (objective_in_words(view, it.value) for it in (trial.best, best.best) if it)
        label = f"{view.spec.value.label} {own} against {theirs}"
        beside = f"not the study's best: {label} of trial {best.number}"
    return f"Trial {trial.number} {how}, {beside}."
