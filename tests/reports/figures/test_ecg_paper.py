"""Strips: is a second five big boxes wide, is a millivolt two of them tall, is all of it there."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.synthetic.corpora import demo_recording
from ecg_mlflow.reports.figures import draw_strip, png, strip_title
from ecg_mlflow.reports.figures.ecg_paper import MOST_TRACES

FS = 300.0


@pytest.fixture(scope="module")
def twelve_leads():
    return demo_recording(1, "A", seed=3, fs=500, n_leads=12)


def wave(seconds, fs=FS):
    """An R wave of 1 mV each second on an isoelectric line."""
    t = np.arange(round(seconds * fs)) / fs
    return np.exp(-(((t % 1 - 0.5) / 0.02) ** 2))[:, None]


def rows(figure):
    return [axes for axes in figure.axes if axes.findobj(lambda one: one.get_gid() == "trace")]


def line_places(collection):
    segments = np.array(collection.get_segments())
    upright = np.ptp(segments[..., 0], axis=1) == 0
    return "x" if upright.all() else "y", segments[:, 0, 0 if upright.all() else 1]


def test_title():
    title = strip_title("A00004", "A", "NO", "A", 0.0812, 9000, 300)
    assert title == "A00004 · label A · said NO · p(A) = 0.08 · 30.0 s at 300 Hz"


def test_one_mm_of_paper_is_one_mm_in_print():
    figure = draw_strip(wave(30), FS, ["ECG"])
    width, height = figure.get_size_inches() * 25.4
    for axes in rows(figure):
        box = axes.get_position()
        across, up = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
        assert box.width * width == pytest.approx(across)
        assert box.height * height == pytest.approx(up)
        assert axes.get_aspect() == 1


def test_picture_file_knows_its_size():
    import struct

    figure = draw_strip(wave(10), FS, ["ECG"])
    file = png(figure)
    pixels = struct.unpack(">2I", file[16:24])
    at = file.index(b"pHYs") + 4
    per_metre = struct.unpack(">2I", file[at : at + 8])
    mm = figure.get_size_inches() * 25.4
    np.testing.assert_allclose(np.array(pixels) / per_metre * 1000, mm, atol=0.2)
    assert per_metre == (6000, 6000)  # each mm is six pixels


def test_grid_lines_stand_at_each_mm_and_each_five(named):
    (axes,) = rows(draw_strip(wave(10), FS, ["ECG"]))
    places = {
        (gid, *line_places(lines)[:1]): set(line_places(lines)[1])
        for gid in ("thin grid", "thick grid")
        for lines in named(axes, gid)
    }
    left, right = axes.get_xlim()
    top = axes.get_ylim()[1]
    assert places["thick grid", "x"] == set(np.arange(left, right + 1, 5))
    assert places["thick grid", "y"] == set(np.arange(0, top + 1, 5))
    assert places["thin grid", "x"] == set(np.arange(left, right + 1)) - places["thick grid", "x"]
    assert places["thin grid", "y"] == set(np.arange(0, top + 1)) - places["thick grid", "y"]
    # The row's first instant is on a thick line.
    assert 0.0 in places["thick grid", "x"]


def test_seconds_are_five_big_boxes_apart():
    first, second, _ = rows(draw_strip(wave(30), FS, ["ECG"]))
    assert first.get_xticks().tolist() == [25.0 * second for second in range(11)]
    labels = [label.get_text() for label in second.get_xticklabels()]
    assert labels == [f"{second} s" for second in range(10, 21)]


def test_trace_is_25_mm_a_second_and_10_mm_a_millivolt(named):
    figure = draw_strip(wave(20), FS, ["ECG"])
    for axes in rows(figure):
        (trace,) = named(axes, "trace")
        x, y = trace.get_data()
        peaks = x[y > y.max() - 1e-6]
        np.testing.assert_allclose(peaks, 25 * (np.arange(10) + 0.5), atol=1e-9)
        assert np.ptp(y) == pytest.approx(10.0, abs=1e-6)


def test_calibration_pulse_is_1_mv_for_200_ms_on_the_baseline(named):
    (axes,) = rows(draw_strip(wave(5), FS, ["ECG"]))
    (pulse,) = named(axes, "pulse")
    (trace,) = named(axes, "trace")
    x, y = pulse.get_data()
    assert np.ptp(y) == 10.0
    assert np.ptp(x[y == y.max()]) == 5.0
    assert x.max() < 0  # before the trace
    assert y.min() == pytest.approx(np.median(trace.get_ydata()), abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "fs", "n_rows"),
    [(5, 300, 1), (10, 300, 1), (10.1, 300, 1), (30, 300, 3), (30, 257, 3), (31, 250.5, 4),
     (60.95, 300, 7), (9000 / 300 + 1 / 300, 300, 3)],
)  # fmt: skip
def test_each_sample_is_drawn(seconds, fs, n_rows, named, legible):
    signal = np.random.default_rng(0).normal(0, 0.2, (round(seconds * fs), 1))
    figure = draw_strip(signal, fs, ["ECG"])
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


def test_what_is_left_out_is_said(texts):
    figure = draw_strip(wave(95), FS, ["ECG"])
    assert len(rows(figure)) == 7
    assert "the first 70 s of 95.0 s are drawn" in texts(figure)
    assert "the first 20 s of 95.0 s are drawn" in texts(
        draw_strip(wave(95), FS, ["ECG"], most_rows=2)
    )
    assert not [text for text in texts(draw_strip(wave(30), FS, ["ECG"])) if "first" in text]


def test_leads_stand_one_under_the_other(twelve_leads, named, texts, legible):
    signal = twelve_leads.samples[:5000] / 1000
    figure = draw_strip(signal, 500.0, twelve_leads.leads)
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


def test_many_leads_get_fewer_rows(twelve_leads, texts):
    signal = np.tile(twelve_leads.samples[:4500] / 1000, (4, 1))
    figure = draw_strip(signal, 500.0, twelve_leads.leads)
    assert 12 * len(rows(figure)) == MOST_TRACES
    assert "the first 20 s of 36.0 s are drawn" in texts(figure)


def test_baseline_is_the_median(named):
    (axes,) = rows(draw_strip(wave(5) + 3.7, FS, ["ECG"]))
    assert axes.get_ylim()[1] <= 20


@pytest.mark.parametrize("side", [1, -1])
def test_what_leaves_the_paper_is_cut_off_and_marked(side, named, texts, legible):
    signal = wave(10)
    signal[600:660] = 8.0 * side  # at 2.0 to 2.2 s
    signal[661:670] = 8.0 * side  # at once again: the same mark
    signal[2400:2430] = 6.0 * side
    figure = draw_strip(signal, FS, ["ECG"])
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


@pytest.mark.parametrize("limit_mv", [0.0, -1.0, float("nan")])
def test_limit_must_be_above_zero(limit_mv):
    with pytest.raises(RecordError, match="more than 0 mV"):
        draw_strip(wave(1), FS, ["ECG"], limit_mv=limit_mv)


def test_limit_is_stated():
    figure = draw_strip(4 * wave(5), FS, ["ECG"], limit_mv=2.5)
    assert "▲▼ cut off at 2.5 mV from the baseline" in [text.get_text() for text in figure.texts]


def test_gaps_stay_blank(named, texts):
    signal = np.hstack([wave(5), wave(5), wave(5)])
    signal[300:450, 0] = np.nan
    signal[0, 0] = np.inf
    signal[:, 2] = np.nan
    figure = draw_strip(signal, FS, ["I", "II", "III"])
    (axes,) = rows(figure)
    first, second, third = named(axes, "trace")
    missing = np.flatnonzero(np.isnan(first.get_ydata()))
    assert missing.tolist() == [0, *range(300, 450)]
    assert np.isfinite(second.get_ydata()).all()
    assert np.isnan(third.get_ydata()).all()
    assert "blank, where there is no signal: I 0.5 s, III 5.0 s" in texts(figure)


def test_gaps_of_many_leads_are_all_named(texts, legible):
    names = [f"lead {i}" for i in range(12)]
    figure = draw_strip(np.full((300, 12), np.nan), FS, names)
    said = " ".join(texts(figure))
    assert all(f"{name} 1.0 s" in said for name in names)
    legible(figure)


def test_importance_is_aligned_with_time(named, texts, legible):
    signal = wave(30)
    importance = np.zeros(9000)
    importance[4200:4500] = 1.0  # 14 s to 15 s
    importance[8994:] = 0.5  # half of the last mm
    figure = draw_strip(signal, FS, ["ECG"], importance=importance)
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
    assert any("what the network looked at" in text for text in texts(figure))
    legible(figure)


@pytest.mark.parametrize("fs", [20.0, 128.0, 257.0, 1000.0])
def test_importance_of_any_frequency(fs, named):
    n = round(12.34 * fs)
    importance = np.random.default_rng(1).random(n)
    figure = draw_strip(np.zeros((n, 1)), fs, ["ECG"], importance=importance)
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
    from ecg_mlflow.reports.figures.paper import importance_colours

    red, green, blue, _ = importance_colours()(1.0)
    assert 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.6


def test_marks_stand_over_their_instant(named, texts, legible):
    marks = [(1.0, "N"), (12.5, "A"), (12.55, "crowded"), (29.999, "at the very end"), (31.0, "x")]
    figure = draw_strip(wave(30), FS, ["ECG"], marks=marks)
    places = [[mark.get_xdata()[0] for mark in named(axes, "mark")] for axes in rows(figure)]
    assert places == [[25.0], [62.5, pytest.approx(63.75)], [pytest.approx(249.975)]]
    shown = texts(figure)
    assert "N" in shown
    assert "A" in shown
    assert "crowded" not in shown
    legible(figure)


def test_long_titles_and_names_keep_to_the_sheet(texts, legible):
    figure = draw_strip(
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
        draw_strip(signal, fs, leads, importance=importance)


def test_pictures_of_the_same_are_the_same():
    assert png(draw_strip(wave(3), FS, ["ECG"])) == png(draw_strip(wave(3), FS, ["ECG"]))
