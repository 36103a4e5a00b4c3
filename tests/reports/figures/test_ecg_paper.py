"""ECG paper: scale, grid, traces, marks, and what is left out."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.synthetic.corpora import demo12_recording, demo_recording
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
def twelve_leads():
    return demo_recording(1, "A", seed=3, fs=500, n_leads=12)


def wave(seconds, fs=FS):
    """An R wave of 1 mV each second on an isoelectric line."""
    t = np.arange(round(seconds * fs)) / fs
    return np.exp(-(((t % 1 - 0.5) / 0.02) ** 2))[:, None]


def steps(seconds=10.0, fs=500.0):
    """Lead number k of the twelve stands at k / 10 mV, but for 1 mV pulses each second."""
    n = round(seconds * fs)
    signal = np.zeros((n, 12))
    signal[:, :] = np.arange(12) / 10
    signal[(np.arange(n) / fs) % 1 < 0.02] += 1.0
    return signal


def rows(figure):
    return [axes for axes in figure.axes if axes.findobj(lambda one: one.get_gid() == "trace")]


@pytest.mark.parametrize("layout", ["rows", "clinical"])
def test_one_mm_of_paper_is_one_mm_in_print(layout):
    figure = draw_ecg(steps(30), 500.0, STANDARD_LEADS, layout=layout)
    width, height = figure.get_size_inches() * 25.4
    assert len(rows(figure)) == (1 if layout == "clinical" else 2)
    for axes in rows(figure):
        box = axes.get_position()
        across, up = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
        assert box.width * width == pytest.approx(across)
        assert box.height * height == pytest.approx(up)
        assert axes.get_aspect() == 1


def test_picture_file_knows_its_size_and_is_the_same_again():
    figure = draw_ecg(wave(10), FS, ["ECG"])
    file = png(figure)
    assert file == png(draw_ecg(wave(10), FS, ["ECG"]))
    pixels = struct.unpack(">2I", file[16:24])
    at = file.index(b"pHYs") + 4
    per_metre = struct.unpack(">2I", file[at : at + 8])
    assert per_metre == (6000, 6000)  # each mm is six pixels
    mm = figure.get_size_inches() * 25.4
    np.testing.assert_allclose(np.array(pixels) / 6, mm, atol=0.2)


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


def test_trace_and_seconds_are_25_mm_a_second_and_10_mm_a_millivolt(named):
    first, second = rows(draw_ecg(wave(20), FS, ["ECG"]))
    for axes in (first, second):
        (trace,) = named(axes, "trace")
        x, y = trace.get_data()
        peaks = x[y > y.max() - 1e-6]
        np.testing.assert_allclose(peaks, 25 * (np.arange(10) + 0.5), atol=1e-9)
        assert np.ptp(y) == pytest.approx(10.0, abs=1e-6)
    assert first.get_xticks().tolist() == [25.0 * second for second in range(11)]
    labels = [label.get_text() for label in second.get_xticklabels()]
    assert labels == [f"{second} s" for second in range(10, 21)]


def test_calibration_pulse_is_1_mv_for_200_ms_on_the_baseline_which_is_the_median(named):
    (axes,) = rows(draw_ecg(wave(5) + 3.7, FS, ["ECG"]))
    (pulse,), (trace,) = named(axes, "pulse"), named(axes, "trace")
    x, y = pulse.get_data()
    assert (np.ptp(y), np.ptp(x[y == y.max()])) == (10.0, 5.0)
    assert x.max() < 0  # before the trace
    assert y.min() == pytest.approx(np.median(trace.get_ydata()), abs=1e-6)
    assert axes.get_ylim()[1] <= 20


@pytest.mark.parametrize(
    ("seconds", "fs", "n_rows"),
    [(5, 300, 1), (10, 300, 1), (10.1, 300, 1), (30, 300, 3), (30, 257, 3), (31, 250.5, 4),
     (60.95, 300, 7), (9000 / 300 + 1 / 300, 300, 3)],
)  # fmt: skip
def test_each_sample_is_drawn(seconds, fs, n_rows, named, legible):
    signal = np.random.default_rng(0).normal(0, 0.2, (round(seconds * fs), 1))
    figure = draw_ecg(signal, fs, ["ECG"])
    assert len(rows(figure)) == n_rows
    drawn = {}
    for number, axes in enumerate(rows(figure)):
        (trace,) = named(axes, "trace")
        x, y = trace.get_data()
        assert axes.get_xlim()[1] >= x.max()
        at = np.rint((10 * number + x / 25) * fs).astype(int)
        (pulse,) = named(axes, "pulse")
        drawn |= dict(zip(at, (y - pulse.get_ydata()[0]) / 10, strict=True))
    np.testing.assert_allclose(
        [drawn[i] for i in range(len(signal))], signal[:, 0] - np.median(signal), atol=1e-9
    )
    legible(figure)


@pytest.mark.parametrize(
    ("signal", "most_rows", "n_rows", "note"),
    [
        (np.zeros((95 * 500, 1)), 7, 7, "0 to 70 s are drawn; 25.0 s follow"),
        (np.zeros((95 * 500, 1)), 2, 2, "0 to 20 s are drawn; 75.0 s follow"),
        (np.zeros((36 * 500, 12)), 7, MOST_TRACES // 12, "0 to 20 s are drawn; 16.0 s follow"),
        (np.zeros((30 * 500, 1)), 7, 3, None),
    ],
)
def test_what_is_left_out_is_said(signal, most_rows, n_rows, note, texts):
    leads = [f"L{i}" for i in range(signal.shape[1])]
    figure = draw_ecg(signal, 500.0, leads, most_rows=most_rows)
    assert len(rows(figure)) == n_rows
    assert [text for text in texts(figure) if "follow" in text] == ([note] if note else [])


def test_leads_stand_one_under_the_other(twelve_leads, named, texts, legible):
    signal = twelve_leads.samples[:5000] / 1000
    figure = draw_ecg(signal, 500.0, twelve_leads.leads)
    (axes,) = rows(figure)
    traces, pulses = named(axes, "trace"), named(axes, "pulse")
    assert len(traces) == len(pulses) == 12
    baselines = [pulse.get_ydata()[0] for pulse in pulses]
    assert baselines == sorted(baselines, reverse=True)
    for trace, baseline, lead in zip(traces, baselines, signal.T, strict=True):
        expected = baseline + 10 * (lead - np.median(lead))
        np.testing.assert_allclose(trace.get_ydata(), expected, atol=1e-9)
        assert (trace.get_ydata() >= 0).all()
        assert (trace.get_ydata() <= axes.get_ylim()[1]).all()
    assert [text for text in texts(figure) if text in twelve_leads.leads] == list(
        twelve_leads.leads
    )
    legible(figure)


@pytest.mark.parametrize("side", [1, -1])
def test_what_leaves_the_paper_is_cut_off_and_marked(side, named, texts, legible):
    signal = wave(10)
    signal[600:660] = 8.0 * side  # at 2.0 to 2.2 s
    signal[661:670] = 8.0 * side  # at once again: the same mark
    signal[2400:2430] = 6.0 * side
    figure = draw_ecg(signal, FS, ["ECG"])
    (axes,) = rows(figure)
    (trace,) = named(axes, "trace")
    baseline = named(axes, "pulse")[0].get_ydata()[0]
    clip = trace.get_clip_path().get_fully_transformed_path().get_extents()
    low, high = axes.transData.inverted().transform([clip.p0, clip.p1])[:, 1]
    assert (low, high) == pytest.approx((baseline - 50, baseline + 50))
    marks = named(axes, "cut")
    assert [mark.get_marker() for mark in marks] == ["^" if side > 0 else "v"] * 2
    np.testing.assert_allclose(
        [mark.get_xdata()[0] / 25 for mark in marks], [2.115, 8.05], atol=0.02
    )
    for mark in marks:
        assert 0 < side * (mark.get_ydata()[0] - baseline) < 50
    assert "▲▼ cut off at 5 mV from the baseline" in texts(figure)
    # The row is as tall as the limit, not as the spike.
    above = axes.get_ylim()[1] - baseline if side > 0 else baseline
    assert above == 50
    legible(figure)


def test_gaps_stay_blank(named, texts):
    signal = np.hstack([wave(5), wave(5), wave(5)])
    signal[300:450, 0] = np.nan
    signal[0, 0] = np.inf
    signal[:, 2] = np.nan
    figure = draw_ecg(signal, FS, ["I", "II", "III"])
    (axes,) = rows(figure)
    first, second, third = named(axes, "trace")
    missing = np.flatnonzero(np.isnan(first.get_ydata()))
    assert missing.tolist() == [0, *range(300, 450)]
    assert np.isfinite(second.get_ydata()).all()
    assert np.isnan(third.get_ydata()).all()
    assert "blank, where there is no signal: I 0.5 s, III 5.0 s" in texts(figure)


def test_gaps_of_many_leads_are_all_named(texts, legible):
    names = [f"lead {i}" for i in range(12)]
    figure = draw_ecg(np.full((300, 12), np.nan), FS, names)
    shown = " ".join(texts(figure))
    assert all(f"{name} 1.0 s" in shown for name in names)
    legible(figure)


def test_importance_is_aligned_with_time(named, texts, legible):
    signal = wave(30)
    importance = np.zeros(9000)
    importance[4200:4500] = 1.0  # 14 s to 15 s
    importance[8994:] = 0.5  # half of the last mm
    figure = draw_ecg(signal, FS, ["ECG"], importance=importance)
    seen = np.concatenate([named(axes, "importance")[0].get_array()[0] for axes in rows(figure)])
    assert len(seen) == 750  # one for each 0.04 s
    expected = np.zeros(750)
    expected[14 * 25 : 15 * 25] = 1
    expected[-1] = 0.25
    np.testing.assert_allclose(seen, expected, atol=1e-9)
    second = rows(figure)[1]
    (mesh,) = named(second, "importance")
    corners = mesh.get_coordinates()
    assert corners[0, :, 0].tolist() == list(range(251))
    assert (corners[0, 0, 1], corners[-1, 0, 1]) == second.get_ylim()
    # Under the grid, and the grid under the trace.
    grid = [lines.get_zorder() for lines in named(second, "thin grid")]
    assert mesh.get_zorder() < min(grid) < named(second, "trace")[0].get_zorder()
    assert any("importance for the network" in text for text in texts(figure))
    legible(figure)


@pytest.mark.parametrize("fs", [20.0, 128.0, 257.0, 1000.0])
def test_importance_of_any_frequency(fs, named):
    n = round(12.34 * fs)
    importance = np.random.default_rng(1).random(n)
    figure = draw_ecg(np.zeros((n, 1)), fs, ["ECG"], importance=importance)
    fine = np.repeat(importance, 1000)  # an oracle: 1000 points for each sample
    when = np.arange(len(fine)) / (1000 * fs)
    for number, axes in enumerate(rows(figure)):
        cells = named(axes, "importance")[0].get_array()[0]
        edges = 10 * number + named(axes, "importance")[0].get_coordinates()[0, :, 0] / 25
        for cell in (0, len(cells) // 2, len(cells) - 1):
            inside = (when >= edges[cell]) & (when < edges[cell + 1])
            assert cells[cell] == pytest.approx(fine[inside].mean(), abs=2e-3)
        assert edges[-1] == pytest.approx(min(10 * number + 10, n / fs))


def test_importance_stays_light_enough_for_the_grid():
    red, green, blue, _ = importance_colours()(1.0)
    assert 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.6


def test_long_titles_and_names_keep_to_the_sheet(texts, legible):
    figure = draw_ecg(
        wave(0.3), FS, ["a lead with a name that goes on and on"], title="$1 and $2 " * 40,
        importance=np.ones(90),
    )  # fmt: skip
    assert sum("…" in text for text in texts(figure)) == 2
    legible(figure)


@pytest.mark.parametrize(
    ("signal", "fs", "leads", "importance", "message"),
    [
        (np.zeros(900), 300, ["ECG"], None, r"\(900,\)"),
        (np.zeros((900, 2)), 300, ["ECG"], None, r"\(900, 2\)"),
        (np.zeros((0, 1)), 300, ["ECG"], None, r"\(0, 1\)"),
        (np.zeros((900, 1)), 0, ["ECG"], None, "0 Hz"),
        (np.zeros((900, 1)), 300, ["ECG"], np.zeros(899), r"\(899,\)"),
        (np.zeros((900, 1)), 300, ["ECG"], np.full(900, 1.5), "1.5"),
        (np.zeros((900, 1)), 300, ["ECG"], np.full(900, np.nan), "nan"),
    ],
)
def test_what_can_not_be_drawn(signal, fs, leads, importance, message):
    with pytest.raises(RecordError, match=message):
        draw_ecg(signal, fs, leads, importance=importance)


# The clinical page: which lead stands where and when.


def clinical(signal, leads, **options):
    return draw_ecg(signal, 500.0, leads, layout="clinical", **options)


@pytest.fixture(scope="module")
def recording():
    return demo12_recording(1, ("NSR",), seed=3).samples / 1000


def test_each_lead_has_its_place_and_its_time(recording, named):
    figure = clinical(recording, STANDARD_LEADS)
    (axes,) = figure.axes
    traces = named(axes, "trace")
    order = [lead for row in CLINICAL_LINES for lead in row] + ["II"]
    for number, (lead, trace) in enumerate(zip(order, traces, strict=True)):
        column = number % 4
        start, end = (0.0, 10.0) if number == 12 else (2.5 * column, 2.5 * column + 2.5)
        x = trace.get_xdata()
        assert x[0] == pytest.approx(start * MM_PER_S)
        assert x[-1] == pytest.approx(min(end, 9.998) * MM_PER_S)
        at, y = round(start * 500), trace.get_ydata()
        values = recording[at : at + len(x), STANDARD_LEADS.index(lead)]
        np.testing.assert_allclose(y - y[0], 10 * (values - values[0]), atol=1e-6)


def test_names_pulses_and_marks(recording, texts, named, legible):
    figure = clinical(recording, STANDARD_LEADS, title="E00001 · NSR")
    shown = texts(figure)
    assert "E00001 · NSR" in shown
    assert "25 mm/s   10 mm/mV" in shown
    assert [shown.count(lead) for lead in STANDARD_LEADS] == [1, 2, *[1] * 10]
    assert len(named(figure, "pulse")) == 4
    assert len(named(figure, "column")) == 9
    assert [f"{second} s" in shown for second in range(11)] == [True] * 11
    legible(figure)


def test_leads_in_any_order_and_case(named):
    names = [lead.upper() for lead in reversed(STANDARD_LEADS)]
    turned = clinical(steps()[:, ::-1], names)
    straight = clinical(steps(), STANDARD_LEADS)
    for one, other in zip(named(turned, "trace"), named(straight, "trace"), strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
    assert has_twelve_leads(names)
    assert not has_twelve_leads(STANDARD_LEADS[:11])
    assert not has_twelve_leads([*STANDARD_LEADS, "v1"])
    with pytest.raises(RecordError, match="a twelve-lead page needs each of I, aVR"):
        clinical(np.zeros((100, 2)), ["I", "II"])
    with_another = np.concatenate([steps(), steps()[:, :1]], axis=1)
    assert len(named(clinical(with_another, [*STANDARD_LEADS, "V7"]), "trace")) == 13


def test_a_short_recording_has_narrower_columns(named):
    figure = clinical(steps(6.0), STANDARD_LEADS)
    starts = [trace.get_xdata()[0] / MM_PER_S for trace in named(figure, "trace")[:4]]
    assert starts == pytest.approx([0.0, 1.5, 3.0, 4.5], abs=0.003)


def test_the_clinical_page_says_what_it_does_not_show(texts):
    signal = steps(14.0)
    signal[100:200, 3] = np.nan
    signal[3000, 7] = 9.0
    shown = texts(clinical(signal, STANDARD_LEADS, start_s=20.0))
    assert "20 to 30 s are drawn; 4.0 s follow" in shown
    assert "▲▼ cut off at 5 mV from the baseline" in shown
    assert "blank, where there is no signal: aVR 0.2 s" in shown
    assert "20 s" in shown
    assert "30 s" in shown
