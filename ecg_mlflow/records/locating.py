"""Find the recordings in a folder, or those that a glob matches."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.formats import FORMATS, format_of


@dataclass(frozen=True)
class Found:
    """The headers that a search found.

    Attributes
    ----------
    headers
        Absolute paths of the ``.hea`` and ``.edf`` files, sorted by record name, then by path.
    root
        The folder that the user gave, or the part of the glob before its first wildcard.
    note
        A note for the user about the search, or None.
    """

    headers: tuple[Path, ...]
    root: Path
    note: str | None = None


def find_headers(data: str | Path) -> Found:
    """Find the records that a folder or a glob names.

    A folder means the headers and EDF files in it or, if it has none, those one level below. A glob
    (``**`` included) means those that it matches. An EDF file beside a header of the same name is
    the same recording in another format, and is ignored.

    Parameters
    ----------
    data
        A folder, or a glob such as ``data/*/A*.hea``; ``~`` is the home folder.

    Raises
    ------
    DataNotFoundError
        If the folder doesn't exist, or no header is found.
    """
    asked = os.path.abspath(os.path.expanduser(data))
    root, note = Path(asked), None
    if glob.has_magic(asked) and not root.is_dir():
        matches = [Path(match) for match in glob.glob(asked, recursive=True)]
        found = _recordings(matches)
        fault = (
            f"the glob {asked} matches {len(matches)} files, none of them a header; write a "
            "pattern for .hea or .edf files, such as 'folder/A*.hea'."
        )
        fixed = next(i for i, part in enumerate(root.parts) if glob.has_magic(part))
        root = Path(*root.parts[:fixed])
    elif not root.is_dir():
        what = "is a file" if root.exists() else "doesn't exist"
        raise DataNotFoundError(
            f"{asked} {what}. Give a folder of WFDB records or EDF files, a glob such as "
            "'folder/*.hea', 'demo', 'demo12' or 'cinc2017'."
        )
    else:
        found = _recordings(root / name for name in os.listdir(root))
        if not found:
            found = _recordings(root.glob("*/*"))
            folders = sorted({path.parent.name for path in found})
            note = f"no header in {root} itself: took {len(found)} from {', '.join(folders)} below"
            note += " it"
        fault = (
            f"no WFDB header (*.hea) or EDF file (*.edf) in {root}, nor one level below. Give "
            "the folder of the records, or a glob such as 'folder/**/*.hea'."
        )
    if not found:
        raise DataNotFoundError(fault)
    by_name: dict[Path, Path] = {}
    for path in sorted(found, key=lambda path: [*FORMATS].index(path.suffix.lower())):
        by_name.setdefault(path.with_suffix(""), path)
    if ignored := len(found) - len(by_name):
        more = f"ignored {ignored} EDF files beside headers of the same name"
        note = more if note is None else f"{note}; {more}"
    headers = sorted(by_name.values(), key=lambda path: (path.stem, str(path)))
    return Found(tuple(headers), root, note)


def _recordings(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if format_of(path)]
