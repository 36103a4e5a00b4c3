"""What a hostile or broken request does to a served model: nothing but an answer that says why."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import requests
from hostile import GOOD, SAMPLES, flac, hostile_requests, rows, wfdb
from mlflow.exceptions import MlflowException
from saved_models import elsewhere
from servers import model_server

from ecg_mlflow.errors import ModelError
from ecg_mlflow.serving.classifier import RawEcgClassifier
from ecg_mlflow.serving.limits import SERVING_VARIABLE, Limits

# Of NumPy 2, in Keras's way of saving a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

#: What no answer may hold: places of the server, and traces.
SECRETS = ("Traceback", 'File "', "site-packages", "/tmp", "ecg_mlflow-", str(Path.cwd()), "root:")
N_REQUESTS = 1000
BAD = dict(rows(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def model(saved):
    return mlflow.pyfunc.load_model(str(saved.folder))


@pytest.fixture
def serving(monkeypatch):
    monkeypatch.setenv(SERVING_VARIABLE, "true")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_gets_a_status_and_the_others_their_answers(model, serving, name):
    found = model.predict(pd.DataFrame([GOOD, BAD[name], GOOD]))
    assert found["status"][1].startswith("error: ")
    assert found["status"].tolist()[::2] == ["ok", "ok"]
    assert found["p_A"][0] == found["p_A"][2] is not None
    assert not [one for one in SECRETS if one in found["status"][1]]
    assert len(found["status"][1]) < 600


FRAME = "R.dat 16 1000/mV 16 0 0 0 0 I"


@pytest.mark.parametrize(
    ("bound", "most", "row"),
    [
        ("size", 1199, wfdb("R 1 250 600", FRAME)),
        ("size", 40, wfdb("R 1 250 600", FRAME + "x" * 50)),
        ("samples", 599, wfdb("R 1 250 600", FRAME)),
        ("samples", 599, GOOD),
        ("samples", 599, {**GOOD, "signal": np.zeros((600, 1))}),
        ("values", 599, wfdb("R 2 250 300", FRAME, FRAME)),
        ("values", 1199, {**GOOD, "signal": [[0.1, 0.2]] * 600}),
        ("leads", 1, wfdb("R 2 250 300", FRAME, FRAME)),
        ("leads", 1, {**GOOD, "signal": [[0.1, 0.2]] * 600}),
        ("lines", 2, wfdb("R 1 250 600", FRAME, "# a comment")),
        ("per_frame", 1, wfdb("R 1 250 300", FRAME.replace("16 ", "16x2 ", 1))),
        ("lines", 3, wfdb("R 1 250 600", FRAME + "\r# a comment")),
        ("lines", 3, wfdb("R 1 250 600", FRAME + "\u2028# a comment")),
        ("samples", 601, wfdb("R 1 250 600", FRAME.replace("16 ", "16:2 ", 1))),
        ("size", 1199, wfdb("R 1 250 600", "R.dat 516 1000/mV", data=flac(600))),
        ("samples", 5999, {**GOOD, "fs": 25}),
        ("hours", 2, {**GOOD, "signal": np.sin(np.arange(200_000))[:, None], "fs": 25}),
        ("skew", 2, wfdb("R 1 250 600", FRAME.replace("16 ", "16:3 ", 1))),
    ],
)
def test_a_refusal_names_the_bound_and_what_raises_it(
    model, serving, monkeypatch, bound, most, row
):
    variable = f"ECG_MLFLOW_SERVE_{bound.upper()}"
    monkeypatch.setenv(variable, str(most))
    (status,) = model.predict(pd.DataFrame([row]))["status"]
    assert status.startswith("error: too large: ")
    assert f"; this server takes at most {most} ({variable})" in status
    monkeypatch.setenv(variable, "10000000")
    assert "too large" not in model.predict(pd.DataFrame([row]))["status"][0]


def test_a_request_with_too_many_recordings_is_refused_as_a_whole(model, serving, monkeypatch):
    monkeypatch.setenv("ECG_MLFLOW_SERVE_ROWS", "2")
    assert model.predict(pd.DataFrame([GOOD] * 2))["status"].tolist() == ["ok", "ok"]
    with pytest.raises(
        MlflowException, match=r"3 recordings in a request; .*ECG_MLFLOW_SERVE_ROWS"
    ):
        model.predict(pd.DataFrame([GOOD] * 3))


@pytest.mark.parametrize(
    ("bound", "header", "said"),
    [
        ("size", "R 1 250 600\nR.dat 16 1000/mV\n", "bytes of files"),
        ("samples", "R 1 250 600000000\nR.dat 516 1000/mV\n", "samples of a lead"),
        ("leads", "R 3 250 200\n" + "R.dat 16 1000/mV\n" * 3, "3 leads"),
    ],
)
def test_bounds_hold_for_recordings_that_are_read_by_their_paths(
    model, serving, tmp_path, monkeypatch, bound, header, said
):
    (tmp_path / "R.hea").write_text(header)
    (tmp_path / "R.dat").write_bytes(SAMPLES.tobytes())
    monkeypatch.setenv("ECG_MLFLOW_SERVE_FOLDER", str(tmp_path))
    most = {"size": 1200, "samples": 1000, "leads": 2}[bound]
    monkeypatch.setenv(f"ECG_MLFLOW_SERVE_{bound.upper()}", str(most))
    (status,) = model.predict(pd.DataFrame({"record": ["R"]}))["status"]
    assert status.startswith("error: too large: ")
    assert said in status


def test_a_bound_holds_where_a_model_is_served_only(model, monkeypatch):
    monkeypatch.setenv("ECG_MLFLOW_SERVE_SAMPLES", "3")
    assert model.predict(pd.DataFrame([GOOD]))["status"].tolist() == ["ok"]


@pytest.mark.parametrize("text", ["many", "0", "-1", "1.5", ""])
def test_a_bound_that_is_no_number_is_an_error_when_the_server_starts(text, monkeypatch):
    monkeypatch.setenv("ECG_MLFLOW_SERVE_LEADS", text)
    with pytest.raises(ModelError, match=f"ECG_MLFLOW_SERVE_LEADS='{text}' should be a positive"):
        Limits.from_environment()
    with pytest.raises(ModelError):
        RawEcgClassifier().load_context(None)


def test_paths_are_read_in_python_and_in_the_folder_that_a_server_names(
    model, saved, tmp_path, monkeypatch
):
    (tmp_path / "inside").symlink_to(saved.records)
    (tmp_path / "R0.hea").write_text("R0 1 250 600\n../secret 16\n")
    os.mkfifo(tmp_path / "fifo.hea")
    asked = ["R0", str(saved.records / "R0"), "../R0", str(tmp_path / "R0"), "inside/R0"]

    def status(paths: list[str]) -> list[str]:
        return model.predict(pd.DataFrame({"record": paths}))["status"].tolist()

    assert status([str(saved.records / "R0.hea")]) == ["ok"]
    assert "is no regular file" in status([str(tmp_path / "fifo")])[0]
    monkeypatch.setenv(SERVING_VARIABLE, "true")
    none = status([str(saved.records / "R0")])[0]
    assert "this server reads no files" in none
    assert "ECG_MLFLOW_SERVE_FOLDER" in none
    monkeypatch.setenv("ECG_MLFLOW_SERVE_FOLDER", str(saved.records))
    found = status(asked)
    assert found[:2] == ["ok", "ok"]
    assert {one.partition(": ")[2] for one in found[2:4]} == {
        "record is no path of this server's folder"
    }
    monkeypatch.setenv("ECG_MLFLOW_SERVE_FOLDER", str(tmp_path))
    assert "no path of this server's folder" in status(["inside/R0"])[0], "a link that leads out"
    assert "is no regular file" in status(["fifo"])[0]
    (tmp_path / "R1.hea").write_bytes((saved.records / "R1.hea").read_bytes())
    (tmp_path / "R1.dat").symlink_to(saved.records / "R1.dat")
    assert "no path of this server's folder" in status(["R1"])[0], "a signal file that leads out"


# --- Over HTTP ------------------------------------------------------------------------------------


@contextmanager
def peak_memory(done: threading.Event) -> Iterator[list[int]]:
    """Give the largest memory so far of all processes below this one, in bytes."""
    peak = [0]

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def memory() -> int:
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


@pytest.mark.server
@pytest.mark.slow
def test_hostile_requests_take_neither_memory_nor_time(saved, tmp_path):
    """Prints a table: ``pytest -m server -s tests/serving/test_hostile_requests.py``."""
    with model_server(Path(sys.executable), str(saved.folder), tmp_path, elsewhere()) as url:

        def send(body: bytes, kind: str) -> tuple[requests.Response, float]:
            began = time.perf_counter()
            with requests.post(url, data=body, headers={"Content-Type": kind}, timeout=60) as got:
                return got, time.perf_counter() - began

        good = requests.post(url, json={"dataframe_records": [GOOD]}, timeout=60).json()
        for _ in range(20):  # what the first requests load stays
            requests.post(url, json={"dataframe_records": [GOOD]}, timeout=60).close()
        idle, seconds, refused = memory(), dict[str, float](), 0
        with peak_memory(threading.Event()) as peak:
            for name, (body, kind), n_good in islice(hostile_requests(1), N_REQUESTS):
                answer, took = send(body, kind)
                seconds[name] = max(took, seconds.get(name, 0))
                assert not [one for one in SECRETS if one in answer.text], (name, answer.text)
                if n_good:
                    assert answer.status_code == 200, (name, answer.text)
                    bad, fine = answer.json()["predictions"]
                    assert bad["status"].startswith("error: "), name
                    assert fine["p_A"] == good["predictions"][0]["p_A"], name
                    refused += 1
                else:
                    refused += answer.status_code != 200 or "error: " in answer.text
    slowest = max(seconds, key=lambda name: seconds[name])
    print(
        f"\nrequests {N_REQUESTS} of {len(seconds)} kinds, refused {refused}, memory idle "
        f"{idle / 2**20:.0f} MB, peak {peak[0] / 2**20:.0f} MB ({peak[0] / idle:.2f} times), "
        f"slowest {seconds[slowest]:.2f} s ({slowest})"
    )
    assert refused == N_REQUESTS
    assert peak[0] < 1.5 * idle
