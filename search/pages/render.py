"""Templates filled with plain values: GitHub-flavoured Markdown, text, and offline pages.

Everything a template prints is escaped for its context, so that no user-supplied name becomes
markup; only what is already `Markup`, made here or by a macro, stays as it is. A page's policy lets
the browser run our scripts, by their hashes, and load nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markupsafe import Markup
from markupsafe import escape as escape_html
from plotly.offline import get_plotlyjs

from data.errors import grouped
from search.analysis import (
    candidates,
    comparison,
    comparison_words,
    final_result,
    findings,
    measures,
    wording,
)
from search.analysis.measures import MEASURES, measure_of, measured, recorded_accuracy
from search.analysis.wording import counted, in_columns, printable
from search.figures import HEIGHT, style
from search.spec import space, study_file
from search.store.records import ResultRow
from search.store.views import StudyView, TrialView
from search.terminal import command_line, summary
from search.terminal.status import unbroken, wrap

# What would be markup in a text: anywhere; at the start of a line; `1.` there.
_SIGNS = re.compile(r"[\\`*_\[\]<>#|~&]|\A[-+=]|(?<=\A\d)[.)](?=\s)")
# A template's figure as rendered Markdown; no user text can contain it, because that is escaped.
_PICTURE = re.compile(r'<p><img src="figures/([\w-]+)(?:\.\w+)?" alt="([^"]*)" /></p>')


def escape(text: object) -> Markup:
    """User-supplied text as plain Markdown on one line, also for table cells.

    Uses entities, not backslashes, which do not work in a table cell or a block of raw HTML.
    """
    if text is None or isinstance(text, Markup):
        return Markup(text or "")
    return Markup(_SIGNS.sub(lambda sign: f"&#{ord(sign.group())};", printable(str(text))))


def markdown(template: str, **values: Any) -> str:
    """A template's Markdown. Tables in it are made with `head` and `row`, figures are images."""
    text = _environment(escape).get_template(template).render(values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def plain(template: str, **values: Any) -> str:
    """A template's text for the terminal, without control characters, wrapped except for tables."""
    text = _environment(_on_a_line).get_template(template).render(values)
    parts = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(part if "  " in part else "\n".join(wrap(part)) for part in parts)


def _on_a_line(text: object) -> Markup:
    return text if isinstance(text, Markup) else Markup(printable(str(text)))


@cache
def _environment(finalize: Callable[[object], Markup]) -> Environment:
    environment = Environment(
        loader=PackageLoader("search.pages"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = grouped
    # Templates can use by name what these modules define or import, and the functions below.
    modules = candidates, comparison, comparison_words, final_result, findings, measures, wording
    for module in (*modules, style, command_line, summary, space, study_file):
        environment.globals |= {name: it for name, it in vars(module).items() if name[0] != "_"}
    functions = head, row, code, aligned, in_utc, reason_in_words, value, own_columns, listed
    for function in (*functions, evaluation_in_words, evaluated_before):
        environment.globals[function.__name__] = function
    return environment


def reason_in_words(trial: TrialView) -> str:
    """Why a trial failed, shortened; not escaped."""
    return (trial.reason or "for an unknown reason")[:200]


def head(*names: str) -> Markup:
    """The first two lines of a table; `>name` is for a right-aligned column."""
    rule = [Markup("---:" if name.startswith(">") else "---") for name in names]
    return row(*(name.removeprefix(">") for name in names)) + "\n" + row(*rule)


def row(*cells: object) -> Markup:
    """A line of a table."""
    return Markup("| {} |").format(Markup(" | ").join(map(escape, cells)))


def aligned(*tables: Sequence[Sequence[str]]) -> Markup:
    """The rows of all tables in shared columns, see `in_columns`."""
    rows = [[printable(cell) for cell in row] for table in tables for row in table]
    return Markup("\n".join(in_columns(rows)))


def code(text: str, language: str = "") -> Markup:
    """Text verbatim, between fences that are longer than any run of backticks inside."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def page(title: str, text: str, figures: Mapping[str, go.Figure | bytes]) -> str:
    """A whole page from Markdown, in which `![description](figures/NAME)` stands for a figure or
    picture (a PNG file). If there are any, the page contains plotly.js (4.8 MB) once."""

    def shown(found: re.Match[str]) -> str:
        name, description = found.groups()
        figure = figures[name]
        if isinstance(figure, bytes):
            data = base64.b64encode(figure).decode()
            return f'<p><img alt="{description}" src="data:image/png;base64,{data}"></p>'
        height = figure.layout.height or HEIGHT
        # plotly writes "<" as \u003c, so that nothing in it can end the element.
        return (
            f'<div class="wide"><div class="plot" role="img" aria-label="{description}" '
            f'style="height: {height}px"></div><script type="application/json" class="figure">'
            f"{figure.to_json()}</script></div>"
        )

    def kept_together(renderer: RendererHTML, *place: Any) -> str:
        return unbroken(renderer.text(*place))

    to_html = MarkdownIt("commonmark", {"html": True}).enable("table")
    to_html.add_render_rule("text", kept_together)
    body = _PICTURE.sub(shown, to_html.render(text))
    body = re.sub("<table>.*?</table>", r'<div class="table">\g<0></div>', body, flags=re.DOTALL)
    template, scripts = _environment(escape_html).get_template, []
    if figures:  # plotly.js is escaped for a script element
        plotly = re.sub("<(/script|!--)", r"<\\\1", get_plotlyjs().replace("\r\n", "\n"))
        scripts += [plotly, template("draw.js").render()]
    if "<table>" in body:
        scripts.append(template("sort.js").render())
    digests = (base64.b64encode(hashlib.sha256(it.encode()).digest()).decode() for it in scripts)
    return template("page.html").render(
        title=printable(title),
        body=Markup(body),
        scripts=list(map(Markup, scripts)),
        policy=Markup(" ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"),
    )


def in_utc(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def evaluation_in_words(view: StudyView, result: ResultRow) -> str:
    """One test evaluation: when, which trial and arm, and the result with seeds and spread."""
    seeds = ", ".join(map(str, result.seeds))
    arm = comparison.arm_of(view, result)
    of = "" if result.is_ours else " of an earlier study of this name"
    of = of if arm is None else f", arm {arm}"
    found = result.figures
    epochs = (found or {}).get("requested_epochs")
    length = "" if epochs is None else f", {counted(epochs, 'epoch')}"
    head = f"{in_utc(result.opened_at)}: trial {result.trial_number}{of}{length}, seeds {seeds}"
    if found is None:
        return f"{head}: started, but not finished"
    accuracy = recorded_accuracy(found)
    measure, images = MEASURES["test_loss"], grouped(accuracy.images)
    loss = measure.shown(found["loss"]) + measure.of_seeds(found.get("loss_std"), accuracy.seeds)
    return f"{head}: accuracy {accuracy}, loss {loss}, on {images} images"


def evaluated_before(view: StudyView, trial: TrialView) -> str:
    """A warning if a test evaluation is not the first; each arm of a comparison has its own."""
    own = [it for it in view.results if comparison.arm_of(view, it) == trial.arm]
    if not own:
        return (
            f"The test set had been evaluated before, but not for arm {trial.arm}. Choosing "
            "between arms by their test values biases the result upward, too."
        )
    times = "once" if len(own) == 1 else f"{len(own)} times"
    arm = "" if trial.arm is None else f" for arm {trial.arm}"
    return (
        f"The test set had been evaluated {times} before{arm}, first on "
        f"{in_utc(own[0].opened_at)}. Choosing among test evaluations biases the result "
        "upward: trust the first."
    )


def value(trial: TrialView, name: str) -> str:
    """`0.2383`, `91.53` (percent), `221 950`, at the best epoch; empty if not measured."""
    found = measured(trial, name)
    return "" if found is None else measure_of(name).bare(found)


def own_columns(view: StudyView, of: TrialView | comparison.ArmRuns | None = None) -> list[str]:
    """The study's own metrics: the headers of a table's columns, or a trial's or an arm's cells."""
    if of is None:
        return [f">{measure_of(name).words}" for name in view.spec.metrics]
    cell: Any = value if isinstance(of, TrialView) else comparison_words.mean_in_words
    return [cell(of, name) for name in view.spec.metrics]


def listed(versions: Mapping[str, str]) -> str:
    """`torch 2.11, numpy 2.4`."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())
