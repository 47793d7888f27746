"""A study's report: a page, Markdown, and every figure for a paper, as far as the study is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from models.family import compact
from search.analysis.describe import short_config
from search.analysis.findings import named, overfitting_in_words, stop_in_words
from search.analysis.importances import search_axes
from search.analysis.measures import accuracy_of, legend, measured, time_spent
from search.analysis.wording import (
    all_counts,
    counts_in_words,
    data_in_words,
    grouped,
    notes_in_words,
    split_in_words,
)
from search.figures import FIGURES, KINDS, Kind, applying
from search.figures.files import drawn, write_pictures
from search.pages.comparison import comparison_values
from search.pages.journal import journal_values
from search.pages.networks import best_network
from search.pages.note import evaluation_in_words, in_utc, reason_in_words
from search.pages.render import listed, markdown, page, plot_values
from search.sampling.registry import SAMPLERS
from search.spec.study_file import write_study_file
from search.store.views import StudyView, TrialView
from search.terminal.command_line import as_called
from search.terminal.reproduce import AGAIN, REPEATABLE, command
from search.terminal.summary import gain_in_words, score_in_words
from search.training.files import write_atomically

FOLDER = "figures"  # beside the page
OF_EARLIER_VERSIONS = ("kinds", "dropout", "parallel")  # figures that there are no more
TOP = 10
MOST_FAILURES = 100  # in the table
TRIAL_HEADER = (
    "trial", "train loss", "val. loss", "train error (%)", "val. error (%)", "train acc. (%)",
    "val. acc. (%)", "parameters", "learning rate", "best epoch", "configuration",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Report:
    """The whole report. `figures`: by the names under which the Markdown shows their files."""

    title: str
    markdown: str
    figures: Mapping[str, go.Figure]

    def html(self) -> str:
        """One page that needs no network."""
        return page(self.title, self.markdown, self.figures)


def make_report(view: StudyView, now: datetime, kind: Kind = "png") -> Report:
    """The report of a study as it stands; needs no finished trial.

    Args:
        kind: of the figures' files that the Markdown shows.
    """
    figures = {name: figure.draw(view) for name, figure in applying(FIGURES, view).items()}
    plots = plot_values(FIGURES, figures)
    own = comparison_values(view) if view.spec.is_comparison else _search_values(view)
    values = {"kind": kind, **plots, **_common_values(view, now), **own, **journal_values(view)}
    text = markdown("report.md", **values)
    return Report(title=view.spec.title or view.name, markdown=text, figures=figures)


def write_report(report: Report, folder: Path, kinds: Collection[Kind] = KINDS) -> list[Path]:
    """Write `report.html`, `report.md` and the figures into `folder`, each whole or not at all.

    Figures of an earlier report that this one does not write are removed. Returns the files.
    """
    draws = {name: partial(drawn, figure.to_dict()) for name, figure in report.figures.items()}
    files = write_pictures(draws, folder / FOLDER, kinds)
    known = {f"{name}.{kind}" for name in (*FIGURES, *OF_EARLIER_VERSIONS) for kind in KINDS}
    for name in known - {file.name for file in files}:
        (folder / FOLDER / name).unlink(missing_ok=True)
    for name, text in (("report.html", report.html()), ("report.md", report.markdown)):
        files.append(folder / name)
        write_atomically(files[-1], text.encode())
    return files


def _common_values(view: StudyView, now: datetime) -> dict[str, Any]:
    spec = view.spec
    failed = view.in_state("failed")[-MOST_FAILURES:]
    return {
        "view": view,
        "now": in_utc(now),
        "sampler": SAMPLERS[spec.sampler].description,
        "data": data_in_words(view),
        "split": split_in_words(view),
        "counts": all_counts(view),
        "failures": [
            (
                f"#{trial.number}",
                str(len(trial.curve)),
                reason_in_words(trial),
                *((trial.arm or "", str(trial.repeat)) if spec.is_comparison else ()),
            )
            for trial in failed
        ],
        "evaluations": [(evaluation_in_words(row),) for row in view.results],
        "finalize": as_called("python -m search.finalize"),
        "repeatable": REPEATABLE,
        "commands": {
            "again": as_called(AGAIN),
            "report": f"{command('report', view)}\n{command('finalize', view)}",
        },
        "study_file": write_study_file(spec),
        "notes": notes_in_words(view),
        "versions": listed(view.versions),
    }


def _search_values(view: StudyView) -> dict[str, Any]:
    best, baseline = view.best, view.baseline
    finished = [trial for trial in view.in_state("complete", "pruned", "failed") if trial.best]
    findings = (best and overfitting_in_words(best), stop_in_words(view))
    return {
        "facts_of_best": _facts(view),
        "best_score": best and score_in_words(best, view),
        "baseline_score": baseline and score_in_words(baseline, view),
        "gain": gain_in_words(view),
        "findings": list(filter(None, findings)),
        "legend": legend(view.dataset.validation_count),
        "trial_header": TRIAL_HEADER,
        "ranked": list(map(_row, view.leaderboard[:TOP])),
        "all_trials": list(map(_row, finished)),
        "searches": bool(search_axes(view.spec)),
        "best": best and best_network(view, best, "the best trial"),
    }


def _facts(view: StudyView) -> list[tuple[str, str]]:
    best = view.best
    if best is None or best.best is None:
        return []
    images = view.dataset.validation_count
    return [
        ("best", named(best)),
        ("its validation loss (nats)", f"{best.best.validation_loss:.4f}"),
        ("its validation accuracy", str(accuracy_of([best.best.validation_error], images))),
        ("its parameters", "" if best.parameters is None else grouped(best.parameters)),
        ("trials", counts_in_words(view)),
        ("trained for", time_spent(view)),
    ]


def _row(trial: TrialView) -> tuple[str, ...]:
    marks = ["baseline"] * trial.is_baseline + [trial.state] * (trial.state != "complete")
    config, best = trial.config, trial.best
    return (
        f"#{trial.number}" + (f" ({', '.join(marks)})" if marks else ""),
        *(
            "" if value is None else f"{factor * value:.{digits}f}"
            for kind, digits, factor in (("loss", 4, 1), ("error", 2, 100), ("accuracy", 2, 100))
            for value in (measured(trial, f"train_{kind}"), measured(trial, f"validation_{kind}"))
        ),
        "" if trial.parameters is None else grouped(trial.parameters),
        "" if config is None else compact(config.recipe.learning_rate),
        "" if best is None else f"{best.epoch} of {len(trial.curve)}",
        "" if config is None else short_config(config),
    )
