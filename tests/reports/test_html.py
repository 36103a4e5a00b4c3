from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ecg_mlflow.reports.figures import Score, interval_plot
from ecg_mlflow.reports.html import Paragraph, Picture, Section, Table, html_report, written

EMPTY = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags are closed in order; keeps tags, and texts by the tag they stand in."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.found = [], [], []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.found.append((self.open[-1], data))

    def texts(self, tag):
        return [text for one, text in self.found if one == tag]

    def attributes(self, tag):
        return [attrs for one, attrs in self.tags if one == tag]


EVIL = '<script>alert("1")</script> & <b>'


@pytest.fixture
def page():
    figure = interval_plot([Score("a", 0.5)], "f1")
    rows = [
        {"name": EVIL, "f1": 0.8123456, "n": 12, "good": True},
        {"name": "b", "f1": float("nan"), "n": None, "late": np.float32(0.5)},
    ]
    return html_report(
        EVIL,
        [
            Section("", [Paragraph(EVIL), Paragraph("mind", warning=True)]),
            Section(EVIL, [Table(rows, EVIL, highlight={1}), Picture.of(figure, EVIL)]),
        ],
    )


def test_page_is_well_formed_and_escaped(page):
    parsed = Page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert parsed.texts("script") == []
    for tag in ("title", "h1", "h2", "p", "caption", "figcaption"):
        assert EVIL in parsed.texts(tag)
    assert EVIL in parsed.texts("td")
    assert parsed.attributes("img")[0]["alt"] == EVIL
    assert len(parsed.texts("h2")) == 1  # a section without a title has no heading
    assert {"charset": "utf-8"} in parsed.attributes("meta")


def test_page_needs_nothing_beside_it(page):
    parsed = Page(page)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.split("base64,")[0])
    for image in parsed.attributes("img"):
        assert image["src"].startswith("data:image/png;base64,")


def test_pictures_are_the_figures_at_their_size():
    figure = interval_plot([Score("a", 0.5)], "f1")
    parsed = Page(html_report("t", [Section("s", [Picture.of(figure), Picture(b"\x89PNG")])]))
    first, second = parsed.attributes("img")
    data = base64.b64decode(first["src"].partition(",")[2])
    assert data.startswith(b"\x89PNG")
    width = figure.get_size_inches()[0] * 25.4
    assert first["style"] == f"width:{width:.2f}mm"
    assert "style" not in second
    assert base64.b64decode(second["src"].partition(",")[2]) == b"\x89PNG"


def test_tables_align_numbers_and_light_up_rows(page):
    parsed = Page(page)
    assert parsed.texts("th") == ["name", "f1", "n", "good", "late"]
    kinds = [attrs.get("class") for attrs in parsed.attributes("th")]
    assert kinds == [None, "number", "number", None, "number"]
    assert [attrs.get("class") for attrs in parsed.attributes("td")] == 2 * kinds
    assert parsed.texts("td") == [EVIL, "0.8123", "12", "yes", "–", "b", "–", "–", "–", "0.5000"]
    assert [attrs.get("class") for attrs in parsed.attributes("tr")] == [None, None, "lit"]


def test_columns_can_be_chosen():
    table = Table([{"a": 1, "b": 2}], columns=["b", "c"])
    parsed = Page(html_report("t", [Section("s", [table])]))
    assert parsed.texts("th") == ["b", "c"]
    assert parsed.texts("td") == ["2", "–"]


def test_a_table_without_rows():
    assert Page(html_report("t", [Section("s", [Table([])])])).texts("td") == []


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ([0.8123456, 0.5], ["0.8123", "0.5000"]),
        ([0.9, 0.0000123], ["0.9", "1.23e-05"]),
        ([1234.5678, 1.0], ["1235", "1"]),
        ([3e-4, 1e-4], ["0.0003000", "0.0001000"]),
        ([0.0, 0.0], ["0.0", "0.0"]),
        ([1, 2000000, None], ["1", "2000000", "–"]),
        ([np.int64(3), np.float64(0.25)], ["3", "0.2500"]),
        ([True, False, "x", float("inf")], ["yes", "no", "x", "inf"]),
        ([float("nan"), None], ["–", "–"]),
        ([1e-30], ["1e-30"]),
    ],
)
def test_values_of_a_column(column, texts):
    assert written(column) == texts


def test_both_colour_schemes(page):
    assert "color-scheme: light dark" in page
    assert "prefers-color-scheme: dark" in page
