"""A sheet to draw on: sizes and places in mm, texts that keep to the room they have.

A figure printed at 100 % has these sizes. Matplotlib is imported when something is drawn: half a
second that a driver need not spend. Texts are never read as formulas, for a configuration's name
may hold two dollar signs.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

MM_PER_INCH = 25.4
#: Six pixels a mm, so that every line of a mm grid falls on a pixel; 150 dpi as printers see it.
DPI = 6 * MM_PER_INCH
TEXT_PT, SMALL_PT, TITLE_PT = 8.0, 7.0, 10.0
#: Margin of a sheet in mm.
EDGE = 5.0
#: What fitting letters to pixels adds to the width of small texts at most.
_HINTING = 1.06
#: Colours that people with any colour vision tell apart; Okabe and Ito, "Color Universal Design".
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
)  # fmt: skip
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
#: Goes with `PALETTE`, for those who print in grey.
LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), "-")
GREY, GROUP = "#6b6b6b", "#dcebf7"


def sheet(width: float, height: float) -> Figure:
    """Return an empty white figure of that size in mm."""
    from matplotlib.figure import Figure

    size = (width / MM_PER_INCH, height / MM_PER_INCH)
    return Figure(figsize=size, dpi=DPI, facecolor="white")


def size_mm(figure: Figure) -> tuple[float, float]:
    """Return a figure's width and height in mm."""
    width, height = figure.get_size_inches()
    return float(width) * MM_PER_INCH, float(height) * MM_PER_INCH


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes whose frame has that place in mm, counted from the sheet's lower left corner."""
    across, up = size_mm(figure)
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.tick_params(labelsize=SMALL_PT)
    axes.set_axisbelow(True)
    return axes


def plain_axes(axes: Axes) -> None:
    """Leave only what is needed of the frame, and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)


def write(figure: Figure, x: float, y: float, text: str, **how: Any) -> Text:
    """Write a text at a place in mm, as it stands; `how` are properties of matplotlib's `Text`."""
    across, up = size_mm(figure)
    how = {"fontsize": TEXT_PT, "va": "center", "parse_math": False, **how}
    return figure.text(x / across, y / up, text, **how)


def head(figure: Figure, title: str, note: str) -> None:
    """Write a title, and smaller below it what else must be said."""
    width, top = size_mm(figure)
    text = shorten(title, width - 2 * EDGE, TITLE_PT, "bold")
    write(figure, EDGE, top - 5, text, fontsize=TITLE_PT, weight="bold")
    write(figure, EDGE, top - 10, note, fontsize=SMALL_PT, color=GREY)


def text_width(text: str, size: float = TEXT_PT, weight: str = "normal") -> float:
    """Return the most mm that a text is wide, in the default font at that size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return _HINTING * float(width) * MM_PER_INCH / 72


def shorten(text: str, room: float, size: float = TEXT_PT, weight: str = "normal") -> str:
    """Cut the middle out of a text that is wider than `room` mm, and mark it with an ellipsis.

    Names of configurations differ at either end, so both ends stay.
    """
    text = " ".join(text.split())
    if text_width(text, size, weight) <= room:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        kept = (fits + too_long) // 2
        if text_width(_without_middle(text, kept), size, weight) <= room:
            fits = kept
        else:
            too_long = kept
    return _without_middle(text, fits)


def _without_middle(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return f"{text[:head].rstrip()}…{text[len(text) - (kept - head) :].lstrip()}"


def wrap(text: str, room: float, size: float = TEXT_PT) -> list[str]:
    """Break a text into lines that are no wider than `room` mm, as far as its words are not."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def legend(
    figure: Figure, x: float, y: float, handles: Sequence[Artist], texts: Sequence[str], **how: Any
) -> Legend:
    """Explain lines and colours; the legend's upper left corner is at a place in mm."""
    across, up = size_mm(figure)
    # Matplotlib leaves out what begins with an underscore.
    shown = [f" {text}" if text.startswith("_") else text for text in texts]
    drawn = figure.legend(
        list(handles), shown, loc="upper left", bbox_to_anchor=(x / across, y / up),
        frameon=False, borderpad=0, borderaxespad=0, **{"fontsize": TEXT_PT, **how},
    )  # fmt: skip
    for text in drawn.get_texts():
        text.set_parse_math(False)
    return drawn


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file that knows its size in mm."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()
