"""``mlflow models serve`` answers as the Python call does."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from saved_models import Saved, elsewhere
from servers import model_server

from ecg_mlflow.records import read_record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

WINDOWS = "window_probabilities"
NUMBERS = ["p_A", "p_NO", "calibrated_A", "calibrated_NO"]


@pytest.fixture(scope="module")
def url(saved, tmp_path_factory):
    with model_server(
        Path(sys.executable),
        str(saved.folder),
        tmp_path_factory.mktemp("server"),
        elsewhere(ECG_MLFLOW_SERVE_FOLDER=str(saved.records)),
    ) as found:
        yield found


def ask(url: str, rows: list[dict], **params) -> pd.DataFrame:
    with requests.post(url, json={"dataframe_records": rows, "params": params}, timeout=300) as got:
        assert got.status_code == 200, got.text

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return pd.DataFrame(json.loads(got.text, parse_constant=refuse)["predictions"])


def rows_of(saved: Saved, kind: str) -> list[dict]:
    headers = [saved.records / f"R{i}.hea" for i in range(5)]
    if kind == "path":
        return [{"record": str(header)} for header in headers]
    if kind == "bytes":
        files = [(header, header.with_suffix(".dat")) for header in headers]
        encoded = [[base64.b64encode(f.read_bytes()).decode() for f in pair] for pair in files]
        return [{"header": header, "signal_file": data} for header, data in encoded]
    signals = [read_record(header).signal.astype(float) for header in headers]
    if kind == "one lead":
        return [{"signal": signal[:, 0].tolist(), "fs": 250} for signal in signals]
    return [{"signal": signal.tolist(), "fs": 250.0, "leads": ["L1"]} for signal in signals]


def test_answers_are_those_of_the_python_call_and_bad_rows_leave_them(saved, url):
    kinds = ("path", "bytes", "one lead", "signal")
    bad = [
        {"record": "/no/such/record"},
        {"signal": [1.0, None, 2.0] * 200, "fs": 250},
        {"signal": [0.5] * 600, "fs": 250},
        {"header": "%%", "signal_file": "%%"},
        {"fs": 250},
    ]
    rows = [row for kind in kinds for row in rows_of(saved, kind)]
    found = ask(url, rows + bad, windows=True)
    table = pd.DataFrame(rows_of(saved, "path"))
    model = mlflow.pyfunc.load_model(str(saved.folder))
    wanted = model.predict(table, params={"windows": True})
    for i, kind in enumerate(kinds):
        part = found[5 * i : 5 * i + 5]
        np.testing.assert_allclose(part[NUMBERS].astype(float), wanted[NUMBERS], atol=1e-5)
        for column in ("prediction", "windows", "status"):
            assert part[column].tolist() == wanted[column].tolist(), kind
        for one, other in zip(part[WINDOWS], wanted[WINDOWS], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    assert found["status"].str.partition(":")[0].tolist() == ["ok"] * 20 + ["error"] * 5
    assert found.loc[20:, ["prediction", *NUMBERS]].isna().all(axis=None)
    assert WINDOWS not in ask(url, rows[:1])


def test_the_saved_example_can_be_sent_as_it_is(saved, url):
    body = (saved.folder / "serving_input_example.json").read_text()
    headers = {"Content-Type": "application/json"}
    with requests.post(url, data=body, headers=headers, timeout=300) as answer:
        (found,) = answer.json()["predictions"]
    test = saved.manifest.self_test
    assert [found["p_A"], found["p_NO"]] == pytest.approx(test.probabilities, abs=1e-6)


def test_what_holds_no_recording_is_a_bad_request(url):
    body = {"dataframe_records": [{"age": 3}]}
    with requests.post(url, json=body, timeout=300) as answer:
        assert answer.status_code == 400
        assert "one recording per row" in answer.json()["message"]
