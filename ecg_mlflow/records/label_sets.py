"""Split, count and join the labels of records that have several: ``AF,RBBB``.

Label files, corpora, pipelines and tables of predictions separate them by a comma, as the ``#Dx``
lines of WFDB headers do. The empty string means a record without any of the labels.
"""

from __future__ import annotations

from collections import Counter
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


def count_labels(labels: Iterable[str]) -> Counter[str]:
    """Count each label over records; a record of several counts for each of them.

    Examples
    --------
    >>> count_labels(["AF,RBBB", "AF", ""])
    Counter({'AF': 2, 'RBBB': 1, '': 1})
    """
    return Counter(one for label in labels for one in split_label(label))


def join_labels(labels: Iterable[str]) -> str:
    """Join labels into one string, each once and sorted.

    Examples
    --------
    >>> join_labels(["RBBB", "AF", ""])
    'AF,RBBB'
    """
    return SEPARATOR.join(sorted({label for label in labels if label}))
