"""A sheet to draw on: sizes and places in mm, texts that keep to the room they have.

A figure printed at 100 % has these sizes. Matplotlib is imported when something is drawn: half a
second that a driver need not spend. Texts are never read as formulas, for a configuration's name
may hold two dollar signs.
"""

from __future__ import annotations

import io
import textwrap
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ecg_mlflow.terminal import printable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

#: Properties of a line, by matplotlib's names.
Look = dict[str, Any]

MM_PER_INCH = 25.4
#: Six pixels a mm, so that every line of a mm grid falls on a pixel; 150 dpi as printers see it.
PIXELS_PER_MM = 6
DPI = PIXELS_PER_MM * MM_PER_INCH
TEXT_PT, SMALL_PT, TITLE_PT = 8.0, 7.0, 10.0
#: Margin of a sheet, and height of a table's rows, in mm.
EDGE = ROW = 5.0
#: What fitting letters to pixels adds to the width of small texts at most.
_HINTING = 1.06
#: Colours that people with any colour vision tell apart; Okabe and Ito, "Color Universal Design".
BLUE, VERMILION, SKY = "#0072B2", "#D55E00", "#56B4E9"
#: Of lines; the dashes are for those who print in grey.
LOOKS: tuple[Look, ...] = (
    {"color": BLUE, "linestyle": "-"},
    {"color": VERMILION, "linestyle": (0, (5, 1.5))},
    {"color": "#009E73", "linestyle": (0, (1.2, 1))},
    {"color": "#CC79A7", "linestyle": (0, (6, 1.5, 1.2, 1.5))},
    {"color": "#E69F00", "linestyle": (0, (3, 1))},
    {"color": SKY, "linestyle": "-"},
)
GREY, GROUP = "#6b6b6b", "#dcebf7"


class Sheet:
    """An empty white figure with sizes and places in mm, counted from its lower left corner.

    Parameters
    ----------
    width, height
        Of the sheet.
    title, note
        Written at its top: the note is smaller and says what else the reader must know.
    """

    def __init__(self, width: float, height: float, title: str = "", note: str = "") -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        size = (width / MM_PER_INCH, height / MM_PER_INCH)
        self.figure = Figure(figsize=size, dpi=DPI, facecolor="white")
        text = shorten(title, width - 2 * EDGE, TITLE_PT, "bold")
        self.write(EDGE, height - 5, text, fontsize=TITLE_PT, weight="bold")
        self.write(EDGE, height - 10, note, fontsize=SMALL_PT, color=GREY)

    def place(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Add axes whose frame has that place."""
        axes = self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )
        axes.tick_params(labelsize=SMALL_PT)
        axes.set_axisbelow(True)
        return axes

    def write(self, x: float, y: float, text: str, **how: Any) -> Text:
        """Write a text as it stands; `how` are properties of matplotlib's `Text`."""
        how = {"fontsize": TEXT_PT, "va": "center", "parse_math": False, **how}
        return self.figure.text(x / self.width, y / self.height, printable(text), **how)

    def column(
        self, x: float, top: float, heading: str, texts: Sequence[str], **how: Any
    ) -> list[Text]:
        """Write a heading, and below it a text every `ROW` mm; `how` as for `write`."""
        self.write(x, top, heading, **{**how, "color": GREY, "weight": "normal"})
        return [self.write(x, top - ROW * n, text, **how) for n, text in enumerate(texts, 1)]

    def legend(
        self, x: float, y: float, entries: Sequence[tuple[str, Artist | Look]], **how: Any
    ) -> None:
        """Explain artists, or the looks of lines; the upper left corner is at that place."""
        from matplotlib.lines import Line2D

        # Matplotlib leaves out what begins with an underscore.
        texts = [printable(text) for text, _ in entries]
        shown = [f" {text}" if text.startswith("_") else text for text in texts]
        handles = [Line2D([], [], **one) if isinstance(one, dict) else one for _, one in entries]
        drawn = self.figure.legend(
            handles, shown, loc="upper left", bbox_to_anchor=(x / self.width, y / self.height),
            frameon=False, borderpad=0, borderaxespad=0, **{"fontsize": TEXT_PT, **how},
        )  # fmt: skip
        for text in drawn.get_texts():
            text.set_parse_math(False)


def size_mm(figure: Figure) -> tuple[float, float]:
    """Return a figure's width and height in mm."""
    width, height = figure.get_size_inches()
    return float(width) * MM_PER_INCH, float(height) * MM_PER_INCH


def plain_axes(axes: Axes) -> None:
    """Leave only what is needed of the frame, and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)


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
    text = printable(" ".join(text.split()))
    if text_width(text, size, weight) <= room:
        return text
    kept = bisect_right(
        range(len(text)), room, key=lambda n: text_width(_without_middle(text, n), size, weight)
    )
    return _without_middle(text, max(kept - 1, 0))


def _without_middle(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return f"{text[:head].rstrip()}…{text[len(text) - (kept - head) :].lstrip()}"


def wrap(text: str, room: float, size: float = TEXT_PT) -> list[str]:
    """Break a text into lines of about `room` mm, as far as its words are not longer."""
    width = 0.95 * len(text) * room / text_width(text, size)
    return textwrap.wrap(text, max(1, int(width)), break_long_words=False, break_on_hyphens=False)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file that knows its size in mm."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()
