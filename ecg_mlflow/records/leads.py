"""Find leads by name, and tell a recording's ECG leads from its other channels."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ecg_mlflow.errors import RecordError

_MICRO = ("u", "\u00b5", "\u03bc", "\u00e2\u00b5", "\u00ee\u00bc", "\u00e6")
#: Units per mV by name in lower case. A micro sign may have come through another encoding: UTF-8
#: read as Latin-1 gives two characters, the code page of DOS another one.
_PER_MILLIVOLT = {"mv": 1.0, "nv": 1e6, "v": 1e-3, **{f"{micro}v": 1e3 for micro in _MICRO}}

#: Names of leads; ``X``, ``Y`` and ``Z`` alone may be anything.
_LEADS = (
    *("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"),
    *("V3R", "V4R", "V7", "V8", "V9", "MLI", "MLII", "MLIII", "X", "Y", "Z"),
)
_BY_NAME = {name.casefold(): name for name in _LEADS}
_PREFIX = re.compile(r"^(?:(?:ecg|ekg)[\s_:.\-]*)?(?:lead[\s_:.\-]*)?", re.IGNORECASE)
_IS_ECG = re.compile(r"(?<![a-z])(?:ecg|ekg)[lr]?(?![a-z])", re.IGNORECASE)
#: What recorders put around a label: the kind of electrode before it, the reference after it.
_AROUND = re.compile(r"^(?:eeg|pol)\s+|[\s\-]+ref$", re.IGNORECASE)
#: Words by which channels that may be voltages say that they are no ECG.
_OTHER = {
    *("abp", "accel", "acc", "airflow", "ao", "aortic", "art", "bcg", "bp", "co2", "cvp", "eda"),
    *("eeg", "egg", "emg", "eog", "etco2", "event", "fap", "flow", "gsr", "hr", "icp", "imp"),
    *("lap", "light", "mark", "marker", "nasal", "o2", "pap", "pcg", "pleth", "position", "ppg"),
    *("press", "pressure", "pulse", "rap", "resp", "respiration", "sao2", "scg", "snore"),
    *("sound", "spo2", "status", "stim", "temp", "trigger", "uap", "uvp"),
}


@dataclass(frozen=True)
class Channel:
    """One channel of a recording: its name, the unit of its samples, and its frequency in Hz."""

    name: str
    unit: str
    fs: float

    def __str__(self) -> str:
        return f"{self.name} ({self.unit or 'no unit'}, {self.fs:g} Hz)"


def other_channels(channels: Sequence[Channel], chosen: Sequence[int]) -> tuple[str, ...]:
    """Return the channels that were not chosen, for `DigitalRecord.ignored`."""
    return tuple(str(channels[i]) for i in sorted({*range(len(channels))} - {*chosen}))


def units_per_millivolt(lead: str, unit: str) -> float:
    """Return how many of a lead's physical units are 1 mV.

    Raises
    ------
    RecordError
        If the unit is not a voltage.
    """
    try:
        return _PER_MILLIVOLT[unit.lower()]
    except KeyError:
        raise RecordError(
            f"unit is not a voltage: lead {lead!r} is in {unit!r}; allowed are V, mV, uV, nV"
        ) from None


def lead_name(label: str) -> str:
    """Return the lead that a signal's label names, ``II`` for ``ECG Lead II``, else the label.

    Examples
    --------
    >>> lead_name("EKG aVR"), lead_name("ECG"), lead_name("Resp")
    ('aVR', 'ECG', 'Resp')
    """
    label = label.strip()
    return _BY_NAME.get(_PREFIX.sub("", label).casefold(), label)


@functools.lru_cache(maxsize=1000)
def lead_key(name: str) -> str:
    """Return what all spellings of a lead have in common; leads are found by it.

    Examples
    --------
    >>> lead_key("AVR") == lead_key("aVR") == lead_key("ECG lead avr")
    True
    >>> lead_key("EEG EKG-Ref"), lead_key("POL ECG"), lead_key("EKG1"), lead_key("MLII")
    ('ecg', 'ecg', 'ecg1', 'mlii')
    """
    name = name.strip()
    if _IS_ECG.search(name):
        name = _AROUND.sub("", name)
    return re.sub(r"\bekg", "ecg", lead_name(name).casefold())


def lead_positions(name: str, leads: Sequence[str]) -> list[int]:
    """Return where a lead is among a record's, by any spelling of its name."""
    key = lead_key(name)
    return [i for i, lead in enumerate(leads) if lead_key(lead) == key]


def choose_channels(
    channels: Sequence[Channel], wanted: Sequence[str] = (), *, named_only: bool
) -> list[int]:
    """Return the positions of a recording's ECG leads, or of the wanted ones, in their order.

    An ECG lead is a voltage whose name isn't that of another signal, such as RESP or EEG; of
    leads without known names, the fastest.

    Parameters
    ----------
    channels
        All channels.
    wanted
        Names of leads, in any spelling; empty for all ECG leads.
    named_only
        Take channels with unknown names only if none is named as an ECG or one of its leads: in
        some formats, most channels are no ECG's.

    Raises
    ------
    RecordError
        If there is no ECG lead, a wanted one is missing or not a voltage, or they have different
        sampling frequencies.
    """
    if wanted:
        return _wanted(channels, wanted)
    volts = [i for i, one in enumerate(channels) if one.unit.lower() in _PER_MILLIVOLT]
    if not volts and channels:
        units_per_millivolt(channels[0].name, channels[0].unit)
    named = {i: channels[i].fs for i in volts if _is_named_ecg(channels[i].name)}
    taken = [i for i in volts if i in named or not _is_named_otherwise(channels[i].name)]
    if not taken:
        raise RecordError(
            f"no ECG: its channels are {', '.join(one.name for one in channels)}; name those that "
            "are ECG leads with leads="
        )
    rates = sorted({*named.values()})
    _check_rates(rates)
    fs = rates[0] if rates else max(channels[i].fs for i in taken)
    return [*named] if named and named_only else [i for i in taken if channels[i].fs == fs]


def _wanted(channels: Sequence[Channel], wanted: Sequence[str]) -> list[int]:
    names = [one.name for one in channels]
    found = {lead: lead_positions(lead, names) for lead in wanted}
    if missing := [lead for lead, places in found.items() if not places]:
        raise RecordError(f"no lead {', '.join(missing)}: it has {', '.join(names)}")
    if twice := [lead for lead, places in found.items() if len(places) > 1]:
        raise RecordError(f"several leads are called {twice[0]!r}: {', '.join(names)}")
    positions = [places[0] for places in found.values()]
    for i in positions:
        units_per_millivolt(names[i], channels[i].unit)
    _check_rates(sorted({channels[i].fs for i in positions}))
    return positions


def _check_rates(rates: Sequence[float]) -> None:
    if len(rates) > 1:
        frequencies = ", ".join(f"{rate:g} Hz" for rate in rates)
        raise RecordError(
            f"leads of different sampling frequencies: {frequencies}; choose with leads="
        )


@functools.lru_cache(maxsize=1000)
def _is_named_ecg(label: str) -> bool:
    return bool(_IS_ECG.search(label)) or lead_name(label) in _LEADS[:-3]


@functools.lru_cache(maxsize=1000)
def _is_named_otherwise(label: str) -> bool:
    words = re.findall(r"[a-z][a-z0-9]*", label.casefold())
    return not _OTHER.isdisjoint({*words, *(word.rstrip("0123456789") for word in words)})
