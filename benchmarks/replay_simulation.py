"""Searches in simulated time: Optuna's `ask`, `report` and `tell`, with recorded trainings.

An event is a report of a trial that one of the workers trains; nothing else takes time. What a
search sees and what it is scored by are kept separate: a strategy gets a `SearchState`, which holds
only objectives.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from search.sampling import promotion
from search.sampling.forecast import Contender
from search.spec.config import StudySpec
from search.spec.recipe import PARTIAL_EPOCH
from search.spec.space import distributions
from search.store.claims import Choice
from search.store.views import State

RAW, CALIBRATED, ERROR = "validation_loss", "calibrated_validation_loss", "validation_error"
SEEN = (RAW, CALIBRATED, ERROR)  # the possible objectives of a search
HORIZON = 100.0  # whole trainings that a search may take
BUDGET = StudySpec(dataset="").budget  # share of trials x epochs
Verdict = Literal["go", "pause", "stop"]
Clock = Callable[[float], float]  # relative duration of an epoch, linear in the multiply-adds


class HeldOutScore(NamedTuple):
    """The score on images held out of the search."""

    error: float
    loss: float  # after temperature scaling


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """One whole training; R reports.

    Attributes:
        params: as Optuna stores them.
        epochs: of the reports; 0 is the partial-epoch validation, (R,).
        seconds: duration of each report, (R,).
        seen: name -> what a search sees at each report, (R,) each.
        hidden: the score of the network at each report, (R,).
        work: multiply-adds of the network for one image; 0: not known.
    """

    params: Mapping[str, Any]
    epochs: Sequence[int]
    seconds: Sequence[float]
    seen: Mapping[str, Sequence[float]]
    hidden: Sequence[HeldOutScore]
    work: int = 0


class Source(Protocol):
    """Where one search gets its trainings from."""

    def is_empty(self) -> bool: ...

    def sampler(self, inner: BaseSampler) -> BaseSampler:
        """A sampler that proposes only configurations that can be trained."""

    def take(self, params: Mapping[str, Any]) -> RecordedRun:
        """Train the proposed configuration."""


class World(Protocol):
    """The possible trainings on one data set.

    Attributes:
        spec: space, epochs.
        whole_seconds: mean duration of a whole training.
        mean_work: mean multiply-adds of a network for one image.
        size: number of configurations.
    """

    spec: StudySpec
    whole_seconds: float
    mean_work: float
    size: float

    def source(self, seed: int) -> Source: ...


class Incumbent(NamedTuple):
    """The incumbent's score, from this compute on (in whole trainings)."""

    compute: float
    error: float
    loss: float


@dataclass
class Entry:
    """One trial; everything that a strategy knows about it."""

    trial: optuna.Trial
    params: dict[str, Any]  # kept, because Optuna copies a trial's on every access
    work: int
    curve: dict[int, float] = field(default_factory=dict)  # epoch -> objective
    state: State = "running"

    @property
    def lowest(self) -> float:
        return min(self.curve.values(), default=math.inf)

    def contender(self) -> Contender:
        assert self.state != "failed"
        return Contender(
            number=self.trial.number,
            state=self.state,
            params=self.params,
            recorded=self.params,
            curve=self.curve,
            work=self.work,
        )


@dataclass
class SearchState:
    """The state of a search by which a strategy decides.

    Attributes:
        spec: its `trials` are how many it may start, if it heeds them.
        budget: how many epochs it may spend, if it heeds that.
        prior: of the forecast.
    """

    spec: StudySpec
    budget: float
    prior: Path | None = None
    entries: list[Entry] = field(default_factory=list)

    def begin(self, trial: optuna.Trial, work: int) -> Entry:
        self.entries.append(Entry(trial, trial.params, work))
        return self.entries[-1]

    def paused(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == "paused"]


def go(_progress: SearchState, _entry: Entry) -> Verdict:
    return "go"


def new(_progress: SearchState) -> Choice:
    return promotion.NEW


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a search decides.

    Attributes:
        sampler, pruner: of its Optuna study; the pruner decides nothing unless `after` asks it.
        objective: what it sees of each report, and picks its incumbent by.
        early: whether it sees the partial-epoch validation.
        after: called when a trial has reported; decides whether it continues.
        choose: called when a worker is free; decides what it trains.
        is_ours: whether it runs code of `search.sampling`.
        prior: of its forecast: learned on the other records, none, or the inverse.
    """

    description: str
    sampler: Callable[[SearchState], BaseSampler]
    pruner: Callable[[StudySpec], BasePruner] = lambda _spec: NopPruner()
    objective: str = RAW
    early: bool = False
    after: Callable[[SearchState, Entry], Verdict] = go
    choose: Callable[[SearchState], Choice] = new
    is_ours: bool = False
    prior: Literal["others", "none", "inverted"] = "others"


def on_cpu(work: float) -> float:
    """A `Clock`: a CPU's."""
    return promotion.OVERHEAD + work


