"""Print text that may hold names which other people have given: it moves no cursor, and fits."""

from __future__ import annotations

import hashlib
import sys
from typing import TextIO


def printable(text: str) -> str:
    r"""Return a text with everything but newlines and tabs visible.

    Labels, leads, aliases, names of files and runs, and what a store says are other people's: an
    escape sequence among them could overwrite lines of a terminal, an override of the direction
    of writing hide a part of them.

    Examples
    --------
    >>> printable("AF\x1b[2K")
    'AF\\x1b[2K'
    """
    return "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)


def shortened(text: str, limit: int = 120) -> str:
    """Cut a long text; it ends in a hash then, so that those that differ look different."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 15]} ... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def say(*texts: object, end: str = "\n", file: TextIO | None = None) -> None:
    """Print texts, each in a line of its own, as `printable`; to the standard output by default."""
    whole = printable("\n".join(map(str, texts)))
    print(whole, end=end, file=file or sys.stdout, flush=bool(not end))
