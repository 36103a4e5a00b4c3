from __future__ import annotations

import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.leads import Channel, choose_channels, lead_key, lead_name, lead_positions


def chosen(*names, wanted=(), named_only=False, **of):
    """Choose among channels in mV at 500 Hz, unless `of` has another unit or frequency by name."""
    units = {name: value for name, value in of.items() if isinstance(value, str)}
    channels = [
        Channel(name, units.get(name, "mV"), of.get(name, 500) if name not in units else 500)
        for name in names
    ]
    return [names[i] for i in choose_channels(channels, wanted, named_only=named_only)]


@pytest.mark.parametrize(
    "label",
    [
        *("ECG I=I", "EKG1=EKG1", "ECG=ECG", "ECG Lead II=II", "LEAD III=III", "ecg avl=aVL"),
        *("EKG-V3=V3", "ECG_V1=V1", "v6=V6", "ECG Z=Z", "ECG chest=ECG chest", "ECGL=ECGL"),
        *("EEG EKG-Ref=EEG EKG-Ref", "POL ECG=POL ECG", "X", "leader", "C3-A2", "ecgonine"),
    ],
)
def test_names_of_leads(label):
    label, is_ecg, name = label.partition("=")
    assert lead_name(label) == (name or label)
    assert chosen("other", label, "ECG", named_only=True) == ([label] if is_ecg else []) + ["ECG"]


@pytest.mark.parametrize(
    "spellings",
    [
        ("aVR", "AVR", "avr", " ECG aVR", "Lead aVR"),
        ("MLII", "mlii"),
        ("ECG", "EKG", "EEG EKG-Ref", "POL ECG", "ecg"),
        ("ECG1", "EKG1"),
        ("V1", "v1", "ECG_V1"),
    ],
)
def test_spellings_of_one_lead(spellings):
    assert len({lead_key(name) for name in spellings}) == 1
    for name in spellings:
        assert lead_positions(name, ("II", spellings[0])) == [1]


def test_leads_that_are_not_the_same():
    names = ("I", "II", "MLII", "aVR", "V1", "ECG", "ECG1", "ECG2", "X", "EEG C3")
    assert len({lead_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("names", "other", "expected"),
    [
        (("II", "V", "PLETH"), {"PLETH": "NU"}, ("II", "V")),
        (("II", "RESP", "ABP", "foot GSR", "EMG1"), {}, ("II",)),
        (("ECG", "EEG (C4-A1)", "EOG"), {}, ("ECG",)),
        (("MLII", "D3", "CM5"), {}, ("MLII", "D3", "CM5")),
        (("X", "Y", "slow"), {"slow": 250}, ("X", "Y")),
        (("II", "slow", "fast"), {"slow": 250, "fast": 1000}, ("II",)),
        (("II", "V"), {"V": "mmHg"}, ("II",)),
        (("lead 1",), {}, ("lead 1",)),
        (("ECG",), {"ECG": "\u00b5V"}, ("ECG",)),
    ],
)
def test_which_channels_are_ecg_leads(names, other, expected):
    assert chosen(*names, **other) == list(expected)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("PLETH",), {"PLETH": "NU"}, "unit is not a voltage: lead 'PLETH' is in 'NU'"),
        (("EEG C3", "RESP"), {}, "no ECG: its channels are EEG C3, RESP; name those"),
        (("I", "II"), {"II": 250}, "leads of different sampling frequencies: 250 Hz, 500 Hz"),
        (("I", "II"), {"wanted": ("V1", "ii", "V2")}, "no lead V1, V2: it has I, II"),
        (("I", "II"), {"wanted": ("II",), "II": "NU"}, "lead 'II' is in 'NU'"),
        (("I", "II"), {"wanted": ("I", "II"), "II": 250}, "different .*; choose with leads="),
        (("II", "II"), {"wanted": ("II",)}, "several leads are called 'II': II, II"),
        (("aVR", "AVR"), {"wanted": ("avr",)}, "several leads are called 'avr': aVR, AVR"),
    ],
)
def test_channels_that_are_refused(names, options, message):
    with pytest.raises(RecordError, match=message):
        chosen(*names, **options)


def test_wanted_leads_are_taken_in_their_order():
    assert chosen("I", "AVR", "EEG C3", wanted=("eeg c3", "avr")) == ["EEG C3", "AVR"]
    assert chosen("I", "II", wanted=("II",), I=250) == ["II"]
