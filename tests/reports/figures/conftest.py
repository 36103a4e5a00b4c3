"""What all pictures must be: all texts inside the sheet, none over another or over a plot."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

PIXEL = 1.0


def _drawn_texts(figure: Figure) -> list[Text]:
    """All texts that a reader sees; ticks outside their axis' limits are not among them."""
    hidden: set[Text] = set()
    for axis in figure.findobj(lambda one: isinstance(one, Axis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                hidden |= {tick.label1, tick.label2}
    texts = figure.findobj(Text)
    return [one for one in texts if one.get_text() and one.get_visible() and one not in hidden]


@pytest.fixture
def legible() -> Callable[[Figure], None]:
    def check(figure: Figure) -> None:
        figure.draw_without_rendering()
        sheet = figure.bbox
        boxes: list[tuple[str, Any]] = []
        for text in _drawn_texts(figure):
            box = text.get_window_extent()
            assert sheet.x0 <= box.x0, f"{text.get_text()!r} begins left of the sheet"
            assert box.x1 <= sheet.x1, f"{text.get_text()!r} ends right of the sheet"
            assert sheet.y0 <= box.y0, f"{text.get_text()!r} is below the sheet"
            assert box.y1 <= sheet.y1, f"{text.get_text()!r} is above the sheet"
            if "$" in text.get_text():
                assert not text.get_parse_math(), f"{text.get_text()!r} is read as a formula"
            if text in figure.texts:
                for axes in figure.axes:
                    frame = axes.get_window_extent()
                    over = min(box.x1, frame.x1) - max(box.x0, frame.x0)
                    high = min(box.y1, frame.y1) - max(box.y0, frame.y0)
                    assert min(over, high) <= PIXEL, f"{text.get_text()!r} stands on a plot"
            boxes.append((text.get_text(), box))
        for (one, a), (other, b) in itertools.combinations(boxes, 2):
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            up = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(across, up) <= PIXEL, f"{one!r} stands on {other!r}"

    return check


@pytest.fixture
def texts() -> Callable[[Figure], list[str]]:
    return lambda figure: [text.get_text() for text in _drawn_texts(figure)]


@pytest.fixture
def named() -> Callable[[Any, str], list[Any]]:
    """All artists of a figure, or of axes, with a gid; in the order they are drawn in."""

    def find(owner: Any, gid: str) -> list[Any]:
        return owner.findobj(lambda artist: artist.get_gid() == gid)

    return find
