"""The registry of all figures, in the order in which they are shown.

FIGURES are those of a study, FINAL_FIGURES those of finalize. Plotly, matplotlib and the drawing
code are imported only when a figure is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from models.checks import first_line

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from search.analysis.final_result import FinalResult
    from search.store.views import StudyView

Kind = Literal["png", "svg"]  # of a figure's file
KINDS: tuple[Kind, ...] = get_args(Kind)
NOTHING = "Nothing to show"  # instead of an empty figure
HEIGHT = 440  # pixels on a page, if a figure does not set its own
Section = Literal["arms", "progress", "parameters", "confusion", "calibration", "more"]
Source = TypeVar("Source")


@dataclass(frozen=True, slots=True)
class Figure(Generic[Source]):
    """A figure of a study (`Source` is StudyView) or of a finalised network (FinalResult).

    The result of `make` gets our style and a subtitle with data set and counts, unless `make` calls
    `search.figures.style.apply_style`. Text in `layout.meta["caption"]` is shown below. Plotly
    reads HTML: escape names with `search.figures.style.in_figure`.
    """

    title: str  # above the figure, unless `make` gives it one
    description: str  # what it shows, in one line; also its alternative text
    make: Callable[[Source], go.Figure]
    applies: Callable[[Source], bool] = lambda _: True  # if there is, or will be, anything to show
    section: Section = "more"  # of the report or of finalize's page
    in_dashboard: bool = True  # for figures of at most about 50 kB that are cheap to draw
    dashboard_id: str = ""  # letters and hyphens, if the dashboard has it under another name

    def shows(self, source: Source) -> bool:
        """Whether it applies; True if that raises an error."""
        try:
            return self.applies(source)
        except Exception:  # of any kind, as in `draw`
            return True

    def draw(self, source: Source) -> go.Figure:
        """The figure in our style. An error in `make` is shown in its place."""
        import plotly.graph_objects as go

        from search.figures import style

        nothing = NOTHING
        try:
            figure = self.make(source)
            if not isinstance(figure, go.Figure):
                raise TypeError(f"expected a plotly figure, but got {type(figure).__name__}")
            figure.to_json()  # as pages and the dashboard will
        except Exception as error:  # of any kind: one broken figure must not cost the others
            why = f"{type(error).__name__}: {first_line(error)}"
            figure, nothing = go.Figure(), f"It cannot be drawn: {why}"
        if not (figure.data or figure.layout.annotations):
            style.note_absence(figure, nothing)
        if figure.layout.title.subtitle.text is None:
            view: Any = getattr(source, "view", source)
            style.apply_style(figure, style.subtitle(view))
        if figure.layout.title.text is None:
            figure.update_layout(title_text=self.title)
        return figure


def _lazily(place: str) -> Callable[[Any], go.Figure]:
    """A function of this folder, such as `study:best_so_far`, imported when it is called."""
    module, name = place.split(":")
    return lambda source: getattr(import_module(f"search.figures.{module}"), name)(source)


def _is_search(view: StudyView) -> bool:
    return not view.spec.is_comparison


def _axes(view: StudyView) -> int:
    """Number of searched parameters; 0 in a comparison."""
    from search.figures.parameters import search_axes

    return len(search_axes(view.spec)) if _is_search(view) else 0


FIGURES: dict[str, Figure[StudyView]] = {
    "arms": Figure(
        "Arms", "Value of each seed by arm, with mean and standard deviation",
        _lazily("study:loss_by_arm"), lambda view: view.spec.is_comparison, "arms",
    ),
    "history": Figure(
        "Best so far", "Lowest value so far, and of each trial, by the epochs trained until then",
        _lazily("study:best_so_far"), _is_search, "progress",
        dashboard_id="best-so-far",
    ),
    "curves": Figure(
        "Learning curves", "Value by epoch of trials or arms, with the best epochs marked",
        _lazily("study:learning_curves"), section="progress", dashboard_id="learning-curves",
    ),
    "parameters": Figure(
        "Value against size", "Lowest value of each trial by the size of its network",
        _lazily("study:loss_against_parameters"), _is_search, "progress",
        dashboard_id="loss-against-parameters",
    ),
    "importances": Figure(
        "What mattered",
        "Share of the values' variance that each searched parameter explains by itself",
        _lazily("parameters:importances_bars"), lambda view: _axes(view) > 1, "parameters",
        in_dashboard=False,
    ),
    "slices": Figure(
        "Value by parameter", "Lowest value by each searched parameter's value",
        _lazily("parameters:slices"), lambda view: _axes(view) > 0, "parameters",
    ),
    "contour": Figure(
        "Two parameters together", "Lowest value by the two parameters that matter most",
        _lazily("parameters:contour"), lambda view: _axes(view) > 1, "parameters",
        in_dashboard=False,
    ),
}  # fmt: skip
FINAL_FIGURES: dict[str, Figure[FinalResult]] = {
    "reliability": Figure(
        "Reliability", "Share of right test images by the network's confidence",
        _lazily("final:reliability_diagram"), lambda final: final.reliability is not None,
        "calibration",
    ),
    "confusion": Figure(
        "Confusion matrix", "Test images by true and predicted class",
        _lazily("final:confusion_on_test"), section="confusion",
    ),
    "curves": Figure(
        "Training curves", "Loss and error by epoch of the trial and of the final runs",
        _lazily("final:training_curves"), section="progress",
    ),
}  # fmt: skip


def by_file_name(registry: Mapping[str, Figure[Source]]) -> dict[str, Figure[Source]]:
    """The registry's figures by names that files, links and the dashboard's ids can have."""
    found = dict[str, Figure[Source]]()
    for name, one in registry.items():
        usable = re.sub(r"[^A-Za-z0-9_-]", "-", name)
        while usable in found:  # of "a b" and "a-b", say
            usable += "-"
        found[usable] = one
    return found


def draw_all(registry: Mapping[str, Figure[Source]], source: Source) -> dict[str, go.Figure]:
    """The figures that have something to show for a study or final network, in page order."""
    return {name: one.draw(source) for name, one in registry.items() if one.shows(source)}


def is_empty(figure: go.Figure) -> bool:
    """Whether a figure that was drawn only says that it has nothing to show."""
    return [note.text for note in figure.layout.annotations] == [NOTHING]


def dashboard_figures(view: StudyView) -> dict[str, go.Figure]:
    """The study's figures for the dashboard, by the dashboard's ids."""
    return {
        one.dashboard_id or name: one.draw(view)
        for name, one in by_file_name(FIGURES).items()
        if one.in_dashboard and one.shows(view)
    }
