"""The report of a comparison: each arm's figures, and what it changed against the base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import mean

from models.summary import LayerRow, anatomy
from search.analysis.comparison import (
    ArmRuns,
    against_base,
    guessing_loss,
    runs_by_arm,
)
from search.analysis.comparison_words import (
    SPREAD,
    mean_in_words,
    trained_in_words,
    value_in_words,
    verdict_in_words,
)
from search.analysis.findings import all_overfitting_in_words
from search.analysis.times import time_spent
from search.analysis.wording import counts_in_words, grouped, mean_and_spread, printable
from search.figures.figures_arms import loss_by_arm
from search.figures.figures_comparison import arm_curves
from search.figures.figures_study import loss_against_parameters
from search.pages.document import Block, Details, Facts, Heading, Paragraph, Plot, Table
from search.pages.report_effects import effect_blocks
from search.pages.report_frame import best_network, failures, network
from search.pages.report_journal import journal_blocks
from search.pages.report_published import published_blocks
from search.spec.arms import Arm
from search.spec.space import arm_config
from search.store.views import StudyView

MOST_NETWORKS = 12


def comparison_blocks(view: StudyView) -> Iterator[Block]:
    """Everything between the report's head and the test set."""
    runs = runs_by_arm(view)
    yield from _summary(view, runs)
    yield from _arms(view, runs)
    yield from published_blocks(view, runs)
    yield from effect_blocks(view, runs)
    yield from journal_blocks(view)
    yield from _curves(view)
    yield from failures(view)
    yield from _networks(view, runs)


def lowest_arm(runs: Mapping[str, ArmRuns]) -> ArmRuns | None:
    """The arm with the lowest mean validation loss; None while none has been trained."""
    trained = [arm for arm in runs.values() if arm.complete]
    return min(trained, key=lambda arm: mean(arm.values("validation_loss")), default=None)


def _summary(view: StudyView, runs: Mapping[str, ArmRuns]) -> Iterator[Block]:
    lowest = lowest_arm(runs)
    if lowest is None:
        yield Paragraph(text="No arm has been trained to its end yet.")
        return
    base = view.spec.arms[0].name
    verdicts = {d.arm: verdict_in_words(d) for d in against_base(view, "validation_loss")}
    beside = verdicts.get(lowest.arm.name)
    seeds = len(lowest.complete)
    over = f", ± over {seeds} seeds" if seeds > 1 else ", one seed"
    yield Facts(
        pairs=(
            ("lowest mean validation loss", printable(lowest.arm.name)),
            (
                "against the base",
                f"{beside} ({printable(base)})" if beside else "it is the base itself",
            ),
            (f"its loss (nats){over}", mean_in_words(lowest, "validation_loss")),
            (f"its accuracy (%){over}", mean_in_words(lowest, "validation_accuracy")),
            ("trials", counts_in_words(view)),
            ("trained for", time_spent(view)),
        )
    )
    if view.spec.repeats == 1:
        yield Paragraph(
            text="One seed an arm: there is no spread, and no test is possible. Run more with "
            "--repeats before any difference is believed.",
            kind="warning",
        )
    elif view.spec.repeats == 2:
        yield Paragraph(
            text="Two seeds an arm are the fewest that can be tested: intervals are wide, and only "
            "very regular differences count as evidence.",
            kind="warning",
        )


def _arms(view: StudyView, runs: Mapping[str, ArmRuns]) -> Iterator[Block]:
    some_lost = any(arm.failed and arm.complete for arm in runs.values())
    lost = " Failed seeds are not in the means, which then flatter the arm." if some_lost else ""
    yield Heading(text="Arms")
    yield Table(
        header=(
            "arm", "seeds", "validation loss", "validation error (%)", "validation accuracy (%)",
            "parameters", "learning rate", "best epoch",
        ),
        rows=[
            (
                printable(arm.arm.name),
                trained_in_words(arm),
                *(
                    mean_in_words(arm, name)
                    for name in ("validation_loss", "validation_error", "validation_accuracy",
                                 "parameters")
                ),
                _learning_rate(view, arm),
                _best_epoch(arm),
            )
            for arm in runs.values()
        ],
        caption=f"{SPREAD}, at each seed's epoch of the lowest validation loss (cross entropy, "
        f"nats).{lost}",
        numbers=(2, 3, 4, 5, 6, 7),
    )  # fmt: skip
    yield Table(
        header=("arm", "training loss", "training error (%)", "training accuracy (%)"),
        rows=[
            (
                printable(arm.arm.name),
                *(mean_in_words(arm, f"train_{kind}") for kind in ("loss", "error", "accuracy")),
            )
            for arm in runs.values()
        ],
        caption="The same epochs on training images: means over the epoch, while the weights "
        "change, with augmentation and dropout.",
        numbers=(1, 2, 3),
    )
    losses = [loss for arm in runs.values() for loss in arm.values("validation_loss")]
    figure = loss_by_arm(view)
    if max(losses, default=0.0) > guessing_loss(view) and min(losses) > 0:
        figure.update_xaxes(type="log")  # one arm that learned nothing would squeeze all others
    yield Plot(
        name="arms",
        figure=figure,
        alt="Validation loss of each seed by arm, with mean and standard deviation",
    )


def _learning_rate(view: StudyView, arm: ArmRuns) -> str:
    return value_in_words(arm_config(view.spec, arm.arm).recipe.learning_rate)


def _best_epoch(arm: ArmRuns) -> str:
    epochs = [float(trial.best.epoch) for trial in arm.complete if trial.best is not None]
    return mean_and_spread(epochs, 1) if epochs else ""


def _curves(view: StudyView) -> Iterator[Block]:
    yield Heading(text="Learning curves")
    yield Plot(
        name="curves",
        figure=arm_curves(view),
        alt="Training and validation loss by epoch of each arm: seeds, mean, best epochs",
    )
    sentence = all_overfitting_in_words(view)
    if sentence is not None:
        yield Paragraph(text=sentence)
    sizes = {trial.parameters for trial in view.trials if trial.parameters}
    if len(sizes) > 1:
        yield Plot(
            name="parameters",
            figure=loss_against_parameters(view),
            alt="Lowest validation loss of each trial by its number of parameters, Pareto front",
        )


def _networks(view: StudyView, runs: Mapping[str, ArmRuns]) -> Iterator[Block]:
    """Of the lowest arm in full; others whose trained layers are not the same, for who asks."""
    lowest = lowest_arm(runs)
    if lowest is None:
        return
    name = printable(lowest.arm.name)
    yield from best_network(view, lowest.complete[0], f"“{name}”")
    seen = {_trained_layers(view, lowest.arm)}
    for arm in view.spec.arms:
        layers = _trained_layers(view, arm)
        if layers not in seen and len(seen) <= MOST_NETWORKS:
            seen.add(layers)
            blocks = tuple(network(view, arm_config(view.spec, arm)))
            parameters = grouped(sum(layer.parameters for layer in layers))
            summary = f"“{printable(arm.name)}”, {parameters} parameters"
            yield Details(summary=summary, blocks=blocks)


def _trained_layers(view: StudyView, arm: Arm) -> tuple[LayerRow, ...]:
    network = arm_config(view.spec, arm).architecture
    layers = anatomy(network, view.dataset.image_shape, len(view.dataset.class_names))
    return tuple(layer for layer in layers if layer.parameters)
