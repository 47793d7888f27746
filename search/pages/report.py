"""A study's report at any point: a page, Markdown, and every figure as files for a paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import plotly.graph_objects as go
from markupsafe import Markup

from data.reading import write_atomically
from models.summary import anatomy
from search.analysis.comparison_words import lowest_arm
from search.figures import FIGURES, KINDS, Kind, by_file_name, draw_all, is_empty
from search.figures.files import write_pictures
from search.pages.render import escape, markdown, page
from search.sampling.registry import SAMPLERS
from search.store.folders import FINAL
from search.store.views import StudyView

PAGE = "report.html"
FOLDER = "figures"  # next to the page
GONE = ("kinds", "dropout", "parallel", "time", "effects")  # figures of earlier versions


class Report(NamedTuple):
    """What `page` makes the report's page from. `figures`: by their names in the Markdown."""

    title: str
    markdown: str
    figures: Mapping[str, go.Figure]


def make_report(view: StudyView, now: datetime, kind: Kind = "png") -> Report:
    """The report of a study so far. `kind`: of the figure files that the Markdown shows."""
    registry = by_file_name(FIGURES)
    # An empty figure stays only to say what it waits for.
    waits = view.count("failed", "waiting") < view.count()
    figures = {
        name: figure
        for name, figure in draw_all(registry, view).items()
        if not is_empty(figure) or (waits and figure.layout.meta)
    }
    best, whose = view.best, "the best trial"
    lowest, verdict = lowest_arm(view)
    if view.spec.is_comparison:
        # One of its trials represents the arm.
        best, whose = (lowest.complete[0], f"“{lowest.arm.name}”") if lowest else (None, "")
    config, dataset = best and best.config, view.dataset
    text = markdown(
        "report.md",
        kind=kind,
        view=view,
        now=now,
        sampler=SAMPLERS[view.spec.sampler].description,
        shown=best,
        whose=whose,
        layers=config
        and anatomy(config.architecture, dataset.image_shape, len(dataset.class_names)),
        lowest=lowest,
        verdict=verdict,
        registry=registry,
        figures=figures,
    )
    return Report(view.spec.title or view.name, text, figures)


def write_report(report: Report, folder: Path, kinds: Collection[Kind] = KINDS) -> list[Path]:
    """Write `report.html`, `report.md` and the figures into `folder`, each whole or not at all.

    Figures of an earlier report that this one does not write are removed. Returns the files.
    """
    files = write_pictures(report.figures, folder / FOLDER, kinds)
    known = {f"{name}.{kind}" for name in (*by_file_name(FIGURES), *GONE) for kind in KINDS}
    for name in known - {file.name for file in files}:
        (folder / FOLDER / name).unlink(missing_ok=True)
    for name, text in ((PAGE, page(*report)), ("report.md", report.markdown)):
        files.append(folder / name)
        write_atomically(files[-1], text.encode())
    return files


def write_index(studies: Sequence[tuple[StudyView, Path]], now: datetime, runs: Path) -> Path:
    """Write `index.html` into `runs`: a row for each study, linked to its report and final page."""

    def link(words: object, target: Path) -> Markup:
        shown, there = escape(str(words)), quote(target.relative_to(runs).as_posix())
        return Markup(f"[{shown}]({there})") if target.exists() else shown

    def data(view: StudyView) -> str:
        facts = view.dataset
        return f"{facts.title} ({facts.name})" if titles[facts.title] > 1 else facts.title

    titles = Counter({view.dataset.name: view.dataset.title for view, _ in studies}.values())
    leaders: dict[str, StudyView] = {}
    ends = [(view.best.best, view) for view, _ in studies if view.best and view.best.best]
    for _, view in sorted(ends, key=lambda end: end[0].validation_error):
        leaders.setdefault(view.dataset.name, view)
    storage = studies[0][0].storage
    rows = [(view, folder / PAGE, folder / FINAL / PAGE) for view, folder in studies]
    text = markdown(
        "index.md",
        storage=storage,
        studies=rows,
        leaders=leaders.values(),
        now=now,
        link=link,
        data=data,
    )
    write_atomically(runs / "index.html", page(f"Studies of {storage}", text, {}).encode())
    return runs / "index.html"
