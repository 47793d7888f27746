"""Studies made by hand: views of any size without a database."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from models import ConvNetConfig
from models.summary import anatomy, count_parameters
from search.analysis.final_result import FeatureMaps, FinalResult, Mistake, SeedRun
from search.spec.arms import Arm, JournalEntry
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import Choice, Range
from search.spec.recipe import Recipe
from search.spec.space import make_config
from search.store.records import EpochRow, ResultRow
from search.store.schema import DatasetFacts
from search.store.views import State, StudyView, TrialView
from search.training.epoch import Epoch, Score

START = datetime(2026, 3, 1, 9, 0)
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
PLAIN = TrialConfig(architecture=ConvNetConfig(channels=(32, 64)), recipe=Recipe(epochs=12))

SEARCHED = StudySpec(
    dataset="fashion_mnist",
    objective="validation_loss",
    space={
        "learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "depth": Range(low=2, high=4),
        "hidden": Choice(values=((64,), (128,), (120, 84))),
        "batch_norm": True,
    },
)


def _epoch(epoch: int, loss: float) -> dict[str, Any]:
    """Errors are a third of losses, at most 1; training values are nine tenths of validation's."""
    error = min(1.0, loss / 3)
    losses = {"train_loss": loss * 0.9, "validation_loss": loss}
    errors = {"train_error": error * 0.9, "validation_error": error}
    rest = {"epoch": epoch, "learning_rate": 1e-3, "seconds": 10.0, "images": 50_000}
    return {**losses, **errors, **rest}


def _row(trial: int, epoch: int, loss: float) -> EpochRow:
    at = START.timestamp() + 60 * trial + epoch
    own: dict[str, Any] = {"worker": "host:1", "attempt": 1, "reported_at": at}
    return EpochRow(trial_number=trial, value=loss, **own, **_epoch(epoch, loss))


def trial_view(
    number: int,
    losses: Sequence[float] = (),
    *,
    state: State = "complete",
    early: float | None = None,
    parameters: int | None = 221_950,
    params: dict[str, Any] | None = None,
    config: TrialConfig = PLAIN,
    reason: str | None = None,
    is_baseline: bool = False,
) -> TrialView:
    return TrialView(
        number=number,
        state=state,
        params={"depth": 3, "learning_rate": 2.13e-3} if params is None else params,
        config=config,
        parameters=parameters,
        curve=tuple(_row(number, epoch, loss) for epoch, loss in enumerate(losses, start=1)),
        partial_epoch=None if early is None else _row(number, 0, early),
        started=START + timedelta(minutes=number),
        finished=None if state in ("running", "waiting") else START + timedelta(minutes=number + 2),
        reason=reason,
        is_baseline=is_baseline,
        worker="host:1" if state in ("running", "interrupted") else None,
    )


def study_view(
    trials: Sequence[TrialView] = (),
    *,
    results: Sequence[ResultRow] = (),
    title: str = "A study",
    data_title: str = "Fashion-MNIST",
    class_names: tuple[str, ...] = CLASSES,
    storage: str = "sqlite:///studies.db",
) -> StudyView:
    return StudyView(
        name="fashion",
        storage=storage,
        spec=StudySpec(
            dataset="fashion_mnist",
            objective="validation_loss",
            title=title,
            seed=7,
            space={
                "depth": Range(low=2, high=4),
                "learning_rate": Range(low=5e-4, high=1e-2, log=True),
                "hidden": Choice(values=((128,), (120, 84))),
                "batch_norm": True,
                "kernel_sizes": (3,),
            },
            baseline={"channels": (32, 64), "padding": 0, "schedule": "constant"},
        ),
        dataset=DatasetFacts(
            name="fashion_mnist",
            title=data_title,
            class_names=class_names,
            image_shape=(1, 28, 28),
            training_count=60_000,
            validation_count=10_000,
        ),
        hardware="2 cores of a test machine",
        versions={"torch": "2.15.0"},
        trials=tuple(trials),
        results=tuple(results),
    )


@pytest.fixture
def result_row() -> ResultRow:
    means = {"accuracy": 0.9312, "error": 0.0688, "loss": 0.2101}
    return ResultRow(
        result_id="r",
        study_name="fashion",
        trial_number=3,
        opened_at=datetime(2026, 3, 2, 10, 30, tzinfo=UTC),
        seeds=(0, 1, 2),
        figures={**means, "std": 0.0012, "loss_std": 0.003, "seeds": 3, "images": 10_000},
    )


@pytest.fixture(scope="session")
def small_study() -> StudyView:
    return study_view(
        [
            trial_view(0, [0.9, 0.5, 0.4], is_baseline=True, params={}),
            trial_view(1, [0.8, 0.35, 0.3], early=1.2, parameters=400_000),
            trial_view(2, [0.7, 0.6], state="pruned", early=1.5, parameters=90_000),
            trial_view(3, [0.6, 0.25, 0.28], parameters=300_000),
            trial_view(4, state="failed", parameters=None, reason="out of memory: <b>GPU</b>"),
            trial_view(5, [math.nan, math.inf, math.nan], state="failed", parameters=120_000),
            trial_view(6, [0.5], state="running", parameters=150_000),
            trial_view(7, state="waiting", parameters=None, params={}),
            trial_view(8, state="pruned", early=2.0, parameters=80_000),
            trial_view(9, [0.45, 0.44], parameters=60_000),
        ]
    )


