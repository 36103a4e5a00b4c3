"""Which signals of an EDF file are ECG leads, and what the leads are called.

EDF+ asks for labels such as ``ECG V1`` (https://www.edfplus.info/specs/edftexts.html); recorders
write ``EKG``, ``ECG Lead II``, ``LEAD II`` or ``ii`` as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Names that leads have in WFDB files too.
_LEADS = (
    *("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"),
    *("V3R", "V4R", "V7", "V8", "V9", "MLI", "MLII", "MLIII", "X", "Y", "Z"),
)
_BY_NAME = {name.casefold(): name for name in _LEADS}
#: ``X`` may be anything where no word says that it is an ECG.
_CLEAR = frozenset(name.casefold() for name in _LEADS if name not in "XYZ")
_PREFIX = re.compile(r"^(?:(?:ecg|ekg)[\s_:.\-]*)?(?:lead[\s_:.\-]*)?", re.IGNORECASE)
_IS_ECG = re.compile(r"^(?:ecg|ekg)(?![a-z])", re.IGNORECASE)


def lead_name(label: str) -> str:
    """Return the lead that a signal's label names: ``ECG Lead II`` is ``II``, others stay.

    Examples
    --------
    >>> lead_name("EKG aVR"), lead_name("ECG"), lead_name("Resp")
    ('aVR', 'ECG', 'Resp')
    """
    label = label.strip()
    return _BY_NAME.get(_PREFIX.sub("", label).casefold(), label)


def is_ecg(label: str) -> bool:
    """Tell whether a label says that its signal is an ECG: by that word, or a lead's name."""
    label = label.strip()
    return bool(_IS_ECG.match(label)) or _PREFIX.sub("", label).casefold() in _CLEAR


def ecg_signals(labels: Sequence[str]) -> list[int]:
    """Return the positions of the ECG leads among signals; all of them, where none is marked."""
    marked = [position for position, label in enumerate(labels) if is_ecg(label)]
    return marked or list(range(len(labels)))
