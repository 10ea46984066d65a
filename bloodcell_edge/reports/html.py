"""The frame and the parts of a report: one HTML file, no link, no script, nothing to fetch; for screen, phone, printer.

What goes in is plain text, escaped here, so that no file name can become markup; what comes out is HTML. ::

    page("Slide 12", [section("Fields", paragraph("60 were taken in."), table("By reason", ("Reason", "n"), rows))])
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

from ..model.spec import INTENDED_USE
from ..text import interval, percent
from ..version import __version__

DRAWN = "These pictures are drawn by a program: every figure here tests the software and says nothing about blood."
"""What stands at the top where no photograph was involved."""

MOST_ITEMS = 30
"""A list longer than that is cut, and says so."""

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="use">$use</p>
$notice
</header>
<main>
$body
</main>
<footer><p>Made by bloodcell_edge $version. $use</p></footer>
</body>
</html>
""")

_STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #5a5a5a; --paper: #fff; --rule: #d9d9d9; --shade: #f4f6f8;
  --accent: #0072b2; --warn-ink: #6b2400; --warn-paper: #fdeee3; --warn-rule: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a8adb3; --paper: #16181b; --rule: #3a3f45;
  --shade: #1f2327; --accent: #66b7e8; --warn-ink: #ffd9bd; --warn-paper: #3a2415; --warn-rule: #e8833a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 3rem 0 .75rem; padding-bottom: .25rem; border-bottom: 2px solid var(--accent); font-size: 1.3rem; }
p, li { max-width: 46rem; }
.use, footer { color: var(--soft); }
.use { margin: .35rem 0 0; }
.warn { margin: 1rem 0; padding: .7rem 1rem; background: var(--warn-paper); color: var(--warn-ink);
  border-left: 5px solid var(--warn-rule); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .9rem; margin: 1.5rem 0 0; }
