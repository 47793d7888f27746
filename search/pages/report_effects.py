"""Part of a comparison's report: each arm against the base arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from search.analysis.comparison import ALPHA, ArmRuns, Difference, against_base
from search.analysis.comparison_words import (
    INTERVAL,
    INTERVAL_MEANS,
    changes_in_words,
    interval_in_words,
    p_in_words,
    verdict_in_words,
)
from search.analysis.measures import MEASURES
from search.analysis.wording import printable
from search.figures.figures_comparison import effects
from search.pages.document import Block, Heading, Paragraph, Plot, Table
from search.store.views import StudyView

TESTED = ("validation_loss", "validation_accuracy")


def effect_blocks(view: StudyView, runs: Mapping[str, ArmRuns]) -> Iterator[Block]:
    if len(runs) < 2:
        return
    base = printable(view.spec.arms[0].name)
    yield Heading(text=f"What each arm changed against “{base}”")
    yield Plot(
        name="effects",
        figure=effects(view),
        alt="Difference of each arm's validation loss to the base, with interval and seeds",
    )
    yield Paragraph(
        text="Arm minus base, seed by seed, since all arms had the same seeds. Paired t test, "
        "two-sided, corrected after Holm over the arms; better or worse where the corrected p is "
        f"below {ALPHA}, else no evidence of a difference. {INTERVAL_MEANS} It excludes 0 exactly "
        "where the verdict is better or worse. d_z is the mean over the standard deviation of the "
        "differences (Cohen 1988; Lakens 2013), too large where seeds are few. All seeds were "
        "judged on the same validation images."
    )
    for metric in TESTED:
        yield Table(
            header=("arm", "changes", "pairs", "difference", INTERVAL, "p", "p after Holm",
                    "d_z", "in words"),
            rows=[_effect_row(view, runs[d.arm], d) for d in against_base(view, metric)],
            caption=f"Difference in {MEASURES[metric].words} "
            f"({'points of percent' if MEASURES[metric].unit else 'nats'}).",
            numbers=(2, 3, 4, 5, 6, 7),
        )  # fmt: skip


def _effect_row(view: StudyView, runs: ArmRuns, difference: Difference) -> tuple[str, ...]:
    metric = MEASURES[difference.metric]
    effect = difference.effect
    return (
        printable(difference.arm),
        changes_in_words(view.spec, runs.arm),
        str(difference.pairs),
        "" if difference.mean is None else metric.signed(difference.mean),
        interval_in_words(difference),
        p_in_words(difference.p),
        p_in_words(difference.p_holm),
        "" if effect is None else f"{effect:+.1f}".replace("-", "−"),
        verdict_in_words(difference) + _lost(runs),
    )


def _lost(runs: ArmRuns) -> str:
    if not runs.diverged or runs.diverged_throughout:
        return ""
    seeds = f"{runs.diverged} of {runs.repeats} seeds"
    return f"; {seeds} diverged and cannot be compared"
