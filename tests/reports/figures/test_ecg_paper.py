"""ECG paper: scale, grid, traces, importance, and what is left out."""

from __future__ import annotations

import struct

import matplotlib
import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.synthetic.corpora import demo12_recording
from ecg_mlflow.records.synthetic.recording import STANDARD_LEADS
from ecg_mlflow.reports.figures import draw_ecg, png
from ecg_mlflow.reports.figures.ecg_paper import MOST_TRACES
from ecg_mlflow.reports.figures.strip_rows import (
    CLINICAL_LINES,
    MM_PER_S,
    has_twelve_leads,
    importance_colours,
)

FS = 300.0


@pytest.fixture(scope="module")
def recording():
    return demo12_recording(1, ("NSR",), seed=3).samples / 1000


def wave(seconds, fs=FS):
    """An R wave of 1 mV each second on an isoelectric line."""
    t = np.arange(round(seconds * fs)) / fs
    return np.exp(-(((t % 1 - 0.5) / 0.02) ** 2))[:, None]


def rows(figure):
    return [axes for axes in figure.axes if axes.findobj(lambda one: one.get_gid() == "trace")]


def clinical(signal, leads=STANDARD_LEADS, **options):
    return draw_ecg(signal, 500.0, leads, layout="clinical", **options)


@pytest.mark.parametrize(("layout", "n_rows"), [("rows", 2), ("clinical", 1)])
def test_one_mm_of_paper_is_one_mm_in_print(recording, layout, n_rows):
    figure = draw_ecg(np.tile(recording, (3, 1)), 500.0, STANDARD_LEADS, layout=layout)
    size = figure.get_size_inches() * 25.4
    assert len(rows(figure)) == n_rows
    for axes in rows(figure):
        box = axes.get_position()
        spans = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
        assert np.array([box.width, box.height]) * size == pytest.approx(spans)
        assert axes.get_aspect() == 1


def test_picture_file_knows_its_size_and_is_the_same_again():
    figure = draw_ecg(wave(10), FS, ["ECG"])
    file = png(figure)
    assert file == png(draw_ecg(wave(10), FS, ["ECG"]))
    pixels = struct.unpack(">2I", file[16:24])
    at = file.index(b"pHYs") + 4
    assert struct.unpack(">2I", file[at : at + 8]) == (6000, 6000)  # each mm is six pixels
    np.testing.assert_allclose(np.array(pixels) / 6, figure.get_size_inches() * 25.4, atol=0.2)


def test_grid_lines_stand_at_each_mm_and_each_five(named):
    (axes,) = rows(draw_ecg(wave(10), FS, ["ECG"]))
    places = {}
    for gid in ("thin grid", "thick grid"):
        for lines in named(axes, gid):
            segments = np.array(lines.get_segments())
            is_upright = (np.ptp(segments[..., 0], axis=1) == 0).all()
            places[gid, "x" if is_upright else "y"] = set(segments[:, 0, 0 if is_upright else 1])
    for along, (low, high) in (("x", axes.get_xlim()), ("y", axes.get_ylim())):
        thick = places["thick grid", along]
        assert thick == set(np.arange(low, high + 1, 5))
        assert places["thin grid", along] == set(np.arange(low, high + 1)) - thick
        assert 0.0 in thick  # the row's first instant is on a thick line


def test_traces_seconds_and_pulses_are_25_mm_a_second_and_10_mm_a_millivolt(named):
    first, second = rows(draw_ecg(wave(20) + 3.7, FS, ["ECG"]))
    for axes in (first, second):
        x, y = named(axes, "trace")[0].get_data()
        np.testing.assert_allclose(x[y > y.max() - 1e-6], 25 * (np.arange(10) + 0.5), atol=1e-9)
        assert np.ptp(y) == pytest.approx(10.0, abs=1e-6)
        assert axes.get_ylim()[1] <= 20
        across, up = named(axes, "pulse")[0].get_data()
        assert (np.ptp(up), np.ptp(across[up == up.max()])) == (10.0, 5.0)
        assert across.max() < 0  # before the trace
        assert up.min() == pytest.approx(np.median(y), abs=1e-6)
    assert first.get_xticks().tolist() == [25.0 * second for second in range(11)]
    labels = [label.get_text() for label in second.get_xticklabels()]
    assert labels == [f"{second} s" for second in range(10, 21)]


