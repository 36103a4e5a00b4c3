"""What all pictures must be: all texts inside the sheet, none over another or over a plot."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


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


def _overlap(one: Bbox, other: Bbox) -> bool:
    """Tell whether two boxes meet by more than a pixel."""
    both = Bbox.intersection(one, other)
    return both is not None and min(both.width, both.height) > 1


@pytest.fixture
def legible() -> Callable[[Figure], None]:
    def check(figure: Figure) -> None:
        figure.draw_without_rendering()
        sheet, texts = figure.bbox, _drawn_texts(figure)
        # That of an annotation itself includes its arrow.
        boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts]
        for text, (words, box) in zip(texts, boxes, strict=True):
            assert sheet.x0 <= box.x0 <= box.x1 <= sheet.x1, f"{words!r} is beside the sheet"
            assert sheet.y0 <= box.y0 <= box.y1 <= sheet.y1, f"{words!r} is above or below it"
            assert "$" not in words or not text.get_parse_math(), f"{words!r} is read as a formula"
            for axes in figure.axes if text in figure.texts else ():
                assert not _overlap(box, axes.get_window_extent()), f"{words!r} stands on a plot"
        for (one, box), (other, its) in itertools.combinations(boxes, 2):
            assert not _overlap(box, its), f"{one!r} stands on {other!r}"

    return check


@pytest.fixture
def texts() -> Callable[[Figure], list[str]]:
    return lambda figure: [text.get_text() for text in _drawn_texts(figure)]


@pytest.fixture
def named() -> Callable[[Any, str], list[Any]]:
    """All artists of a figure, or of axes, with a gid; in the order they are drawn in."""
    return lambda owner, gid: owner.findobj(lambda artist: artist.get_gid() == gid)
