"""Several labels of one record, spelled as one: ``AF,RBBB``.

A comma stands between them, as in the ``#Dx`` lines of WFDB headers, whoever reads or writes them:
label files, corpora, pipelines and tables of predictions. The empty text is a record that has none
of the labels in question.
"""

from __future__ import annotations

from collections.abc import Iterable

SEPARATOR = ","


def split_label(label: str) -> tuple[str, ...]:
    """Return the labels that a record has, in their order; ``("",)`` where it has none.

    Examples
    --------
    >>> split_label("AF,RBBB")
    ('AF', 'RBBB')
    """
    return tuple(part.strip() for part in label.split(SEPARATOR))


def join_labels(labels: Iterable[str]) -> str:
    """Spell some labels as one: each once, sorted, whatever order they came in.

    Examples
    --------
    >>> join_labels(["RBBB", "AF", ""])
    'AF,RBBB'
    """
    return SEPARATOR.join(sorted({label for label in labels if label}))
