"""Split and join the labels of a record that has several: ``AF,RBBB``.

Label files, corpora, pipelines and tables of predictions separate them by a comma, as the ``#Dx``
lines of WFDB headers do. The empty string means a record without any of the labels.
"""

from __future__ import annotations

from collections.abc import Iterable

SEPARATOR = ","


def split_label(label: str) -> tuple[str, ...]:
    """Return a record's labels in their order; ``("",)`` if it has none.

    Examples
    --------
    >>> split_label("AF,RBBB")
    ('AF', 'RBBB')
    """
    return tuple(part.strip() for part in label.split(SEPARATOR))


def join_labels(labels: Iterable[str]) -> str:
    """Join labels into one string, each once and sorted.

    Examples
    --------
    >>> join_labels(["RBBB", "AF", ""])
    'AF,RBBB'
    """
    return SEPARATOR.join(sorted({label for label in labels if label}))
