"""Find the recordings that a user names: demo corpora, published archives, folders and globs."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ecg_mlflow.errors import DataNotFoundError, few
from ecg_mlflow.files import cache_root, is_special, locked, write_whole
from ecg_mlflow.records.formats import FORMATS, format_of
from ecg_mlflow.records.named_sets import HEADERS, Named, named, pattern_of, read_table
from ecg_mlflow.records.record import Progress

#: Default number of records of each synthetic corpus.
DEMO_RECORDS = {"demo": 400, "demo12": 200}
DEMO_SEED = 0
_WHAT = {"demo": "made-up records", "demo12": "made-up records of 12 leads"}
#: Files that a note names.
SHOWN = 5


@dataclass(frozen=True)
class Archive:
    """A published data set: a zip of records, with a label file and a list of checksums beside it.

    Attributes
    ----------
    title
        What people call it.
    url
        Address of the zip.
    labels
        Name of the label file beside the zip, which goes before the zip's own.
    """

    title: str
    url: str
    labels: str


#: The CinC Challenge of 2017: 8,528 single-lead recordings of 9 to 61 s at 300 Hz; open access.
#: Cite Clifford et al., "AF classification from a short single lead ECG recording", CinC 2017,
#: doi:10.22489/CinC.2017.065-469, and Goldberger et al., Circulation 101(23), 2000. The labels were
#: revised after the zip was made; the third version is published beside it.
ARCHIVES = {
    "cinc2017": Archive(
        title="PhysioNet/CinC Challenge 2017",
        url="https://physionet.org/files/challenge-2017/1.0.0/training2017.zip",
        labels="REFERENCE-v3.csv",
    ),
}


@dataclass(frozen=True)
class Found:
    """The headers that a search found.

    Attributes
    ----------
    headers
        Absolute paths of the ``.hea`` and ``.edf`` files, sorted by record name, then by path.
    root
        The folder that the user gave, or the part of the glob before its first wildcard.
    source
        What was searched, in words: the path, or the name of the data and what it is.
    note
        A note for the user about the search, or None.
    labels
        Where the labels of a data set with a name are: a file, ``headers``, or None to search.
    """

    headers: tuple[Path, ...]
    root: Path
    source: str
    note: str | None = None
    labels: str | None = None


def find_records(data: str, on_progress: Progress | None = None) -> Found:
    """Bring data that has a name to this machine, and find its records, or those of a path.

    Raises
    ------
    DataNotFoundError
        If the name of synthetic records can't be read, or there are no records.
    DownloadError
        If a data set can't be fetched.
    """
    if data in ARCHIVES:
        # Imported here, because data from files needs no HTTP client.
        from ecg_mlflow.records import download

        folder = download.fetch_archive(data, ARCHIVES[data], cache_root(), on_progress)
        return replace(find_headers(folder), source=f"{data}: {ARCHIVES[data].title}")
    if is_demo(data):
        return _make_demo(data)
    asked = named(data)
    return find_headers(data) if asked is None else _find_named(asked, on_progress)


def _find_named(asked: Named, on_progress: Progress | None) -> Found:
    """Find the records of a data set in a copy on this machine, else download it."""
    if asked.folder is None:
        from ecg_mlflow.records import download

        folder = download.fetch_data_set(asked, cache_root(), on_progress)
    else:
        folder = absolute(asked.folder)
        asked = replace(asked, folder=str(folder))
    found = find_headers(pattern_of(asked, folder))
    source = f"{asked}: {asked.data_set.title.replace(': ', ', ')}"
    table = read_table(asked, folder)
    if table is None:
        return replace(found, source=source, labels=str(asked.data_set.labels) or None)
    names = set(table["record"])
    headers = tuple(path for path in found.headers if path.stem in names)
    if not headers:
        raise DataNotFoundError(
            f"data={asked}: none of the {len(names)} records with a label is in {folder}, such as "
            f"{table['record'][0]}.hea"
        )
    notes = [found.note] if found.note else []
    others = [path for path in found.headers if path.stem not in names]
    if unlabelled := sum(asked.needs(path.relative_to(folder).as_posix()) for path in others):
        notes.append(f"left out {unlabelled} records that have no label of this kind")
    if absent := len(names) - len({path.stem for path in headers}):
        notes.append(f"{absent} of {len(names)} records with a label are not in {folder}")
    # The table in this package's own form, which is read as any other label file.
    labels = cache_root() / "labels" / f"{hashlib.sha256(str(asked).encode()).hexdigest()}.csv"
    content = table.to_csv(index=False).encode()
    with locked(labels):
        # An unchanged file keeps its time, so that the packed corpus is found.
        if not labels.exists() or labels.read_bytes() != content:
            write_whole(labels, content)
    return replace(
        found, headers=headers, source=source, note="; ".join(notes) or None, labels=str(labels)
    )


def find_headers(data: str | Path) -> Found:
    """Find the records that a folder or a glob names.

    A folder means the headers and EDF files in it or, if it has none, those one level below. A glob
    (``**`` included) means those that it matches. NumPy, HDF5 and MATLAB files are recordings where
    there are no others. An EDF file beside a header of the same name is
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
    root, notes = Path(asked), list[str]()
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
            "'folder/*.hea', 'demo', 'demo12', or the name of a data set, such as 'cinc2017' or "
            "'ptbxl@folder'; `ecg-mlflow datasets` lists them."
        )
    else:
        found, below = _recordings(root / name for name in os.listdir(root)), "*/*"
        if not found:
            found, below = _recordings(root.glob("*/*")), "*/*/**/*"
            folders = sorted({path.parent.name for path in found})
            took = f"took {len(found)} from {', '.join(folders)} below it"
            notes.append(f"no header in {root} itself: {took}")
        if found and (deeper := _recordings(root.glob(below))):
            places = few(sorted({str(path.parent.relative_to(root)) for path in deeper}))
            notes.append(f"passed over {len(deeper)} recordings in deeper folders: {places}")
        fault = (
            f"no WFDB header (*.hea) or EDF file (*.edf) in {root}, nor one level below, nor any "
            "*.bdf, *.npz, *.h5, *.mat. Give the folder of the records, or a glob such as "
            "'folder/**/*.hea'."
        )
    if special := {path for path in found if is_special(path)}:
        names = sorted(path.name for path in special)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        notes.append(f"passed over {', '.join(names[:SHOWN])}{more}: no regular files")
        found = [path for path in found if path not in special]
    if not found:
        raise DataNotFoundError(fault)
    by_name: dict[Path, Path] = {}
    for path in sorted(found, key=lambda path: [*FORMATS].index(path.suffix.lower())):
        by_name.setdefault(path.with_suffix(""), path)
    if ignored := len(found) - len(by_name):
        notes.append(f"ignored {ignored} EDF files beside headers of the same name")
    headers = sorted(by_name.values(), key=lambda path: (path.stem, str(path)))
    return Found(tuple(headers), root, str(absolute(data)), "; ".join(notes) or None)


