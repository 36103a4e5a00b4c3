"""Reports as HTML pages, from the Jinja2 templates beside this module.

A page has its pictures inside and loads nothing: MLflow shows such an artifact in a frame, and it
can be sent by mail as well.
"""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ecg_mlflow.files import write_output
from ecg_mlflow.reports.figures.sheet import png, size_mm
from ecg_mlflow.tracking.run_data import markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

#: The page of every report; a report is artifacts of a run.
PAGE = "report.html"


def render(template: str, **context: Any) -> str:
    """Return a whole page, or a text; in HTML all texts are escaped, in Markdown by a filter.

    Parameters
    ----------
    template
        Name of a file in ``templates``.
    **context
        What the template names.
    """
    environment = Environment(
        loader=PackageLoader("ecg_mlflow.reports"),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = markdown
    return environment.get_template(template).render(context).strip()


def log_report(
    client: MlflowClient,
    run_id: str,
    folder: str,
    files: Mapping[str, str | bytes],
    output: Path | None,
) -> str:
    """Write a report's files, and return where its page is.

    Parameters
    ----------
    client, run_id, folder
        The run, and the folder of its artifacts.
    files
        Their contents, by their names.
    output
        A folder on this machine that gets a copy of all; None for none.

    Raises
    ------
    TrackingError, StorageError
        If the store, or the folder, doesn't take it.
    """
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as scratch:
        for place in [Path(scratch), *([output] if output else [])]:
            for name, content in files.items():
                write_output(
                    place / name, content.encode() if isinstance(content, str) else content
                )
        client.log_artifacts(run_id, scratch, folder)
    return str(output / PAGE) if output else f"artifact {folder}/{PAGE} of run {run_id}"


@dataclass(frozen=True)
class Picture:
    """A PNG picture.

    Attributes
    ----------
    data
        The file's content.
    caption
        Below it, and its description for those who can't see it.
    width_mm
        Its width where there is so much room, as in print.
    """

    data: bytes
    caption: str
    width_mm: float

    @classmethod
    def of(cls, figure: Figure, caption: str) -> Picture:
        """Draw a figure, true to scale."""
        return cls(png(figure), caption, size_mm(figure)[0])

    @property
    def source(self) -> str:
        """The picture as a URL that holds it."""
        return f"data:image/png;base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    rows
        A value for each column, by name; what is missing, None or NaN is shown as a dash.
    columns
        Their order, or some of them; by default all, as the rows name them.
    highlight
        For each row whether it stands out; by default none does.
    """

    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[str] | None = None
    highlight: Sequence[bool] = ()

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Of each column its name, its texts, and whether it has nothing but numbers."""
        names = self.columns or list(dict.fromkeys(name for row in self.rows for name in row))
        values = {name: [row.get(name) for row in self.rows] for name in names}
        return [
            {"name": name, "texts": column_texts(found), "is_numeric": _is_numeric(found)}
            for name, found in values.items()
        ]


def column_texts(column: Sequence[Any]) -> list[str]:
    """Write the values of a table's column.

    Fractions get as many decimals as give the largest four digits, so that their points stand one
    above the other; where that leaves too little of the smallest, each gets four digits.
    """
    sizes = [abs(float(value)) for value in column if _is_fraction(value)]
    sizes = [size for size in sizes if size and math.isfinite(size)]
    decimals = max(0, 3 - math.floor(math.log10(max(sizes)))) if sizes else 1
    fixed = not sizes or min(sizes) >= 10.0**-decimals
    how = f".{decimals}f" if fixed and decimals <= 8 else ".4g"
    return [_value_text(value, how) for value in column]


def _value_text(value: Any, how: str) -> str:
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
