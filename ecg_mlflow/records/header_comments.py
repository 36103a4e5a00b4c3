"""Read diagnoses, age and sex from a WFDB header's comments: ``#Dx: 164889003,59118001``.

The format is that of CinC 2020 and 2021 (https://physionet.org/content/challenge-2021/1.0.3/),
with or without a blank after ``#``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

_DIAGNOSES = "dx"
#: Comments that describe groups of records, with the names of their columns.
_GROUPS = {"age": "Age", "sex": "Sex"}
_UNKNOWN = frozenset({"", "unknown", "nan", "n/a", "none"})


def read_comments(path: Path) -> tuple[str, ...]:
    """Return a header's comments without their ``#``; none if it can't be read.

    Reading the record reports what is wrong with such a header.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return ()
    lines = (line.strip() for line in data.decode("utf-8", errors="replace").splitlines())
    return tuple(line.strip(" \t#") for line in lines if line.startswith("#"))


def diagnoses(comments: Iterable[str]) -> str | None:
    """Return a record's diagnoses joined by commas, each once, in the order given; or None."""
    given = _fields(comments).get(_DIAGNOSES, "").split(",")
    known = dict.fromkeys(one.strip() for one in given if one.strip().casefold() not in _UNKNOWN)
    return ",".join(known) or None


def have_diagnoses(headers: Iterable[Path]) -> bool:
    """Return whether any header names diagnoses; the first that does ends the search."""
    return any(diagnoses(read_comments(path)) for path in headers if path.suffix == ".hea")


def read_header_groups(headers: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Read age and sex, for metrics by groups of records.

    Returns
    -------
    The values by record for ``Age`` and ``Sex``, in the form of `labels.read_groups`; missing and
    unknown values are left out.
    """
    found: dict[str, dict[str, str]] = {}
    for path in headers:
        fields = _fields(read_comments(path))
        for name, column in _GROUPS.items():
            value = fields.get(name, "")
            if value.casefold() not in _UNKNOWN:
                found.setdefault(column, {})[path.stem] = value
    return found


def labels_digest(labels: Mapping[str, str]) -> str:
    """Return the hex SHA-256 of the lines ``record<tab>label``, sorted by record name."""
    lines = (f"{record}\t{label}\n" for record, label in sorted(labels.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fields(comments: Iterable[str]) -> dict[str, str]:
    """Read ``name: value`` comments; if a name occurs twice, the first one counts."""
    fields: dict[str, str] = {}
    for comment in comments:
        name, colon, value = comment.partition(":")
        if colon:
            fields.setdefault(name.strip().casefold(), value.strip())
    return fields
