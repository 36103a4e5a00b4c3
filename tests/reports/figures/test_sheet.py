"""Sizes in mm, and texts that fit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ecg_mlflow.reports.figures.sheet import Sheet, shorten, size_mm, text_width, wrap


def test_places_are_in_mm():
    sheet = Sheet(200, 100)
    assert size_mm(sheet.figure) == pytest.approx((200, 100))
    box = sheet.place(20, 10, 50, 25).get_position()
    assert box.bounds == pytest.approx((0.1, 0.1, 0.25, 0.25))


@pytest.mark.parametrize(("size", "weight"), [(7, "normal"), (8, "normal"), (10, "bold")])
@pytest.mark.parametrize("text", ["layout=cna, filters=[16, 32]", "0.812 [0.751, 0.864]"])
def test_a_text_is_no_wider_than_is_said(text, size, weight):
    sheet = Sheet(200, 20)
    drawn = sheet.write(1, 10, text, fontsize=size, weight=weight).get_window_extent().width
    width = text_width(text, size, weight)
    assert 0.85 * width < drawn / sheet.figure.dpi * 25.4 <= width + 0.1


def test_shortened_texts_keep_both_ends_and_fit():
    text = "layout=cna, filters=[8, 8, 16, 16, 32, 32], learning_rate=0.001"
    short = shorten(text, 40)
    assert 36 < text_width(short) <= 40
    head, tail = short.split("…")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert abs(len(head) - len(tail)) <= 2
    assert shorten(text, 500) == text
    assert shorten("one\nline", 500) == "one line"
    assert shorten(text, 0.1) == "…"


def test_wrapped_texts_keep_their_words():
    text = "blank, where there is no signal: I 0.5 s, II 4.7 s"
    lines = wrap(text, 30)
    assert " ".join(lines) == text
    assert len(lines) > 1
    assert all(text_width(line) <= 30 for line in lines)
    assert (wrap(text, 500), wrap(text, 0)) == ([text], text.split())


def test_matplotlib_is_loaded_when_something_is_drawn_and_pyplot_never():
    code = (
        "import sys; import numpy as np; from ecg_mlflow.reports.figures import draw_ecg, png;"
        "from ecg_mlflow.reports.figures.training_plots import learning_curve;"
        "print('matplotlib' in sys.modules); learning_curve([1.0]);"
        "png(draw_ecg(np.zeros((30, 1)), 30.0, ['ECG']));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