def simulate(
    strategy: Strategy,
    world: World,
    seed: int,
    workers: int,
    *,
    trials: int | None = None,
    budget: float = BUDGET,
    horizon: float = HORIZON,
    prior: Path | None = None,
    first: Sequence[Mapping[str, Any]] = (),
    clock: Clock | None = None,
) -> list[Incumbent]:
    """Run one search; returns its incumbents, in order of compute.

    Args:
        workers: number that train at once; compute is their number times the time since the start.
        trials: how many a strategy with a total may start. None: as many as fill the horizon.
        budget: share of trials x epochs that such a strategy may spend.
        horizon: compute at which the search is stopped, in whole trainings.
        prior: of the forecast; never one learned on this data set.
        first: configurations that the search starts with.
        clock: how long an epoch takes; None: as recorded.
    """
    total = int(min(math.ceil(horizon / budget) if trials is None else trials, world.size))
    spec = dataclasses.replace(world.spec, seed=seed, trials=total)
    progress = SearchState(spec, budget * total * spec.epochs, prior)
    replay = _Replay(strategy, world, progress, seed, clock)
    for params in first:
        replay.study.enqueue_trial(dict(params))
    return replay.run(workers, horizon)


class _Replay:
    def __init__(
        self,
        strategy: Strategy,
        world: World,
        progress: SearchState,
        seed: int,
        clock: Clock | None,
    ) -> None:
        self._strategy, self._progress, self._clock = strategy, progress, clock
        self._whole_seconds = world.whole_seconds
        if clock is not None:
            self._whole_seconds = clock(world.mean_work) * world.spec.epochs
        self._source = world.source(seed)
        self._space = distributions(progress.spec)
        sampler = self._source.sampler(strategy.sampler(progress))
        self.study = optuna.create_study(sampler=sampler, pruner=strategy.pruner(progress.spec))
        self._runs: list[RecordedRun] = []  # by trial number
        self._next: list[int] = []  # index of each trial's next report

    def run(self, workers: int, horizon: float) -> list[Incumbent]:
        found: list[Incumbent] = []
        lowest, now, idle, order = math.inf, 0.0, workers, itertools.count()
        under_way: list[tuple[float, int, int]] = []  # (end of the report, order, trial)

        def train(number: int) -> None:
            seconds = self._runs[number].seconds[self._next[number]]
            heapq.heappush(under_way, (now + seconds, next(order), number))

        while True:
            while idle and (chosen := self._chosen()) is not None:
                train(chosen)
                idle -= 1
            if not under_way:
                return found
            now, _, number = heapq.heappop(under_way)
            compute = now * workers / self._whole_seconds
            if compute > horizon:
                return found
            run, report = self._runs[number], self._next[number]
            value = run.seen[self._strategy.objective][report]
            if run.epochs[report] and value < lowest:
                lowest = value
                found.append(Incumbent(compute, *run.hidden[report]))
            if self._goes_on(number, value):
                train(number)
            else:
                idle += 1

    def _chosen(self) -> int | None:
        """The trial that a free worker starts or resumes; None if there is nothing to do."""
        choice = self._strategy.choose(self._progress)
        if choice != promotion.NEW:
            if choice is not None:
                self._progress.entries[choice].state = "running"
            return choice
        if self._source.is_empty():
            return None
        trial = self.study.ask(self._space)
        self._runs.append(self._take(trial.params))
        self._next.append(0)
        self._progress.begin(trial, self._runs[-1].work)
        return trial.number

    def _take(self, params: Mapping[str, Any]) -> RecordedRun:
        found = self._source.take(params)
        if self._clock is None:
            return found
        lengths = np.diff([0.0, PARTIAL_EPOCH, *found.epochs[1:]])
        seconds = (lengths * self._clock(found.work)).tolist()
        return dataclasses.replace(found, seconds=seconds)

    def _goes_on(self, number: int, value: float) -> bool:
        """Pass a report to strategy and study; returns whether the trial continues now."""
        entry, run = self._progress.entries[number], self._runs[number]
        epoch = run.epochs[self._next[number]]
        self._next[number] += 1
        if not math.isfinite(value):
            entry.state = "failed"
            self.study.tell(entry.trial, state=TrialState.FAIL)
            return False
        if epoch == 0 and not self._strategy.early:
            return True
        entry.curve[epoch] = value
        entry.trial.report(value, epoch)
        if self._next[number] == len(run.epochs):
            entry.state = "complete"
            self.study.tell(entry.trial, entry.lowest)
            return False
        verdict = self._strategy.after(self._progress, entry)
        if verdict == "stop":
            entry.state = "pruned"
            self.study.tell(entry.trial, state=TrialState.PRUNED)
        elif verdict == "pause":
            entry.state = "paused"
        return verdict == "go"
