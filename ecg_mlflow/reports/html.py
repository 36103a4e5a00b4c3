"""A report as one HTML page that needs nothing beside it: no scripts, no links, pictures inside.

MLflow shows such an artifact in a frame that loads nothing else; it can be sent by mail as well.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from ecg_mlflow.reports.figures.sheet import png, size_mm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; --text: #1d1d1f; --faint: #62666d; --paper: #ffffff;
  --line: #d9dce1; --lit: #dcebf7; --warn: #fdf1dc; --edge: #d98a00; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8ea; --faint: #a3a8b0;
  --paper: #17181b; --line: #3b3f46; --lit: #1d3a52; --warn: #40300f; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 75rem; background: var(--paper);
  color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 2.2rem; font-size: 1.2rem; }
h1, h2, p, td, th, figcaption, caption { overflow-wrap: break-word; }
p { max-width: 50rem; white-space: pre-line; }
p.warning { padding: .5rem .8rem; background: var(--warn); border-left: 4px solid var(--edge); }
div.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
caption, figcaption { color: var(--faint); font-size: .9rem; text-align: left;
  padding: .2rem 0; max-width: 60rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td { max-width: 30rem; }
th { border-bottom-width: 2px; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
tr.lit td { background: var(--lit); }
figure { margin: 1.2rem 0; } img { max-width: 100%; height: auto; background: #ffffff; }
@page { size: A4 landscape; margin: 8mm; }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Paragraph:
    """A text; line breaks stay.

    Attributes
    ----------
    text
        Written as it stands, not as HTML.
    warning
        Whether it must not be overlooked.
    """

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    rows
        A value for each column, by name; what is missing, None or NaN is shown as a dash.
    caption
        Above it.
    columns
        Their order, or some of them; by default all, as the rows name them.
    highlight
        Numbers of the rows that stand out, from 0.
    """

    rows: Sequence[Mapping[str, Any]]
    caption: str = ""
    columns: Sequence[str] | None = None
    highlight: Collection[int] = ()


@dataclass(frozen=True)
class Picture:
    """A PNG picture.

    Attributes
    ----------
    data
        The file's content.
    caption
        Below it, and what those hear who can't see it.
    width_mm
        Its width where there is so much room, as in print; None takes the picture's own pixels.
    """

    data: bytes
    caption: str = ""
    width_mm: float | None = None

    @classmethod
    def of(cls, figure: Figure, caption: str = "") -> Picture:
        """Draw a figure, true to scale."""
        return cls(png(figure), caption, size_mm(figure)[0])


@dataclass(frozen=True)
class Section:
    """A heading, and what is under it."""

    title: str
    items: Sequence[Paragraph | Table | Picture]


def html_report(title: str, sections: Sequence[Section]) -> str:
    """Return a whole HTML page.

    Parameters
    ----------
    title
        Of the page.
    sections
        In their order; one without a title has no heading.
    """
    body = [f"<h1>{escape(title)}</h1>"]
    for section in sections:
        body.append("<section>")
        if section.title:
            body.append(f"<h2>{escape(section.title)}</h2>")
        body += [_item(item) for item in section.items]
        body.append("</section>")
    return "\n".join([
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style></head>",
        "<body>",
        *body,
        "</body></html>",
        "",
    ])  # fmt: skip


def _item(item: Paragraph | Table | Picture) -> str:
    if isinstance(item, Paragraph):
        kind = ' class="warning"' if item.warning else ""
        return f"<p{kind}>{escape(item.text)}</p>"
    if isinstance(item, Table):
        return _table(item)
    data = base64.b64encode(item.data).decode("ascii")
    width = "" if item.width_mm is None else f' style="width:{item.width_mm:.2f}mm"'
    caption = f"<figcaption>{escape(item.caption)}</figcaption>" if item.caption else ""
    image = f'<img alt="{escape(item.caption)}"{width} src="data:image/png;base64,{data}">'
    return f"<figure>{image}{caption}</figure>"


def _table(table: Table) -> str:
    # A dict keeps the order in which the rows name the columns, each once.
    named = dict.fromkeys(name for row in table.rows for name in row)
    columns = list(named) if table.columns is None else list(table.columns)
    values = [[row.get(name) for row in table.rows] for name in columns]
    kinds = [' class="number"' if _is_numeric(column) else "" for column in values]
    texts = [written(column) for column in values]
    heads = "".join(
        f'<th scope="col"{kind}>{escape(str(name))}</th>'
        for name, kind in zip(columns, kinds, strict=True)
    )
    lines = [f"<thead><tr>{heads}</tr></thead>", "<tbody>"]
    for number in range(len(table.rows)):
        cells = "".join(
            f"<td{kind}>{escape(column[number])}</td>"
            for column, kind in zip(texts, kinds, strict=True)
        )
        lit = ' class="lit"' if number in table.highlight else ""
        lines.append(f"<tr{lit}>{cells}</tr>")
    lines.append("</tbody>")
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f'<div class="table"><table>{caption}{"".join(lines)}</table></div>'


def written(column: Sequence[Any]) -> list[str]:
    """Write the values of a table's column.

    Fractions get as many decimals as give the largest four digits, so that their points stand one
    above the other; where that leaves too little of the smallest, each gets four digits.
    """
    sizes = [abs(float(value)) for value in column if _is_fraction(value)]
    sizes = [size for size in sizes if size and math.isfinite(size)]
    decimals = max(0, 3 - math.floor(math.log10(max(sizes)))) if sizes else 1
    fixed = not sizes or min(sizes) >= 10.0**-decimals
    how = f".{decimals}f" if fixed and decimals <= 8 else ".4g"
    return [_shown(value, how) for value in column]


def _shown(value: Any, how: str) -> str:
    if value is None or (_is_fraction(value) and math.isnan(float(value))):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(float(value), how) if _is_fraction(value) else str(value)


def _is_fraction(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, Integral)


def _is_numeric(column: Sequence[Any]) -> bool:
    """Whether there are numbers, and nothing else but what is missing."""
    there = [value for value in column if value is not None]
    return bool(there) and all(
        isinstance(value, Real) and not isinstance(value, bool) for value in there
    )