def big_study(trials: int, epochs: int) -> StudyView:
    made = []
    for number in range(trials):
        complete, length = number % 4 == 0, epochs if number % 4 == 0 else 1 + number % 3
        parameters = 50_000 + 997 * (number * 37 % 1000)
        floor = 0.15 + 0.1 * math.sin(number + 1) ** 2 + 5_000 / parameters
        network = ConvNetConfig(channels=(17, 34, 68, 68), dropout_linear=number % 10 / 21)
        policy, strength = "flip-crop", 0.2 + number % 9 / 11
        recipe = Recipe(epochs=12, augmentation=policy, augmentation_strength=strength)
        made.append(
            trial_view(
                number,
                [floor + 0.9 / (epoch + 1) for epoch in range(length)],
                state="complete" if complete else "pruned",
                early=1.9,
                parameters=parameters,
                config=TrialConfig(architecture=network, recipe=recipe),
                is_baseline=number == 0,
            )
        )
    return study_view(made)


def final_result(
    *,
    accuracies: Sequence[float] = (0.93, 0.94),
    view: StudyView | None = None,
    kernels: tuple[int, int, int, int] | None = (8, 1, 3, 3),
    confusion: Sequence[Sequence[int]] | None = None,
) -> FinalResult:
    """500 test images of five classes, a hundred each, unless the view has other classes."""
    if view is None:
        view = study_view(
            [trial_view(0, [0.5, 0.4], is_baseline=True), trial_view(1, [0.4, 0.25, 0.26])]
        )
    classes, runs = len(view.dataset.class_names), len(accuracies)
    matrix = np.diag([100 * runs] * classes) if confusion is None else np.array(confusion)
    rng = np.random.default_rng(0)
    # Its validation metrics are of images that were trained on: they must not be shown.
    shown = {"train_loss": 0.5, "train_error": 0.2}
    epoch = Epoch(**{**_epoch(1, 99.0), **shown})
    return FinalResult(
        view=view,
        trial=view.leaderboard[0],
        epochs=2,
        layers=anatomy(ConvNetConfig(channels=(8, 16)), (1, 28, 28), classes),
        runs=tuple(
            SeedRun(
                seed=seed,
                curve=(epoch, replace(epoch, epoch=2, train_loss=0.25, train_error=0.1)),
                training=Score(loss=0.1, error=0.04),
                test=Score(loss=0.2 + seed / 100, error=1 - accuracy),
                calibration={"loss": 0.19 + seed / 100, "error_before": 0.03, "error_after": 0.01},
                seconds=60.0,
            )
            for seed, accuracy in enumerate(accuracies)
        ),
        training_count=60_000,
        test_count=int(matrix.sum()) // runs,
        opened_at=datetime(2026, 3, 5, 8, 0, tzinfo=UTC),
        confusion_KK=matrix,
        kernels=None if kernels is None else rng.normal(size=kernels).astype(np.float32),
        hardware="2 cores of a test machine",
        versions={"torch": "2.15.0"},
    )


def looked_into(final: FinalResult) -> FinalResult:
    """The same with feature maps and mistakes."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 28, 28), dtype=np.uint8)
    stages = {"conv1": rng.normal(size=(8, 14, 14)).astype(np.float32)}
    mistake = Mistake(image_CHW=image, true=0, predicted=4, probability=0.87)
    return replace(
        final,
        features=FeatureMaps(image_CHW=image, what="training image 1: <b>", stages=stages),
        mistakes=((mistake, mistake),),
    )


def comparison_view(
    losses: Mapping[str, Sequence[float | None]],
    *,
    values: Mapping[str, Mapping[str, Any]] | None = None,
    reported: Mapping[str, Mapping[str, float]] | None = None,
    journal: Sequence[JournalEntry] = (),
    repeats: int | None = None,
    reason: str = "diverged: train loss became nan",
    title: str = "A comparison",
    **names: Any,
) -> StudyView:
    """Arms by name with the lowest loss of each seed, None for a failed one; the first is the base.

    Every curve falls over three epochs to its loss. `names`: as `study_view` takes them.
    """
    planned = repeats or max(map(len, losses.values()))
    arms = tuple(
        Arm(name=name, values=(values or {}).get(name, {}), reported=(reported or {}).get(name, {}))
        for name in losses
    )
    spec = StudySpec(
        dataset="fashion_mnist",
        objective="validation_loss",
        title=title,
        epochs=3,
        arms=arms,
        repeats=planned,
        journal=tuple(journal),
        space={"channels": (8, 16), "hidden": (32,)},
    )
    view = study_view(title=title, **names)
    shape, classes = view.dataset.image_shape, len(view.dataset.class_names)
    trials = []
    for column, arm in enumerate(arms):
        config = make_config(arm.values, spec)
        parameters = count_parameters(config.architecture, shape, classes)
        for repeat, loss in enumerate(losses[arm.name]):
            number = repeat * len(arms) + column
            trial = trial_view(
                number,
                () if loss is None else (loss + 0.4, loss + 0.1, loss),
                state="failed" if loss is None else "complete",
                reason=reason if loss is None else None,
                params={"arm": arm.name, "repeat": repeat},
                config=config,
                parameters=parameters,
            )
            trials.append(replace(trial, arm=arm.name, repeat=repeat))
    trials.sort(key=lambda trial: trial.number)
    return replace(view, spec=spec, trials=tuple(trials))
