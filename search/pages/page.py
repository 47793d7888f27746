"""Offline pages: one HTML file that needs no network, follows the reader's light or dark, prints.

`Html` is text that is safe to put into a page; only the functions here make it, and they escape.
The page's policy lets the browser run our two scripts, by their hashes, and load nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NewType

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

Html = NewType("Html", str)

_DRAW = """
for (const data of document.querySelectorAll("script.figure")) {
  const figure = JSON.parse(data.textContent);
  Plotly.newPlot(data.previousElementSibling, figure.data, figure.layout,
    {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"]});
}
"""

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1c2024; --faint: #5f6670;
  --line: #d9dde2; --panel: #f5f7f9; --accent: #0067a3; --warn: #fff3e0; --warn-line: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --text: #e4e7eb;
  --faint: #9aa3ae; --line: #333a44; --panel: #1b2027; --accent: #6cb8ec; --warn: #33230f; } }
@media print { :root { color-scheme: light; --ground: #fff; --text: #000; --faint: #444;
  --line: #bbb; --panel: #fff; --accent: #000; --warn: #fff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--ground);
  color: var(--text); font: 16px/1.55 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .7rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.lead { color: var(--faint); }
.table { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--faint); padding-top: .4rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
th { vertical-align: bottom; }
td:not(.number):last-child { min-width: 9rem; }
dl { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
dl > div { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .9rem; }
dt { color: var(--faint); font-size: .82rem; }
dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.warning { background: var(--warn); border-left: .3rem solid var(--warn-line);
  padding: .6rem 1rem; margin: 1rem 0; border-radius: .2rem; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem;
  padding: .7rem 1rem; overflow-x: auto; font-size: .85rem; }
.plot { margin: 1rem 0; }
.plot :is([class$="title"], .legendtext, .annotation-text) { fill: var(--text) !important; }
.plot :is(.gtitle-subtitle, [class$="tick"] text, .cbaxis text, .cbtitle text) {
  fill: var(--faint) !important; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: .3rem; }
figcaption { color: var(--faint); font-size: .92rem; max-width: 46rem; padding-top: .4rem; }
footer { margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } .modebar { display: none; }
  pre { white-space: pre-wrap; } .plot, table, dl, .warning { break-inside: avoid; }
  h2 { break-after: avoid; } }
"""


def page(title: str, parts: Iterable[Html]) -> str:
    """A whole page. Holds plotly.js (4.8 MB) once if there is a figure among the parts."""
    body = "\n".join(parts)
    scripts = (_plotly(), _DRAW) if 'class="figure"' in body else ()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts)) or chr(39) + 'none' + chr(39)}",
            "style-src 'unsafe-inline'",  # plotly writes its own styles
            "img-src data: blob:",  # pictures, and plotly's button that saves one
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    run = "\n".join(f"<script>{script}</script>" for script in scripts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
{body}
{run}
</body>
</html>
"""


@cache
def _plotly() -> str:
    """plotly.js, as it may stand in a script element."""
    source: str = get_plotlyjs().replace("\r\n", "\n").replace("</script", "<\\/script")
    return source.replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def heading(text: str, level: int = 2) -> Html:
    return Html(f"<h{level}>{html.escape(text)}</h{level}>")


def paragraph(text: str, kind: str = "") -> Html:
    """`kind`: a class of the style sheet, `lead` or `warning`."""
    return Html(f'<p class="{html.escape(kind)}">{html.escape(text)}</p>')


def labelled(label: str, text: str) -> Html:
    """A paragraph that begins with what it is about."""
    return Html(f"<p><b>{html.escape(label)}.</b> {html.escape(text)}</p>")


def details(summary: str, parts: Iterable[Html]) -> Html:
    """Parts that a reader opens; no figures, which cannot be drawn while they are hidden."""
    body = "\n".join(parts)
    return Html(f"<details><summary>{html.escape(summary)}</summary>\n{body}\n</details>")


def listing(text: str) -> Html:
    """Commands or code, as typed."""
    return Html(f"<pre>{html.escape(text)}</pre>")


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """The few figures that matter most, large."""
    cells = (
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in pairs
    )
    return Html(f"<dl>{''.join(cells)}</dl>")


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    numbers: Sequence[int] = (),
) -> Html:
    """A table of texts; the columns whose index is in `numbers` are aligned to the right."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="number">{html.escape(cell)}</{tag}>'
            if column in numbers
            else f"<{tag}>{html.escape(cell)}</{tag}>"
            for column, cell in enumerate(row)
        )

    below = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return Html(
        f'<div class="table"><table>{below}<thead><tr>{cells(header, "th")}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def figure(plot: go.Figure, height: int = 420) -> Html:
    """An interactive figure, `height` pixels high and as wide as the page."""
    # plotly writes "<" as \u003c, so that nothing in it can end the element.
    data = plot.to_json()
    return Html(
        f'<div class="plot" style="height: {height}px"></div>'
        f'<script type="application/json" class="figure">{data}</script>'
    )


def picture(png: bytes, alt: str, caption: str = "") -> Html:
    """A picture inside the page, at most as wide as it; `alt`: for those who cannot see it."""
    data = base64.b64encode(png).decode()
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return Html(
        f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">{below}</figure>'
    )


def footer(text: str) -> Html:
    return Html(f"<footer>{html.escape(text)}</footer>")
