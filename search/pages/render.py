"""Templates filled with plain values: GitHub-flavoured Markdown, text, and offline pages.

Everything a template prints is escaped for its context, so that no user-supplied name becomes
markup; only what is already `Markup`, made here or by a macro, stays as it is. A page's policy lets
the browser run our scripts, by their hashes, and load nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from markupsafe import escape as escape_html
from plotly.offline import get_plotlyjs

from data.errors import grouped
from search.analysis.wording import in_columns, printable
from search.figures import HEIGHT, Figure
from search.pages.words import WORDS

WIDTH = 80  # of text for the terminal
DRAW = """
for (const data of document.querySelectorAll("script.figure")) {
  const figure = JSON.parse(data.textContent);
  if (matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;  // a finger scrolls
  Plotly.newPlot(data.previousElementSibling, figure.data, figure.layout,
    {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"]});
}
"""
# Sorts tables of trials, arms, studies and classes: a click on a header sorts, another reverses.
SORT = """
const key = (row, column) => {
  const shown = row.cells[column].textContent.replace("−", "-");
  const text = shown.replace(/[#<]|(?<=\\d)\\s(?=\\d)/g, "");
  return isNaN(parseFloat(text)) ? text : parseFloat(text);
};
const compare = (a, b) => typeof a === typeof b ? (a > b) - (a < b) : isNaN(a) - isNaN(b);
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.rows[0].cells];
  if (!["trial", "arm", "study", "class"].includes(heads[0].textContent)) continue;
  heads.forEach((head, column) => {
    const sort = () => {
      const turn = head.ariaSort === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = turn > 0 ? "ascending" : "descending";
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(
        (one, other) => turn * compare(key(one, column), key(other, column))));
    };
    head.tabIndex = 0;
    head.onclick = sort;
    head.onkeydown = (event) => event.key === "Enter" && sort();
  });
}
"""
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
    wrap = partial(textwrap.fill, width=WIDTH, break_on_hyphens=False)
    parts = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(part if "  " in part else wrap(part) for part in parts)


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
    environment.globals |= {**WORDS, "head": head, "row": row, "code": code, "aligned": _aligned}
    return environment


def head(*names: str) -> Markup:
    """The first two lines of a table; `>name` is for a right-aligned column."""
    rule = [Markup("---:" if name.startswith(">") else "---") for name in names]
    return row(*(name.removeprefix(">") for name in names)) + "\n" + row(*rule)


def row(*cells: object) -> Markup:
    """A line of a table."""
    return Markup("| {} |").format(Markup(" | ").join(map(escape, cells)))


def _aligned(*tables: Sequence[Sequence[str]]) -> Markup:
    """The rows of all tables in shared columns, see `in_columns`."""
    rows = [[printable(cell) for cell in row] for table in tables for row in table]
    return Markup("\n".join(in_columns(rows)))


def code(text: str, language: str = "") -> Markup:
    """Text verbatim, between fences that are longer than any run of backticks inside."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def plot_values(
    registry: Mapping[str, Figure[Any]], figures: Mapping[str, go.Figure]
) -> dict[str, Any]:
    """What `plots` in macros.md needs for these figures, drawn by the registry's entries."""
    plots = [
        {
            "name": Markup(name),  # of a file
            "section": registry[name].section,
            "description": registry[name].description,
            "caption": meta.get("caption") if isinstance(meta, Mapping) else None,
        }
        for name, figure in figures.items()
        for meta in [figure.layout.meta]
    ]
    return {"figures": plots, "sections": {plot["section"] for plot in plots}}


def page(
    title: str,
    text: str,
    figures: Mapping[str, go.Figure],
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """A whole page from Markdown, in which `![description](figures/NAME)` stands for a figure or
    picture (a PNG file). If there are figures, the page contains plotly.js (4.8 MB) once."""

    def shown(found: re.Match[str]) -> str:
        name, description = found.groups()
        picture = (pictures or {}).get(name)
        if picture is not None:
            data = base64.b64encode(picture).decode()
            return f'<p><img alt="{description}" src="data:image/png;base64,{data}"></p>'
        figure = figures[name]
        height = figure.layout.height or HEIGHT
        # plotly writes "<" as \u003c, so that nothing in it can end the element.
        return (
            f'<div class="wide"><div class="plot" role="img" aria-label="{description}" '
            f'style="height: {height}px"></div><script type="application/json" class="figure">'
            f"{figure.to_json()}</script></div>"
        )

    to_html = MarkdownIt("commonmark", {"html": True}).enable("table")
    body = _PICTURE.sub(shown, to_html.render(text))
    body = re.sub("<table>.*?</table>", r'<div class="table">\g<0></div>', body, flags=re.DOTALL)
    scripts = [*([_plotly(), DRAW] if figures else []), *([SORT] if "<table>" in body else [])]
    template = _environment(escape_html).get_template("page.html")
    return template.render(
        title=printable(title),
        body=Markup(body),
        scripts=list(map(Markup, scripts)),
        policy=Markup(" ".join(map(_hash, scripts)) or "'none'"),
    )


@cache
def _plotly() -> str:
    """plotly.js, escaped for a script element."""
    return re.sub("<(/script|!--)", r"<\\\1", get_plotlyjs().replace("\r\n", "\n"))


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
