"""Where the recordings are that a user calls ``demo``, ``cinc2017``, or a path."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.files import cache_root, locked

Progress = Callable[[int, int], None]

#: Records of each made-up corpus where no number is given.
DEMO_RECORDS = {"demo": 400, "demo12": 200}
DEMO_SEED = 0
#: As the place of labels: the diagnoses in the headers, even where there is a label file.
HEADERS = "headers"
_WHAT = {"demo": "made-up records", "demo12": "made-up records of 12 leads"}


def is_demo(data: str) -> bool:
    """Tell whether recordings are to be made up: ``demo``, ``demo12``, or these with a number."""
    return data.partition(":")[0] in DEMO_RECORDS


def demo_source(source: str) -> str | None:
    """Return what to ask for, to get the made-up records that a corpus says to be of; or None."""
    told = re.match(r"(demo|demo12): (\d+) made-up records.*, seed (\d+)", source)
    return None if told is None else ":".join(told.groups())


def asked_for(source: str) -> str:
    """Return what to ask for, to get the recordings that a corpus says to be of.

    Parameters
    ----------
    source
        `ecg_mlflow.records.Corpus.source`: a path, or words that begin with what was asked for.
    """
    return demo_source(source) or ("cinc2017" if source.startswith("cinc2017:") else source)


def locate(data: str, on_progress: Progress | None = None) -> tuple[str | Path, str]:
    """Make sure that the data is on this machine; return where, and what to call it.

    Raises
    ------
    DataNotFoundError
        If made-up records are asked for in a way that can't be read.
    DownloadError
        If the Challenge's data can't be fetched.
    """
    # Data from files needs neither the HTTP client nor scipy.signal, which these bring along.
    if data == "cinc2017":
        from ecg_mlflow.records.download import fetch_cinc2017

        folder = fetch_cinc2017(cache_root(), on_progress=on_progress)
        return folder, "cinc2017: PhysioNet/CinC Challenge 2017"
    if not is_demo(data):
        return data, str(absolute(data))
    asked = re.fullmatch(r"(\w+)(?::(\d+)(?::(\d+))?)?", data)
    if asked is None:
        raise DataNotFoundError(
            f"data={data!r}: the demo corpora are written demo, demo:<records> or "
            "demo:<records>:<seed>, such as demo:100:7; likewise demo12."
        )
    name = asked[1]
    return _make(name, int(asked[2] or DEMO_RECORDS[name]), int(asked[3] or DEMO_SEED))


def absolute(path: str | Path) -> Path:
    """Return an absolute path; ``~`` is the home folder."""
    return Path(path).expanduser().absolute()


def _make(name: str, n_records: int, seed: int) -> tuple[Path, str]:
    from ecg_mlflow.records import demo, demo12

    module = demo if name == "demo" else demo12
    folder = cache_root() / name / f"{n_records}-{seed}-{_code_digest(module)}"
    with locked(folder):
        if not folder.exists():
            if name == "demo":
                demo.write_demo(folder, n_records, seed)
            else:
                demo12.write_demo12(folder, n_records, seed)
    return folder, f"{name}: {n_records} {_WHAT[name]}, seed {seed}"


def _code_digest(module: ModuleType) -> str:
    """Digest of the generator's code: another generator makes other records."""
    assert module.__file__ is not None
    file = Path(module.__file__)
    code = [file, *sorted((file.parent / "synthetic").glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest()[:12]


def located(text: str, folders: Sequence[Path]) -> str:
    """Make a relative path, or glob, start where it leads to something; keep other words."""
    if text in ("cinc2017", HEADERS) or is_demo(text) or Path(text).is_absolute():
        return text
    for folder in folders:
        if any(folder.glob(text)) if set(text) & set("*?[") else (folder / text).exists():
            return str(folder / text)
    return text
