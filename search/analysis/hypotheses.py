"""What became of the hypotheses of a study's journal: decided by tests, not by taste.

Each expectation of an entry is one comparison of two arms, seed by seed:
- "better" and "worse" hold if the paired t test finds a difference in that direction, and are
  contradicted if it finds one in the other;
- "no different" holds if two one-sided t tests place the difference within the margin (TOST;
  Schuirmann 1987, Lakens 2017, doi 10.1177/1948550617697177), and is contradicted if the
  confidence interval of the difference lies beyond it.
All at ALPHA, corrected after Holm over the expectations of the entry. Else it is undecided, which
says that there are too few seeds, not that the hypothesis is wrong. An arm that diverged in every
seed is worse than one that trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from search.analysis.comparison import ALPHA, ArmRuns, Difference, compare, holm, runs_by_arm
from search.spec.journal import Expectation, JournalEntry
from search.store.views import StudyView

Outcome = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """An expectation and what the comparison says of it.

    Attributes:
        difference: its p_holm is that of the test that decides, as below.
        p: of that test; None where none was made.
        p_holm: the same, corrected over the entry's expectations.
    """

    expectation: Expectation
    difference: Difference
    outcome: Outcome
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """An entry and its verdict: contradicted if any check is, supported if there are checks and
    all support it."""

    entry: JournalEntry
    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        outcomes = {check.outcome for check in self.checks}
        if "contradicted" in outcomes:
            return "contradicted"
        return "supported" if outcomes == {"supported"} else "undecided"


def evaluate_journal(view: StudyView) -> list[Evaluation]:
    """Every entry of the study's journal, in order."""
    runs = runs_by_arm(view)
    return [evaluate(entry, runs) for entry in view.spec.journal]


def evaluate(entry: JournalEntry, runs: Mapping[str, ArmRuns]) -> Evaluation:
    """One entry, by the trials of the arms that it names."""
    checks = [_check(expectation, runs) for expectation in dict.fromkeys(entry.expect)]
    # What is certain without a test, a count or an arm that always diverged, needs no correction.
    corrected = iter(holm([check.p for check in checks if check.p is not None]))
    return Evaluation(
        entry=entry,
        checks=tuple(
            check if check.p is None else _corrected(check, next(corrected)) for check in checks
        ),
    )


def _corrected(check: Check, p_holm: float) -> Check:
    return dataclasses.replace(
        check,
        outcome=check.outcome if p_holm < ALPHA else "undecided",
        p_holm=p_holm,
        difference=dataclasses.replace(check.difference, p_holm=p_holm),
    )


def _check(expectation: Expectation, runs: Mapping[str, ArmRuns]) -> Check:
    """Before correction: with its p, the outcome is the direction in which the p points."""
    pair = (expectation.arm, expectation.than, expectation.metric)
    (difference,) = compare(runs, [pair])
    p, agrees = difference.p, difference.direction == expectation.outcome
    certain = difference.basis in ("counted", "diverged", "other diverged")
    if expectation.margin is not None:  # no different
        if difference.basis == "tested":
            p, agrees = _margin_test(list(difference.by_repeat.values()), expectation.margin)
        elif difference.by_repeat and not any(difference.by_repeat.values()):
            certain = agrees = True  # alike to the last digit
        else:
            agrees = difference.basis == "counted" and abs(difference.mean or 0.0) <= (
                expectation.margin
            )
    outcome: Outcome = "undecided"
    if certain or p is not None:
        outcome = "supported" if agrees else "contradicted"
    return Check(expectation=expectation, difference=difference, outcome=outcome, p=p)


def _margin_test(differences: list[float], margin: float) -> tuple[float, bool]:
    """The smaller p of two tests, and whether it is that of the first.

    Their null hypotheses part all differences: at least the margin, at most. The first is TOST. The
    second is doubled for its two sides: below ALPHA exactly where the confidence interval at
    1 - ALPHA lies beyond the margin.
    """

    def one_sided(border: float, alternative: Literal["less", "greater"]) -> float:
        return float(stats.ttest_1samp(differences, border, alternative=alternative).pvalue)

    within = max(one_sided(-margin, "greater"), one_sided(margin, "less"))
    beyond = 2 * min(one_sided(-margin, "less"), one_sided(margin, "greater"))
    return min(within, beyond), within < beyond