def _recordings(paths: Iterable[Path]) -> list[Path]:
    found = [(path, form) for path in paths if (form := format_of(path))]
    sure = [path for path, form in found if not form.general]
    return sure or [path for path, _ in found]


def _make_demo(data: str) -> Found:
    """Write synthetic records into the cache, once."""
    from ecg_mlflow.records import synthetic

    asked = re.fullmatch(r"(\w+)(?::(\d+)(?::(\d+))?)?", data)
    if asked is None:
        raise DataNotFoundError(
            f"data={data!r}: the demo corpora are written demo, demo:<records> or "
            "demo:<records>:<seed>, such as demo:100:7; likewise demo12."
        )
    name = asked[1]
    n_records, seed = int(asked[2] or DEMO_RECORDS[name]), int(asked[3] or DEMO_SEED)
    # Another version of the generator makes other records.
    code = b"".join(file.read_bytes() for file in sorted(Path(synthetic.__path__[0]).glob("*.py")))
    digest = hashlib.sha256(code).hexdigest()[:12]
    folder = cache_root() / name / f"{n_records}-{seed}-{digest}"
    with locked(folder):
        if not folder.exists():
            synthetic.write_demo(folder, n_records, seed, kind=name)
    source = f"{name}: {n_records} {_WHAT[name]}, seed {seed}"
    return replace(find_headers(folder), source=source)


def is_demo(data: str) -> bool:
    """Return whether the recordings are synthetic: ``demo``, ``demo12``, or these with a number."""
    return data.partition(":")[0] in DEMO_RECORDS


def asked_for(source: str) -> str:
    """Return the ``data=`` that loads the recordings of a corpus again.

    Parameters
    ----------
    source
        `ecg_mlflow.records.Corpus.source`: a path, or words that begin with the name of the data.
    """
    if made := re.match(r"(demo|demo12): (\d+) made-up records.*, seed (\d+)", source):
        return ":".join(made.groups())
    name = source.rpartition(": ")[0]
    return name if name in ARCHIVES or named(name) else source


def absolute(path: str | Path) -> Path:
    """Return an absolute path; ``~`` is the home folder."""
    return Path(path).expanduser().absolute()


def located(text: str, folders: Sequence[Path]) -> str:
    """Prefix a relative path or glob with the first folder where it exists; keep other words.

    What exists goes before the name of a data set, which takes a second or two to be looked up.
    """
    if text in (*ARCHIVES, HEADERS) or is_demo(text) or Path(text).is_absolute():
        return text
    for folder in folders:
        if any(folder.glob(text)) if set(text) & set("*?[") else (folder / text).exists():
            return str(folder / text)
    asked = named(text)
    if asked is None or asked.folder is None:
        return text
    return str(replace(asked, folder=located(asked.folder, folders)))
