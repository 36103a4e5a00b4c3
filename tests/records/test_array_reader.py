from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from ecg_mlflow import from_arrays
from ecg_mlflow.errors import DataNotFoundError, RecordError
from ecg_mlflow.records import load_corpus, read_digital
from ecg_mlflow.records.reading import Reading

SIGNAL = np.random.default_rng(0).normal(0, 0.3, (500, 2)).astype(np.float32)
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def write(path, **values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, **values)
    elif path.suffix == ".mat":
        savemat(path, {"ECG": values})
    else:
        with h5py.File(path, "w") as file:
            for name, value in values.items():
                if name == "fs":
                    file.attrs[name] = value
                else:
                    file[name] = value
    return path


def reason(path, reading=""):
    with pytest.raises(RecordError) as caught:
        read_digital(path, Reading(reading))
    return str(caught.value)


@pytest.mark.parametrize("ending", [".npz", ".h5", ".hdf5"])
@pytest.mark.parametrize(("unit", "per_mv"), [("mV", 1), ("uV", 1000)])
def test_numpy_and_hdf5_files(tmp_path, ending, unit, per_mv):
    path = write(
        tmp_path / f"R1{ending}",
        **{"signal": SIGNAL * per_mv, "fs": 250, "leads": ["II", "RESP"], "unit": unit},
    )
    record = read_digital(path)
    assert (record.id, record.fs, record.leads) == ("R1", 250, ("II",))
    assert record.ignored == (f"RESP ({unit}, 250 Hz)",)
    assert record.millivolts().dtype == np.float32
    np.testing.assert_allclose(record.millivolts(), SIGNAL[:, :1], rtol=1e-6)
    found = read_digital(path, Reading("resp,ii")).millivolts()
    np.testing.assert_allclose(found, SIGNAL[:, ::-1], rtol=1e-6)
    assert reason(path, "V1") == "no lead V1: it has II, RESP"


def test_matlab_files_of_cpsc2018(tmp_path):
    signal = np.random.default_rng(1).normal(0, 0.3, (12, 700))
    path = write(tmp_path / "A0001.mat", sex="Male", age=74, data=signal)
    record = read_digital(path)
    assert (record.fs, record.leads) == (500, TWELVE)
    assert record.comments == ("Age: 74", "Sex: Male")
    np.testing.assert_allclose(record.millivolts(), signal.T, rtol=1e-6)
    savemat(path, {"val": signal})
    assert reason(path).startswith(
        "no struct ECG with data as in CPSC 2018 in A0001.mat: it has val"
    )


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"signal": SIGNAL}, "no fs in R.npz: it has signal"),
        ({"data": SIGNAL}, "no fs and no signal in R.npz: it has data"),
        ({"signal": SIGNAL, "fs": 0}, "fs must be a frequency in Hz above 0; it is 0"),
        ({"signal": SIGNAL, "fs": [1, 2]}, "signal and fs must be numbers"),
        ({"signal": ["a"], "fs": 1}, "signal and fs must be numbers"),
        ({"signal": SIGNAL[None], "fs": 1}, r"signal must be \(n_samples, n_leads\); it is \(1, 5"),
        ({"signal": SIGNAL[:0], "fs": 1}, "signal must be "),
        ({"signal": SIGNAL, "fs": 1, "leads": ["I"]}, r"signal \(500, 2\) has not the leads I$"),
        ({"signal": SIGNAL.T, "fs": 1, "leads": ["I", "II"]}, "leads I, II; time comes first"),
        ({"signal": SIGNAL, "fs": 1, "unit": "NU"}, "unit is not a voltage"),
        ({"signal": np.array([None]), "fs": 1}, "unreadable file: R.npz: Object arrays cannot be"),
        ({"signal": np.where(SIGNAL > 0.8, np.inf, SIGNAL), "fs": 1}, "NaN among the samples"),
    ],
)
def test_arrays_that_are_no_recording(tmp_path, values, why):
    with pytest.raises(RecordError, match=why):
        read_digital(write(tmp_path / "R.npz", **values))


@pytest.mark.parametrize("ending", [".npz", ".h5", ".mat"])
def test_files_that_are_damaged(tmp_path, ending):
    path = tmp_path / f"R{ending}"
    for content in (b"", b"hello", b"PK\3\4" + b"x" * 200):
        path.write_bytes(content)
        assert reason(path).startswith("unreadable file: ")


def test_a_folder_of_arrays(tmp_path):
    for k in range(4):
        write(tmp_path / f"R{k}.npz", signal=SIGNAL[:, 0], fs=250, label="NA"[k % 2])
    corpus = load_corpus(str(tmp_path), labels="headers")
    assert (corpus.labels, corpus.leads[0]) == (("N", "A", "N", "A"), ("lead 1",))
    np.testing.assert_array_equal(corpus.record(0).signal[:, 0], SIGNAL[:, 0])


def test_arrays_beside_recordings_are_something_else(tmp_path, write_record):
    write_record(tmp_path, "R1")
    write(tmp_path / "features.npz", x=SIGNAL)
    (tmp_path / "R1.mat").write_bytes(b"MATLAB")
    (tmp_path / "REFERENCE.csv").write_text("R1,N\n")
    corpus = load_corpus(str(tmp_path))
    assert (corpus.ids, corpus.bad, corpus.provenance.notes) == (("R1",), (), ())


def test_a_corpus_of_arrays(cache):
    signals = [SIGNAL, SIGNAL[:400] * 2, SIGNAL[:300]]
    corpus = from_arrays(
        signals, [250, 250, 500], ["N", "A", "N"], ["I", "II"], ["p", "", "q"], ["c", "a", "b"]
    )
    assert (corpus.ids, corpus.labels) == (("a", "b", "c"), ("A", "N", "N"))
    assert (corpus.patients, corpus.leads[0]) == (("", "q", "p"), ("I", "II"))
    assert (corpus.fs.tolist(), corpus.n_samples.tolist()) == ([250, 500, 250], [400, 300, 500])
    np.testing.assert_array_equal(corpus.record(2).signal, SIGNAL)
    assert corpus.path.is_relative_to(cache)
    one = from_arrays(np.stack([SIGNAL, 2 * SIGNAL]), 250, ["N", "A"], ["I", "II"])
    assert (one.ids, one.patients, one.source) == (("record0000", "record0001"), None, "2 arrays")
    again = from_arrays(np.stack([SIGNAL, 2 * SIGNAL]), 250, ["N", "A"], ["I", "II"])
    assert again.digest == one.digest


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"labels": ["N"]}, "there are 2 signals and 1 labels: give one for each record"),
        ({"fs": [250]}, "there are 2 signals and 1 fs"),
        ({"ids": ["a", "a"]}, "there are 2 signals and 1 ids"),
        ({"patients": ["p"]}, "there are 2 signals and 1 patients"),
        ({"leads": ["I"]}, r"record record0000: signal \(500, 2\) has not the leads I"),
        ({"signals": [SIGNAL, SIGNAL * np.nan]}, "record record0001: NaN or infinite values"),
        ({"signals": []}, "there are 0 signals and"),
    ],
)
def test_arrays_that_make_no_corpus(given, why):
    values = {"signals": [SIGNAL, SIGNAL], "fs": 250, "labels": ["N", "A"], "leads": ["I", "II"]}
    with pytest.raises(DataNotFoundError, match=why):
        from_arrays(**{**values, **given})
