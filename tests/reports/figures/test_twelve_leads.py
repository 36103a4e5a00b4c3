"""The clinical page: which lead stands where and when, and is all of it true to scale."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.synthetic.corpora import demo12_recording
from ecg_mlflow.records.synthetic.recording import STANDARD_LEADS
from ecg_mlflow.reports.figures.strip_rows import MM_PER_S
from ecg_mlflow.reports.figures.twelve_leads import LAYOUT, draw_twelve_leads, has_twelve_leads

FS = 500.0


@pytest.fixture(scope="module")
def recording():
    return demo12_recording(1, ("NSR",), seed=3).samples / 1000


def steps(seconds=10.0, fs=FS):
    """Lead number k of the twelve stands at k / 10 mV, but for 1 mV pulses each second."""
    n = round(seconds * fs)
    signal = np.zeros((n, 12))
    signal[:, :] = np.arange(12) / 10
    signal[(np.arange(n) / fs) % 1 < 0.02] += 1.0
    return signal


def test_each_lead_has_its_place_and_its_time(recording, named):
    figure = draw_twelve_leads(recording, FS, STANDARD_LEADS)
    (axes,) = figure.axes
    traces = named(axes, "trace")
    assert len(traces) == 13
    order = [lead for row in LAYOUT for lead in row] + ["II"]
    for number, (lead, trace) in enumerate(zip(order, traces, strict=True)):
        column = number % 4
        start, end = (0.0, 10.0) if number == 12 else (2.5 * column, 2.5 * column + 2.5)
        x = trace.get_xdata()
        assert x[0] == pytest.approx(start * MM_PER_S)
        assert x[-1] == pytest.approx(min(end, 9.998) * MM_PER_S)
        at = round(start * FS)
        values = recording[at : at + len(x), STANDARD_LEADS.index(lead)]
        level = np.median(recording[:, STANDARD_LEADS.index(lead)])
        drawn = trace.get_ydata() - trace.get_ydata()[0]
        np.testing.assert_allclose(
            drawn, 10 * (values - level) - 10 * (values[0] - level), atol=1e-6
        )


def test_names_pulses_and_marks(recording, texts, named, legible):
    figure = draw_twelve_leads(recording, FS, STANDARD_LEADS, title="E00001 · NSR")
    shown = texts(figure)
    assert "E00001 · NSR" in shown
    assert "25 mm/s   10 mm/mV" in shown
    assert [shown.count(lead) for lead in STANDARD_LEADS] == [1, 2, *[1] * 10]
    assert len(named(figure, "pulse")) == 4
    assert len(named(figure, "column")) == 9
    assert [f"{second} s" in shown for second in range(11)] == [True] * 11
    legible(figure)


def test_one_mm_of_paper_is_one_mm_in_print(recording):
    figure = draw_twelve_leads(recording, FS, STANDARD_LEADS)
    (axes,) = figure.axes
    width, height = figure.get_size_inches() * 25.4
    box = axes.get_position()
    assert box.width * width == pytest.approx(np.ptp(axes.get_xlim()))
    assert box.height * height == pytest.approx(np.ptp(axes.get_ylim()))


def test_leads_in_any_order_and_case(named):
    names = [lead.upper() for lead in reversed(STANDARD_LEADS)]
    turned = draw_twelve_leads(steps()[:, ::-1], FS, names)
    straight = draw_twelve_leads(steps(), FS, STANDARD_LEADS)
    for one, other in zip(named(turned, "trace"), named(straight, "trace"), strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
    assert has_twelve_leads(names)
    assert not has_twelve_leads(STANDARD_LEADS[:11])
    assert not has_twelve_leads([*STANDARD_LEADS, "v1"])


def test_further_leads_are_not_drawn(named):
    signal = np.concatenate([steps(), steps()[:, :1]], axis=1)
    assert len(named(draw_twelve_leads(signal, FS, [*STANDARD_LEADS, "V7"]), "trace")) == 13


def test_a_short_recording_has_narrower_columns(named):
    figure = draw_twelve_leads(steps(6.0), FS, STANDARD_LEADS)
    starts = [trace.get_xdata()[0] / MM_PER_S for trace in named(figure, "trace")[:4]]
    assert starts == pytest.approx([0.0, 1.5, 3.0, 4.5], abs=0.003)


def test_what_is_not_drawn_is_said(texts):
    signal = steps(14.0)
    signal[100:200, 3] = np.nan
    signal[3000, 7] = 9.0
    shown = texts(draw_twelve_leads(signal, FS, STANDARD_LEADS, start_s=20.0))
    (note,) = (text for text in shown if "are drawn" in text)
    assert note == ("20 to 30 s are drawn; 4.0 s follow; ▲▼ cut off at 5 mV from the baseline")
    assert "20 s" in shown
    assert "30 s" in shown
    signal[1300:1400, 3] = np.nan
    shown = texts(draw_twelve_leads(signal[:5000], FS, STANDARD_LEADS))
    assert "▲▼ cut off at 5 mV from the baseline; blank, where there is no signal" in shown


@pytest.mark.parametrize(
    ("signal", "leads", "message"),
    [
        (np.zeros((100, 2)), ["I", "II"], "a twelve-lead page needs each of I, aVR"),
        (np.zeros((100, 3)), STANDARD_LEADS, r"given are \(100, 3\) and 500.0 Hz"),
        (np.zeros((0, 12)), STANDARD_LEADS, r"given are \(0, 12\)"),
    ],
)
def test_what_can_not_be_drawn(signal, leads, message):
    with pytest.raises(RecordError, match=message):
        draw_twelve_leads(signal, FS, leads)