@pytest.mark.parametrize(
    ("seconds", "fs", "n_leads", "n_rows"),
    [(5, 300, 1, 1), (10.1, 300, 1, 1), (30, 257, 2, 3), (31, 250.5, 1, 4), (10, 500, 12, 1)],
)
def test_each_sample_is_drawn(seconds, fs, n_leads, n_rows, named, texts, legible):
    signal = np.random.default_rng(0).normal(0, 0.2, (round(seconds * fs), n_leads))
    names = [f"L{lead}" for lead in range(n_leads)]
    figure = draw_ecg(signal, fs, names)
    assert len(rows(figure)) == n_rows
    drawn = np.full(signal.shape, np.nan)
    for number, axes in enumerate(rows(figure)):
        traces, pulses = named(axes, "trace"), named(axes, "pulse")
        baselines = [pulse.get_ydata()[0] for pulse in pulses]
        assert baselines == sorted(baselines, reverse=True)
        for lead, (trace, baseline) in enumerate(zip(traces, baselines, strict=True)):
            x, y = trace.get_data()
            assert axes.get_xlim()[1] >= x.max()
            assert y.min() >= 0
            assert y.max() <= axes.get_ylim()[1]
            drawn[np.rint((10 * number + x / 25) * fs).astype(int), lead] = (y - baseline) / 10
    np.testing.assert_allclose(drawn, signal - np.median(signal, axis=0), atol=1e-9)
    assert [text for text in texts(figure) if text in names] == names * n_rows
    legible(figure)


