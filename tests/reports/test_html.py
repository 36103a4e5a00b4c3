"""Pages are well formed, escaped, and need nothing beside them; numbers stand in columns."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from comparisons import comparison_of, standing
from jinja2 import UndefinedError

from ecg_mlflow.reports.figures import interval_plot
from ecg_mlflow.reports.html import Picture, Table, column_texts, render

EMPTY = {"meta", "img"}
FIGURE = interval_plot(comparison_of(standing("a", 0.5)))
EVIL = '<script>alert("1")</script> & <b>'


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


@pytest.fixture(scope="module")
def picture():
    return Picture.of(FIGURE, EVIL)


ROWS = [
    {"name": EVIL, "f1": 0.8123456, "n": 12, "good": True},
    {"name": "b", "f1": float("nan"), "n": None, "late": np.float32(0.5)},
]


def page_of(template, picture, table=None) -> str:
    table = table or Table(ROWS)
    corpus = MagicMock(bad=[], digest=EVIL)
    corpus.__len__.return_value = 4
    summary = SimpleNamespace(
        diagnoses={"A": 1}, several=0, patients={}, faults={}, copies=[], n_checked=3
    )
    contexts = {
        "comparison": {"conclusions": [EVIL], "notes": [EVIL], "configurations": table,
                       "pictures": [picture]},
        "errors": {"summary": EVIL, "strips": [picture], "explained": True, "groups": table,
                   "groups_picture": picture},
        "data": {"summary": summary, "corpus": corpus, "spans": (1.0, 2.0, 1.5, 1.0),
                 "classes": picture, "labels": table, "lengths": picture, "frequencies": table,
                 "leads": table, "examples": [picture],
                 "problems": {EVIL: Table([{"name": EVIL}] * 3)}, "most_rows": 2},
    }  # fmt: skip
    return render(f"{template}.html", title=EVIL, **contexts[template])


@pytest.mark.parametrize("template", ["comparison", "errors", "data"])
def test_pages_are_well_formed_escaped_and_need_nothing_beside_them(template, picture):
    page = page_of(template, picture)
    parsed = Page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    outside = re.sub(r"base64,[^\"]*", "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", outside)
    assert "color-scheme: light dark" in outside
    assert {"charset": "utf-8"} in parsed.attributes("meta")
    for tag in ("title", "h1", "td", "figcaption"):
        assert EVIL in parsed.texts(tag), tag
    assert any(EVIL in text for text in parsed.texts("p"))
    for image in parsed.attributes("img"):
        assert image["alt"] == EVIL
        assert image["style"] == f"width:{FIGURE.get_size_inches()[0] * 25.4:.2f}mm"
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_notes_stand_out_and_long_tables_are_cut(picture):
    parsed = Page(page_of("comparison", picture))
    assert [attrs.get("class") for attrs in parsed.attributes("p")] == [None, "note"]
    parsed = Page(page_of("data", picture))
    assert parsed.texts("h2")[-1] == EVIL
    assert parsed.texts("td")[-2:] == [EVIL, EVIL]
    assert "... and 1 more" in parsed.texts("p")


def test_tables_align_numbers_and_highlight_rows(picture):
    parsed = Page(page_of("comparison", picture, Table(ROWS, highlight=[False, True])))
    assert parsed.texts("th") == ["name", "f1", "n", "good", "late"]
    kinds = [attrs.get("class") for attrs in parsed.attributes("th")]
    assert kinds == [None, "number", "number", None, "number"]
    assert [attrs.get("class") for attrs in parsed.attributes("td")] == 2 * kinds
    assert parsed.texts("td") == [EVIL, "0.8123", "12", "yes", "–", "b", "–", "–", "–", "0.5000"]
    assert [attrs.get("class") for attrs in parsed.attributes("tr")] == [None, None, "lit"]
    parsed = Page(page_of("comparison", picture, Table([{"a": 1, "b": 2}], columns=["b", "c"])))
    assert (parsed.texts("th"), parsed.texts("td")) == (["b", "c"], ["2", "–"])
    assert Page(page_of("comparison", picture, Table([]))).texts("td") == []
    with pytest.raises(UndefinedError, match="conclusions"):
        render("comparison.html", title="t")


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
    assert column_texts(column) == texts
