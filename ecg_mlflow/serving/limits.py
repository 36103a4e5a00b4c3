"""Bounds on what a server of models reads from a request.

They hold while MLflow serves a model, not for a call in Python, nor for ``ecg-mlflow predict``.
They are checked before anything is decoded, so that a small request takes little memory and time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sized
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from ecg_mlflow.errors import ModelError, RecordError
from ecg_mlflow.records.wfdb_header import WfdbHeader

#: MLflow's scoring server sets it.
SERVING_VARIABLE = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"
#: What the variables that set a bound begin with: ``ECG_MLFLOW_SERVE_LEADS=12``.
PREFIX = "ECG_MLFLOW_SERVE_"
#: The folder from which recordings may be read by their paths.
FOLDER_VARIABLE = f"{PREFIX}FOLDER"

#: All bytes at which `str.splitlines` may end a line, of which some are parts of characters too.
_LINE_ENDS = (*b"\n\r\v\f\x1c\x1d\x1e\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")
#: Bytes of a decoded sample, of the formats that compress: a small file may hold a large signal.
_DECODED = {"508": 1, "516": 2, "524": 4}


@dataclass(frozen=True)
class Limits:
    """The most that a request, and one recording of it, may have.

    Attributes
    ----------
    rows
        Recordings of a request.
    size
        Bytes of its header, and of its signal file, decoded if it is compressed; of all files of a
        recording that is read by its path.
    samples
        Samples of a lead: by default those of 24 hours at 1 kHz. Those of a slow recording count
        at the frequency that it is resampled to.
    values
        Samples of all leads together.
    hours
        Its duration: a recording of few samples may be long, and is resampled.
    leads
        Leads.
    lines
        Lines of its header.
    per_frame, skew
        Samples of a lead in a frame; frames by which a lead is late.
    """

    rows: int = 1000
    size: int = 64 * 2**20
    samples: int = 24 * 3600 * 1000
    values: int = 24 * 3600 * 1000
    hours: int = 24
    leads: int = 64
    lines: int = 1000
    per_frame: int = 64
    skew: int = 1000

    @classmethod
    def from_environment(cls) -> Limits:
        """Return the bounds that the operator of the server has set.

        Raises
        ------
        ModelError
            If a variable is no positive whole number.
        """
        found = {}
        for field in fields(cls):
            name = f"{PREFIX}{field.name.upper()}"
            text = os.environ.get(name)
            if text is None:
                continue
            if not text.isascii() or not text.isdecimal() or int(text) < 1:
                raise ModelError(f"{name}={text!r} should be a positive whole number")
            found[field.name] = int(text)
        return cls(**found)

    def check(self, what: str, met: int, bound: str) -> None:
        """Refuse a recording that has more than a bound allows.

        Parameters
        ----------
        what, met
            What it has too many of, and how many.
        bound
            Name of the bound.

        Raises
        ------
        RecordError
            If that is too many.
        """
        most = getattr(self, bound)
        if met > most:
            raise RecordError(
                f"too large: {met} {what}; this server takes at most {most} "
                f"({PREFIX}{bound.upper()})"
            )

    def check_files(self, files: Iterable[Path]) -> None:
        """Refuse a recording by the sizes of its files, before one of them is read."""
        sizes = [path.stat().st_size for path in files if path.is_file()]
        self.check("bytes of files", sum(sizes), "size")

    def check_header(self, data: bytes) -> None:
        """Refuse a header by its size, before it is parsed."""
        self.check("bytes of a header", len(data), "size")
        self.check("lines in a header", sum(map(data.count, _LINE_ENDS)) + 1, "lines")

    def check_described(self, header: WfdbHeader) -> None:
        """Refuse a recording by its header, before its samples are decoded."""
        signals = header.signals
        self.check("leads", len(signals), "leads")
        per_frame = max(one.per_frame for one in signals)
        self.check("samples per frame", per_frame, "per_frame")
        skew = max(one.skew for one in signals)
        self.check("frames of skew", skew, "skew")
        # Decoded are as many frames more, of all signals.
        n_samples = ((header.n_frames or 0) + skew) * per_frame
        self.check_shape(n_samples, len(signals))
        width = max(_DECODED.get(one.fmt, 0) for one in signals)
        self.check("bytes in signal_file, decoded", n_samples * len(signals) * width, "size")

    def check_shape(self, n_samples: int, n_leads: int) -> None:
        """Refuse a recording by its number of samples and leads."""
        self.check("leads", n_leads, "leads")
        self.check("samples of a lead", n_samples, "samples")
        self.check("samples of all leads", n_samples * n_leads, "values")

    def check_array(self, signal: Any) -> None:
        """Refuse an array, or lists of numbers, before it is converted."""
        if isinstance(signal, Sized) and not isinstance(signal, str | bytes | dict):
            rows = len(signal)
            first = next(iter(signal), None) if rows else None  # type: ignore[call-overload]
            is_row = isinstance(first, Sized) and not isinstance(first, str | bytes | dict)
            self.check_shape(rows, len(first) if is_row else 1)  # type: ignore[arg-type]


def is_serving() -> bool:
    """Return whether MLflow's scoring server runs in this process."""
    return os.environ.get(SERVING_VARIABLE, "").lower() == "true"


def limits() -> Limits | None:
    """Return the bounds of this server; None where no model is served."""
    return Limits.from_environment() if is_serving() else None


def hide_traces() -> None:
    """Let MLflow's scoring server answer without stack traces, which name its folders.

    MLflow has no option for that. Where nothing is served, nothing changes.
    """
    whole = MlflowException.serialize_as_json
    if whole.__module__ == __name__:  # it is done already
        return

    def without_trace(self: MlflowException) -> str:
        if is_serving():
            self.json_kwargs.pop("stack_trace", None)
        return str(whole(self))  # type: ignore[no-untyped-call]

    MlflowException.serialize_as_json = without_trace  # type: ignore[method-assign]


def served_path(path: Path) -> Path:
    """Return the place of a recording that is asked for by its path.

    Raises
    ------
    RecordError
        If this is a server, and the path is not in the folder that its operator has named.
    """
    if not is_serving():
        return path
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise RecordError(
            "this server reads no files: send header and signal_file, or signal and fs. Its "
            f"operator can name a folder for paths with {FOLDER_VARIABLE}"
        )
    root = Path(folder).expanduser().resolve()
    try:
        found = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise RecordError("record is no path of this server's folder") from error
    if not found.is_relative_to(root):
        raise RecordError("record is no path of this server's folder")
    return found
