"""Requests to a served model by which somebody means harm, or that a broken client sends."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

Body = tuple[bytes, str]
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
LINE = "16 1000/mV 16 0 0 0 0 I"
SAMPLES = (np.sin(np.arange(600) / 7) * 1000).astype("<i2")
#: A good row, which stands beside each bad one.
GOOD = {"signal": (SAMPLES / 1000).tolist(), "fs": 250, "leads": ["L1"]}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def wfdb(record: str, *signals: str, data: bytes = SAMPLES.tobytes()) -> dict[str, str]:
    header = "\n".join([record, *signals]) + "\n"
    return {"header": encoded(header.encode()), "signal_file": encoded(data)}


@cache
def flac(n_samples: int) -> bytes:
    """Write silence, of which FLAC makes a thousandth."""
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 48_000, 1, "PCM_16", format="FLAC") as opened:
        for start in range(0, n_samples, 2**20):
            opened.write(np.zeros(min(2**20, n_samples - start), np.int16))
    return file.getvalue()


def rows(rng: np.random.Generator) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield rows that have no answer, by what is wrong with them."""
    n = int(rng.integers(2, 1000))
    signal = GOOD["signal"]
    for path in ("/etc/passwd", "../../etc/passwd", "/dev/zero", "/proc/self/environ", "a\0b",
                 "x" * 5000, "/dev/stdin", "file:///etc/passwd", f"R{n}"):  # fmt: skip
        yield f"path {path[:12]!r}", {"record": path}
    yield "skew", wfdb("R 1 250 600", f"R.dat 16:{2_000_000_000 + n} 1000/mV")
    yield "samples", wfdb(f"R 1 250 {10**12 + n}", f"R.dat {LINE}")
    yield "values", wfdb("R 60 250 80000000", *[f"R.dat {LINE}"] * 60)
    yield "samples per frame", wfdb("R 1 250 600", f"R.dat 16x{10**8 + n} 1000/mV")
    yield "leads", wfdb("R 10000 250 600", *[f"R.dat {LINE}"] * 10_000)
    yield "lines", wfdb("R 1 250 600", f"R.dat {LINE}", *["# x"] * 100_000)
    yield "a long word", wfdb(f"R 1 250 600 {'1' * 50_000}!", f"R.dat {LINE}")
    yield "lines of another system", wfdb("R 1 250 600", f"R.dat {LINE}" + "\r# x" * 100_000)
    yield "skew of all", wfdb("R 64 250 1", *["R.dat 16x64:10000 1000/mV"] * 64)
    yield "small FLAC", wfdb(f"R 1 250 {2**26}", "R.dat 516 1000/mV 16 0 0 0 0 I", data=flac(2**26))
    yield (
        "long FLAC",
        wfdb(f"R 1 25 {7 * 10**6}", "R.dat 516 1000/mV 16 0 0 0 0 I", data=flac(7 * 10**6)),
    )
    yield "slow FLAC", wfdb(f"R 1 25 {2**25}", "R.dat 516 1000/mV 16 0 0 0 0 I", data=flac(2**25))
    yield "offset", wfdb("R 1 250 600", f"R.dat 16+{10**14 + n} 1000/mV")
    yield "FLAC", wfdb(f"R 1 250 {10**9}", "R.dat 516 1000/mV 16 0 0 0 0 I", data=flac(2**22))
    yield "no FLAC", wfdb("R 1 250 600", "R.dat 516 1000/mV", data=b"fLaC" + rng.bytes(500))
    yield "format", wfdb("R 1 250 600", f"R.dat {n + 1000} 1000/mV")
    yield "gain", wfdb("R 1 250 600", "R.dat 16 1e-300/mV")
    yield "frequency in a header", wfdb("R 1 nan 600", f"R.dat {LINE}")
    yield "segments", wfdb(f"R/{n} 1 250 600", *[f"S{i} 1" for i in range(n)])
    yield "other file", wfdb("R 1 250 600", f"../R.dat {LINE}")
    yield "header itself", wfdb("R 1 250 600", f"R.hea {LINE}")
    yield "random header", {"header": encoded(rng.bytes(n)), "signal_file": ""}
    yield "no base64", {"header": "%%", "signal_file": "%%"}
    yield "bytes of a wrong type", {"header": n, "signal_file": [n]}
    for fs in (
        10**400,
        10**20,
        -250,
        0,
        1e-300,
        "250",
        None,
        True,
        [250],
        {"fs": 250},
        float("nan"),
    ):
        yield f"fs {str(fs)[:8]}", {"signal": signal, "fs": fs}
    yield "digits", {"signal": [10**400, 1, 2], "fs": 250}
    yield "text as a signal", {"signal": "1, 2, 3", "fs": 250}
    yield "words as a signal", {"signal": ["one"] * n, "fs": 250}
    yield "a table of other lengths", {"signal": [[1, 2], [3], []] * n, "fs": 250}
    yield "NaN", {"signal": [float("nan")] * 600, "fs": 250}
    yield "infinite", {"signal": [float("inf")] * 600, "fs": 250}
    yield "nothing", {"signal": [], "fs": 250}
    yield "flat", {"signal": [0.5] * 600, "fs": 250}
    yield "nested", {"signal": nested(30), "fs": 250}
    yield "an object", {"signal": {"a": 1}, "fs": 250}
    yield "many leads", {"signal": [[0.1] * 3000] * 3, "fs": 250}
    yield "long names of leads", {"signal": signal, "fs": 250, "leads": ["x" * 100_000, "y"]}
    yield "leads of a wrong type", {"signal": signal, "fs": 250, "leads": [{"a": 1}]}
    yield "all at once", {**GOOD, "record": "R", "header": "", "signal_file": ""}
    yield "empty", {"fs": 250}


