"""Read the samples of WFDB signal files; check their sizes and checksums.

Formats: https://physionet.org/physiotools/wag/signal-5.htm. Checksums are verified where
they aren't 0. Initial values matter to format 8 alone, whose samples are differences: those of the
CinC 2017 Challenge are known to be wrong.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.files import is_special
from ecg_mlflow.records.wfdb_header import SignalLine, WfdbHeader

#: Bytes by which a signal file may be longer than its samples: some writers fill up the last block.
_PADDING = 4


@functools.cache
def import_wfdb() -> ModuleType:
    """Import wfdb at first use: with pandas it takes half a second."""
    with warnings.catch_warnings():
        # wfdb 4.3 builds its tables with pandas calls that pandas 3 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        import wfdb
    return wfdb  # type: ignore[no-any-return, unused-ignore]


def decode(path: Path, header: WfdbHeader) -> list[npt.NDArray[np.integer[Any]]]:
    """Read all signals of a header as their files have them.

    wfdb's own reader of headers isn't asked: that passes over what it doesn't understand.

    Raises
    ------
    RecordError
        If a file is missing or unreadable, or has another size or checksum than the header says.
    """
    if header.n_frames == 0:
        raise RecordError("no samples: the record's length is 0")
    by_file: dict[str, list[SignalLine]] = {}
    for before, one in zip((None, *header.signals), header.signals, strict=False):
        together = by_file.setdefault(one.file, [])
        if together and (before is not together[-1] or one.fmt != together[0].fmt):
            raise RecordError(
                f"broken header: the signals of {one.file} must follow each other, in one format"
            )
        together.append(one)
    n_frames, digital = header.n_frames, list[npt.NDArray[np.integer[Any]]]()
    for name, signals in by_file.items():
        per_frame = sum(one.per_frame for one in signals)
        stored = _read_file(path.parent / name, signals, n_frames)
        n_frames = n_frames or len(stored) // per_frame
        frames = stored[: n_frames * per_frame].reshape(n_frames, per_frame)
        # Of 16 bits, as a checksum has them, which may overflow. The copy makes it faster.
        sums = np.ascontiguousarray(frames.T).sum(axis=1, dtype=np.int16)
        start = 0
        for one in signals:
            end = start + one.per_frame
            samples, total = frames[:, start:end].reshape(-1), int(sums[start:end].sum())
            if one.fmt == "8":
                samples = samples.cumsum(dtype=np.int32) + one.initial
                total = int(samples.sum(dtype=np.int64))
            if one.checksum and (total - one.checksum) % 2**16:
                raise RecordError(
                    f"wrong checksum: the samples of {one.description or 'a lead'!r} in {name} sum "
                    f"to {total % 2**16}, its header says {one.checksum % 2**16}"
                )
            start = end
            digital.append(samples)
    return digital


def _read_file(
    file: Path, signals: Sequence[SignalLine], n_frames: int | None
) -> npt.NDArray[np.integer[Any]]:
    """Read the samples of a signal file, frame after frame; without a length, all that it has.

    Raises
    ------
    RecordError
        If it has other samples than its header describes.
    """
    decoder = import_wfdb().io._signal
    fmt, offset = signals[0].fmt, signals[0].offset
    width = decoder.BYTES_PER_SAMPLE.get(fmt)
    if width is None:
        raise RecordError(f"unreadable signal file: {file.name} is in the unknown format {fmt}")
    if is_special(file):
        raise RecordError(f"unreadable signal file: {file.name} is no regular file")
    if not file.exists():
        raise RecordError(f"missing signal file: {file.name}")
    size = file.stat().st_size
    if not size:
        raise RecordError(f"no samples: {file.name} is empty")
    per_frame = sum(one.per_frame for one in signals)
    if not width:
        return _read_flac(file, signals, n_frames)
    n_samples = per_frame * (n_frames or int(max(0, size - offset) / width) // per_frame)
    if not n_samples:
        raise RecordError(f"no samples: {file.name} has {size} bytes, less than a frame")
    expected = offset + decoder._required_byte_num("read", fmt, n_samples)
    if not expected <= size <= expected + _PADDING:
        kind = "truncated" if size < expected else "oversized"
        raise RecordError(
            f"{kind} signal file: {file.name} has {size} bytes, the header requires {expected}"
        )
    dtype = np.dtype(decoder.DATA_LOAD_TYPES[fmt])
    if fmt in decoder.UNALIGNED_FMTS:
        blocks = np.fromfile(file, dtype, expected - offset, offset=offset)
        stored: npt.NDArray[Any] = decoder._blocks_to_samples(blocks, n_samples, fmt)
        return stored
    stored = np.fromfile(file, dtype, n_samples, offset=offset)
    if fmt in decoder.OFFSET_FMTS:
        stored = stored.astype(np.int32) - (1 << decoder.BIT_RES[fmt] - 1)
    return stored


def _read_flac(
    file: Path, signals: Sequence[SignalLine], n_frames: int | None
) -> npt.NDArray[np.integer[Any]]:
    """Read the samples of a compressed signal file; see `_read_file`."""
    import soundfile  # type: ignore[import-untyped]

    per_frame, offset = signals[0].per_frame, signals[0].offset
    length = soundfile.info(file).frames - offset
    if n_frames not in (None, length / per_frame):
        kind = "truncated" if length < (n_frames or 0) * per_frame else "oversized"
        raise RecordError(
            f"{kind} signal file: {file.name} has {length} samples of each signal, the header "
            f"requires {(n_frames or 0) * per_frame}"
        )
    stored: npt.NDArray[Any] = import_wfdb().io._signal._rd_compressed_file(
        file_name=file.name,
        dir_name=str(file.parent),
        pn_dir=None,
        fmt=signals[0].fmt,
        sample_offset=offset,
        n_sig=len(signals),
        samps_per_frame=[one.per_frame for one in signals],
        start_frame=0,
        end_frame=n_frames or length // per_frame,
    )
    return stored