.tiles > div { padding: .8rem 1rem; background: var(--shade); border-top: 4px solid var(--accent); }
.tiles > .bad { background: var(--warn-paper); color: var(--warn-ink); border-top-color: var(--warn-rule); }
.tiles dt { font-size: .9rem; }
.tiles dd { margin: 0; }
.tiles .value { font-size: 1.75rem; font-weight: 650; line-height: 1.25; }
.tiles .note { font-size: .85rem; }
.scroll { margin: 1rem 0; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding-bottom: .4rem; text-align: left; color: var(--soft); }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top; }
td { white-space: nowrap; }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; font-weight: 600; }
th[scope=row] { font-weight: 600; }
.numbers th[scope=row] { white-space: nowrap; }
th[scope=colgroup] { border-bottom: 1px solid var(--soft); border-left: 1px solid var(--rule); text-align: center; }
th:first-child, .words td, .words thead th { text-align: left; }
.words td { min-width: 6rem; white-space: normal; overflow-wrap: anywhere; }
.hashes td:last-child { font: .8rem/1.6 ui-monospace, "DejaVu Sans Mono", monospace; word-break: break-all; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.1rem; }
figure { margin: 1.5rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--rule); }
figcaption { margin-top: .4rem; color: var(--soft); }
code { padding: .1rem .3rem; background: var(--shade); font-family: ui-monospace, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); font-size: .9rem; }
@media screen and (max-width: 40rem) {
  body { padding: 1rem .75rem; }
  table { font-size: .875rem; }
  th, td { padding: .3rem .4rem; }
  .numbers th[scope=row] { position: sticky; left: 0; background: var(--paper); }
}
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --rule: #bbb; --shade: #fff;
    --accent: #0072b2; --warn-ink: #000; --warn-paper: #fff; --warn-rule: #d55e00; }
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  h2 { margin-top: 1.5rem; break-after: avoid; }
  h3 { break-after: avoid; }
  figure, table, .tiles > div, .warn { break-inside: avoid; }
  .scroll { overflow: visible; }
  .tiles { grid-template-columns: repeat(5, 1fr); }
  th, td { padding: .2rem .4rem; }
  figure img { max-width: 14cm; }
}"""


def page(title: str, sections: Iterable[str], *, notice: str = "", style: str = "") -> str:
    """A whole document around sections of HTML.

    Args:
        title: plain text.
        sections: HTML, as `section` gives it.
        notice: plain text that must be read first.
        style: rules of this report alone, after those of every report.
    """
    whole = _PAGE.substitute(
        title=escape(title),
        style=f"{_STYLE}\n{style}".rstrip(),
        use=escape(INTENDED_USE),
        notice=warning(notice) if notice else "",
        body="\n".join(sections),
        version=escape(__version__),
    )
    return whole.encode(errors="replace").decode()  # file names that are not UTF-8 come as lone surrogates


def section(title: str, *parts: str, level: int = 2) -> str:
    """A heading and what stands below it; empty parts are left out."""
    heading = f"<h{level}>{escape(title)}</h{level}>"
    return "\n".join(["<section>", heading, *filter(None, parts), "</section>"])


def paragraph(text: str) -> str:
    """Text."""
    return f"<p>{escape(text)}</p>"


def warning(text: str) -> str:
    """Text that must not be overlooked."""
    return f'<p class="warn" role="note">{escape(text)}</p>'


def hint(text: str, command: str) -> str:
    """What is missing, and the command line that makes it."""
    return f"<p>{escape(text)} <code>{escape(command)}</code></p>"


def bullets(title: str, items: Sequence[str]) -> str:
    """A titled list, cut where it is long; nothing at all without items."""
    if not items:
        return ""
    shown = [*items[:MOST_ITEMS], *([f"and {len(items) - MOST_ITEMS} more"] if len(items) > MOST_ITEMS else [])]
    return f"{paragraph(title)}\n<ul>{''.join(f'<li>{escape(item)}</li>' for item in shown)}</ul>"


@dataclass(frozen=True)
class Tile:
    """A figure to see first: its name, its value (None is a dash), and what it rests on."""

    name: str
    value: str | None
    note: str
    bad: bool = False


def tiles(shown: Iterable[Tile]) -> str:
    """Figures side by side."""
    return f'<dl class="tiles">\n{"".join(map(_tile, shown))}</dl>'


def _tile(tile: Tile) -> str:
    return (
        f'<div class="{"bad" if tile.bad else "good"}"><dt>{escape(tile.name)}</dt>'
        f'<dd class="value">{escape(tile.value or "–")}</dd><dd class="note">{escape(tile.note)}</dd></div>\n'
    )


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], *, over: Sequence[tuple[str, int]] = (),
    kind: str = "numbers",
) -> str:  # fmt: skip
    """A table of plain text with a header column.

    Args:
        caption: what it shows.
        head: names of the columns.
        rows: their cells, the first names the row; None becomes a dash.
        over: names above groups of columns, each with the number of columns it spans.
        kind: class for the style sheet: "numbers", "words" (left-aligned) or "hashes".
    """
    spans = "".join(
        f'<th scope="colgroup" colspan="{n}">{escape(name)}</th>' if name else f'<td colspan="{n}"></td>'
        for name, n in over
    )
    named = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(_row(row) for row in rows)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">\n<table class="{kind}">\n'
        f"<caption>{escape(caption)}</caption>\n<thead>{f'<tr>{spans}</tr>' if over else ''}<tr>{named}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _row(cells: Sequence[object]) -> str:
    name, *values = ("–" if cell is None else escape(str(cell)) for cell in cells)
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{value}</td>" for value in values)}</tr>'


def figure(png: bytes, caption: str) -> str:
    """A PNG file with its caption."""
    told = escape(caption)
    return f'<figure><img src="{data_uri(png, "png")}" alt="{told}"><figcaption>{told}</figcaption></figure>'


def data_uri(data: bytes, kind: str) -> str:
    """A whole picture file as an address that holds it; kind is "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


# Numbers as people read them.


def share(fraction: float | None) -> str | None:
    """A fraction 0..1 in percent."""
    return None if fraction is None else percent(fraction)


def span(bounds: Sequence[float] | None) -> str | None:
    """An interval of fractions 0..1 in percent."""
    return None if bounds is None else f"{interval(bounds, between='–')} %"


def machine_table(machine: Mapping[str, Any]) -> str:
    """What ``machine`` of ``bce benchmark --json`` says, for people."""
    flat = {**{key: value for key, value in machine.items() if key != "after"}}
    flat |= {f"{key}, after": value for key, value in machine.get("after", {}).items()}
    rows = [(key.replace("_", " "), _said(value)) for key, value in flat.items()]
    return table("What it was measured on", ("What", "Value"), rows, kind="words")


def _said(value: Any) -> str:
    if value is None:
        return "not told here"
    if isinstance(value, list):
        return ", ".join(map(_said, value)) or "none"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
