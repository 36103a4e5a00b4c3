"""Write the list of data sets with names, and what one is: as text, and for the documentation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.named_sets import DataSet, data_sets
from ecg_mlflow.reports.text_tables import aligned

#: Characters with a meaning in reStructuredText, and what they are replaced by.
_MARKUP, _ESCAPED = re.compile(r"[\\*`_|]"), r"\\\g<0>"
_READ = ("wfdb", "edf")
_COLUMNS = ("name", "records", "patients", "GB", "access", "licence", "signals")


def data_sets_table() -> str:
    """Return a table of all data sets."""
    rows = [
        (
            one.name,
            _first(one.records),
            _first(one.patients),
            f"{one.gigabytes:.1f}" if one.gigabytes else "—",
            one.access,
            one.license,
            one.signals,
        )
        for one in data_sets().values()
    ]
    return "\n".join(aligned([_COLUMNS, *rows]))


def data_set_text(name: str) -> str:
    """Describe a data set in lines of text.

    Raises
    ------
    DataNotFoundError
        If no data set has this name.
    """
    known = data_sets()
    if name not in known:
        alike = difflib.get_close_matches(name, known) or ["ptbxl", "cinc2021", "afdb"]
        raise DataNotFoundError(
            f"no data set is called {name!r}; there are {', '.join(alike)} and others, which "
            "`ecg-mlflow datasets` lists"
        )
    one = known[name]
    facts = list(_facts(one))
    width = max(len(what) for what, _ in facts) + 2
    return "\n".join([one.title, *(f"{what + ':':{width}}{value}" for what, value in facts)])


def data_sets_page() -> str:
    """Return the sections of the documentation, in reStructuredText: one for each data set."""
    lines = []
    for one in data_sets().values():
        lines += [one.name, "-" * len(one.name), "", _MARKUP.sub(_ESCAPED, one.title), ""]
        for what, value in _facts(one):
            lines.append(f"- {what}: {value if what == 'page' else _MARKUP.sub(_ESCAPED, value)}")
        lines.append("")
    return "\n".join(lines)


def _facts(one: DataSet) -> Iterator[tuple[str, str]]:
    yield "signals", one.signals
    yield "records", one.records
    yield "patients", one.patients
    if one.gigabytes:
        yield "size", f"about {one.gigabytes:.1f} GB" if one.gigabytes >= 0.1 else "below 0.1 GB"
    yield "access", f"{one.access}; {'downloaded by its name' if one.files else 'by hand'}"
    if one.form not in _READ:
        yield "read", f"not by its name: {one.form or 'no signals that are described'}"
    yield "licence", one.license or "not stated"
    yield "page", one.page
    if one.citation:
        yield "cite", one.citation
    for word, meaning in one.choices.items():
        yield f"{one.name}:{word}", meaning
    if fold := one.fold:
        parts = f"validation {', '.join(fold.validation)}, test {', '.join(fold.test)}"
        yield "official split", f"column {fold.column}: {parts}, all others train"
    for other, how in one.shares.items():
        yield "overlap", how.format(other)


def _first(count: str) -> str:
    """Return a number without the remark behind it."""
    return count.partition(" ")[0]