def nested(depth: int) -> Any:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    return value


def bodies(rng: np.random.Generator) -> Iterator[tuple[str, Body]]:
    """Yield whole requests that MLflow refuses before a model sees them, by what is wrong."""
    noise = rng.bytes(300)
    for name, text in {
        "no JSON": "{",
        "another JSON": "[1, 2]",
        "deep JSON": "[" * 100_000,
        "digits": f'{{"dataframe_records": [{{"fs": {"9" * 5000}}}]}}',
        "no rows": '{"dataframe_records": []}',
        "rows of numbers": '{"dataframe_records": [1, 2]}',
        "other columns": '{"dataframe_records": [{"age": 3}]}',
        "columns twice": '{"dataframe_split": {"columns": ["fs", "fs"], "data": [[1, 2]]}}',
        "no table": '{"inputs": [[1.0, 2.0]]}',
        "instances": '{"instances": [{"signal": [1]}]}',
        "params": '{"dataframe_records": [{"fs": 1}], "params": {"windows": [1]}}',
        "other params": '{"dataframe_records": [{"fs": 1}], "params": {"evil": 1}}',
        "NUL": '{"dataframe_records": [{"record": "\\u0000\\ud800"}]}',
    }.items():
        yield name, (text.encode(), JSON)
    yield "bytes as JSON", (noise, JSON)
    yield "bytes as a table", (noise, CSV)
    yield "a table", (b"fs,signal\n250,1\n", CSV)
    yield "bytes as Parquet", (b"PAR1" + noise + struct.pack("<i", 2**30) + b"PAR1", PARQUET)
    yield "another type", (noise, "application/x-python-pickle")
    yield "another encoding", (b"{}", "application/json; charset=utf-16")
    yield "empty", (b"", JSON)


def request(found: list[dict[str, Any]]) -> Body:
    return json.dumps({"dataframe_records": found}).encode(), JSON


def hostile_requests(seed: int) -> Iterator[tuple[str, Body, int]]:
    """Yield without end: what is wrong, a request, and how many rows of it have an answer."""
    rng = np.random.default_rng(seed)
    while True:
        for name, row in rows(rng):
            yield name, request([row, GOOD]), 1
        for name, body in bodies(rng):
            yield name, body, 0
