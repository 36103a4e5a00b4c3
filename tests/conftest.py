"""Fixtures that all tests share: real records where there are any, and small written ones."""

from __future__ import annotations

import csv
import os
import shutil
import tarfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from gallery import finished_studies, made_once, new_store, write_beats
from studies import Workplace

from ecg_mlflow.records.wfdb_signals import import_wfdb
from ecg_mlflow.tracking.trusted_code import TRUST_VARIABLE

WriteRecord = Callable[..., Path]

_PROJECT = Path(__file__).parents[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the nightly tests unless ``-m`` or an id (``file.py::test``) names them."""
    if "nightly" not in config.option.markexpr and not any("::" in one for one in config.args):
        left_out = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has an empty cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ECG_MLFLOW_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def trusted_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one test process has run, the others have run too: they share finished studies."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TRUST_VARIABLE, str(root / "trusted_code"))
        yield


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """No test leaves variables to the next one, as studies in this process would their own."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the Challenge's archives: $ECG_MLFLOW_TEST_DATA, else ../shared/data."""
    root = Path(os.environ.get("ECG_MLFLOW_TEST_DATA", _PROJECT.parent / "shared" / "data"))
    folder = root / "cinc2017"
    if not (folder / "sample2017.tar.xz").is_file():
        pytest.skip(f"no real records: {folder} has no sample2017.tar.xz; set ECG_MLFLOW_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def label_tables(real_data: Path) -> Path:
    """Folder of PTB-XL's tables and the Challenge's of 2021, beside the Challenge's of 2017."""
    folder = real_data.parent
    if not (folder / "ptbxl" / "ptbxl_database-sample.csv").is_file():
        pytest.skip(f"no label tables: {folder} has no ptbxl/ptbxl_database-sample.csv")
    return folder


@pytest.fixture(scope="session")
def twelve_leads(label_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of cinc2021/, 50 records of 2021, and cpsc2021/, 18 with rhythms; not to write to."""
    folder = tmp_path_factory.mktemp("twelve")
    for name in ("sample2021", "sample-cpsc2021"):
        with tarfile.open(label_tables / "cinc2021" / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def ptbxl(
    label_tables: Path, write_record: WriteRecord, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Tree of PTB-XL: 120 rows of its table, its statements, and made-up signals at 100 Hz."""
    folder = tmp_path_factory.mktemp("ptbxl")
    lines = (
        (label_tables / "ptbxl" / "ptbxl_database-sample.csv").read_text().splitlines(True)[:121]
    )
    (folder / "ptbxl_database.csv").write_text("".join(lines))
    shutil.copy(label_tables / "ptbxl" / "scp_statements.csv", folder)
    leads = ("I", "II", "III", "AVR", "AVL", "AVF", *(f"V{i}" for i in range(1, 7)))
    for row in csv.DictReader(lines):
        header = folder / row["filename_lr"]
        write_record(header.parent, header.name, fs=100, n_samples=1000, leads=leads)
    return folder


@pytest.fixture(scope="session")
def sample_records(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the Challenge's 300 sample records with REFERENCE.csv; not to be written to."""
    folder = tmp_path_factory.mktemp("sample")
    with tarfile.open(real_data / "sample2017.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    records = next(folder.rglob("A00001.hea")).parent
    labels = (real_data / "REFERENCE-sample2017.csv").read_bytes()
    (records / "REFERENCE.csv").write_bytes(labels)
    return records


@pytest.fixture(scope="session")
def wrsamp() -> Callable[..., None]:
    """``wfdb.wrsamp`` without the pandas calls' deprecation warnings."""

    def write(*args: object, **kwargs: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import_wfdb().wrsamp(*args, **kwargs)

    return write


@pytest.fixture(scope="session")
def write_record(wrsamp: Callable[..., None]) -> WriteRecord:
    """Write one WFDB record: ``write_record(folder, name, signal=None, fs=250, ...)``."""

    def write(
        folder: Path,
        name: str,
        signal: np.ndarray | None = None,
        *,
        fs: float = 250,
        fmt: str = "16",
        gain: float = 1000,
        baseline: int = 0,
        unit: str = "mV",
        leads: Sequence[str] | None = None,
        n_samples: int = 500,
    ) -> Path:
        if signal is None:
            rng = np.random.default_rng(list(name.encode()))
            signal = rng.normal(0, 0.3, (n_samples, len(leads or "I")))
        folder.mkdir(parents=True, exist_ok=True)
        n_leads = signal.shape[1]
        digital = np.rint(signal * gain + baseline).astype(np.int64)
        wrsamp(
            name,
            fs=fs,
            units=[unit] * n_leads,
            sig_name=list(leads or [f"L{i + 1}" for i in range(n_leads)]),
            d_signal=digital,
            fmt=[fmt] * n_leads,
            adc_gain=[gain] * n_leads,
            baseline=[baseline] * n_leads,
            write_dir=str(folder),
        )
        return folder / f"{name}.hea"

    return write


@pytest.fixture
def small_folder(tmp_path: Path, write_record: WriteRecord) -> Path:
    """Six one-lead records of 250 Hz, R1 to R6, with labels N, A, N, A, N, A."""
    folder = tmp_path / "small"
    for i in range(1, 7):
        write_record(folder, f"R{i}", n_samples=400 + 50 * i)
    lines = [f"R{i},{'NA'[(i + 1) % 2]}\n" for i in range(1, 7)]
    (folder / "REFERENCE.csv").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def tracking_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of one sqlite store for all studies of this process."""
    return new_store(tmp_path_factory, tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="session")
def beats(tmp_path_factory: pytest.TempPathFactory, write_record: WriteRecord) -> Path:
    """Folder of twenty short records in two classes; not to be written to."""
    return made_once(tmp_path_factory, "beats", lambda folder: write_beats(folder, write_record))


@pytest.fixture(scope="session")
def open_workplace(
    tracking_store: str, beats: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Workplace]:
    """Make a folder to run commands in, with an environment for them."""
    from ecg_mlflow.study import signals
    from ecg_mlflow.tracking.client import connect

    def open_one(monkeypatch: pytest.MonkeyPatch, store: str = tracking_store) -> Workplace:
        folder = tmp_path_factory.mktemp("work")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
        # It would tie the tests' own process to the shell that has started them.
        monkeypatch.setattr(signals, "end_with_parent", lambda: None)
        return Workplace(folder, beats, connect(store))

    return open_one


@pytest.fixture
def workplace(
    open_workplace: Callable[[pytest.MonkeyPatch], Workplace], monkeypatch: pytest.MonkeyPatch
) -> Workplace:
    """Give a test a folder of its own to run commands in."""
    return open_workplace(monkeypatch)


@pytest.fixture
def experiment() -> str:
    """Name a new experiment."""
    return f"experiment {uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def shared_workplace(
    open_workplace: Callable[..., Workplace], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[Workplace]]:
    """For studies that many tests look at: the environment lasts as long as they run."""

    @contextmanager
    def enter(*store: str) -> Iterator[Workplace]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("ECG_MLFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
            yield open_workplace(monkeypatch, *store)

    return enter


@pytest.fixture(scope="module")
def exhibit(
    shared_workplace: Callable[..., AbstractContextManager[Workplace]],
    tmp_path_factory: pytest.TempPathFactory,
    write_record: WriteRecord,
) -> Callable[[str], AbstractContextManager[Workplace]]:
    """Open a workplace on a copy of finished studies: ``exhibit(name)``, see `gallery.EXHIBITS`."""

    @contextmanager
    def enter(name: str) -> Iterator[Workplace]:
        store, records = finished_studies(name, tmp_path_factory, shared_workplace, write_record)
        with shared_workplace(store) as place:
            place.records = records
            yield place

    return enter