@pytest.mark.parametrize(
    ("seconds", "n_leads", "most_rows", "n_rows", "note"),
    [
        (95, 1, 7, 7, "0 to 70 s are drawn; 25.0 s follow"),
        (95, 1, 2, 2, "0 to 20 s are drawn; 75.0 s follow"),
        (36, 12, 7, MOST_TRACES // 12, "0 to 20 s are drawn; 16.0 s follow"),
        (30, 1, 7, 3, None),
    ],
)
def test_what_is_left_out_is_said(seconds, n_leads, most_rows, n_rows, note, texts):
    signal, leads = np.zeros((seconds * 100, n_leads)), [f"L{i}" for i in range(n_leads)]
    figure = draw_ecg(signal, 100.0, leads, most_rows=most_rows)
    assert len(rows(figure)) == n_rows
    assert [text for text in texts(figure) if "follow" in text] == ([note] if note else [])


@pytest.mark.parametrize("side", [1, -1])
def test_what_leaves_the_paper_is_cut_off_and_marked(side, named, texts, legible):
    signal = wave(10)
    signal[600:660] = 8.0 * side  # at 2.0 to 2.2 s
    signal[661:670] = 8.0 * side  # at once again: the same mark
    signal[2400:2430] = 6.0 * side
    figure = draw_ecg(signal, FS, ["ECG"])
    (axes,) = rows(figure)
    (trace,), marks = named(axes, "trace"), named(axes, "cut")
    baseline = named(axes, "pulse")[0].get_ydata()[0]
    clip = trace.get_clip_path().get_fully_transformed_path().get_extents()
    ends = axes.transData.inverted().transform([clip.p0, clip.p1])[:, 1]
    assert ends == pytest.approx([baseline - 50, baseline + 50])
    assert [mark.get_marker() for mark in marks] == ["^" if side > 0 else "v"] * 2
    at = [mark.get_xdata()[0] / 25 for mark in marks]
    np.testing.assert_allclose(at, [2.115, 8.05], atol=0.02)
    assert all(0 < side * (mark.get_ydata()[0] - baseline) < 50 for mark in marks)
    assert "▲▼ cut off at 5 mV from the baseline" in texts(figure)
    # The row is as tall as the limit, not as the spike.
    assert (axes.get_ylim()[1] - baseline if side > 0 else baseline) == 50
    legible(figure)


def test_gaps_stay_blank_and_are_all_named(named, texts, legible):
    signal = np.hstack([wave(5)] * 12)
    signal[300:450, 0] = np.nan
    signal[0, 0] = np.inf
    signal[:, 2:] = np.nan
    figure = draw_ecg(signal, FS, [f"lead {i}" for i in range(12)])
    missing = [np.flatnonzero(np.isnan(trace.get_ydata())) for trace in named(figure, "trace")]
    assert missing[0].tolist() == [0, *range(300, 450)]
    assert [len(one) for one in missing[1:]] == [0, *[1500] * 10]
    shown = " ".join(texts(figure))
    assert "blank, where there is no signal: lead 0 0.5 s, lead 2 5.0 s" in shown
    assert all(f"lead {i} 5.0 s" in shown for i in range(2, 12))
    legible(figure)


@pytest.mark.parametrize("fs", [20.0, 257.0, 1000.0])
def test_importance_is_aligned_with_time(fs, named, texts, legible, monkeypatch):
    # As a matplotlibrc may have it.
    monkeypatch.setitem(matplotlib.rcParams, "image.aspect", "auto")
    monkeypatch.setitem(matplotlib.rcParams, "image.interpolation", "nearest")
    importance = np.random.default_rng(1).random(round(12.34 * fs))
    figure = draw_ecg(np.zeros((len(importance), 1)), fs, ["ECG"], importance=importance)
    images = [named(axes, "importance")[0] for axes in rows(figure)]
    np.testing.assert_array_equal(np.hstack([one.get_array()[0] for one in images]), importance)
    for axes, image, end in zip(rows(figure), images, (10, len(importance) / fs - 10), strict=True):
        assert (axes.get_aspect(), image.get_interpolation()) == (1, "antialiased")
        assert image.get_extent() == pytest.approx((0, 25 * end, *axes.get_ylim()))
        # Under the grid, and the grid under the trace; light enough for both.
        (grid, *_), (trace,) = named(axes, "thin grid"), named(axes, "trace")
        assert image.get_zorder() < grid.get_zorder() < trace.get_zorder()
    assert np.dot(importance_colours()(1.0)[:3], [0.2126, 0.7152, 0.0722]) > 0.6
    assert any("importance for the network" in text for text in texts(figure))
    legible(figure)


def test_long_titles_and_names_keep_to_the_sheet(texts, legible):
    name, title = "a lead with a name that goes on and on", "$1 and $2 " * 40
    figure = draw_ecg(wave(0.3), FS, [name], title=title, importance=np.ones(90))
    assert sum("…" in text for text in texts(figure)) == 2
    legible(figure)


@pytest.mark.parametrize(
    ("shape", "fs", "importance", "message"),
    [
        ((900,), 300, None, r"\(900,\)"),
        ((900, 2), 300, None, r"\(900, 2\)"),
        ((0, 1), 300, None, r"\(0, 1\)"),
        ((900, 1), 0, None, "0 Hz"),
        ((900, 1), 300, np.zeros(899), r"\(899,\)"),
        ((900, 1), 300, np.full(900, 1.5), "1.5"),
        ((900, 1), 300, np.full(900, np.nan), "nan"),
    ],
)
def test_what_can_not_be_drawn(shape, fs, importance, message):
    with pytest.raises(RecordError, match=message):
        draw_ecg(np.zeros(shape), fs, ["ECG"], importance=importance)


def test_on_the_clinical_page_each_lead_has_place_and_time(recording, texts, named, legible):
    figure = clinical(recording, title="E00001 · NSR")
    order = [lead for row in CLINICAL_LINES for lead in row] + ["II"]
    for number, (lead, trace) in enumerate(zip(order, named(figure, "trace"), strict=True)):
        column = number % 4
        start, end = (0.0, 10.0) if number == 12 else (2.5 * column, 2.5 * column + 2.5)
        x, y = trace.get_data()
        assert (x[0], x[-1]) == pytest.approx((start * MM_PER_S, min(end, 9.998) * MM_PER_S))
        at = round(start * 500)
        values = recording[at : at + len(x), STANDARD_LEADS.index(lead)]
        np.testing.assert_allclose(y - y[0], 10 * (values - values[0]), atol=1e-6)
    shown = texts(figure)
    assert {"E00001 · NSR", "25 mm/s   10 mm/mV", *(f"{i} s" for i in range(11))} <= set(shown)
    assert [shown.count(lead) for lead in STANDARD_LEADS] == [1, 2, *[1] * 10]
    assert (len(named(figure, "pulse")), len(named(figure, "column"))) == (4, 9)
    legible(figure)


def test_leads_in_any_order_and_case(recording, named):
    names = [lead.upper() for lead in reversed(STANDARD_LEADS)]
    turned = clinical(recording[:, ::-1], names)
    straight = clinical(recording)
    for one, other in zip(named(turned, "trace"), named(straight, "trace"), strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
    assert has_twelve_leads(names)
    assert not has_twelve_leads([*STANDARD_LEADS, "v1"])
    with pytest.raises(RecordError, match="a twelve-lead page needs each of I, aVR"):
        clinical(recording[:, :11], STANDARD_LEADS[:11])
    with_another = np.concatenate([recording, recording[:, :1]], axis=1)
    assert len(named(clinical(with_another, [*STANDARD_LEADS, "V7"]), "trace")) == 13


def test_a_short_or_long_recording_on_the_clinical_page(recording, named, texts):
    figure = clinical(recording[:3000])
    starts = [trace.get_xdata()[0] / MM_PER_S for trace in named(figure, "trace")[:4]]
    assert starts == pytest.approx([0.0, 1.5, 3.0, 4.5], abs=0.003)
    shown = set(texts(clinical(np.tile(recording, (2, 1))[:7000], start_s=20.0)))
    assert {"20 to 30 s are drawn; 4.0 s follow", "20 s", "30 s"} <= shown
