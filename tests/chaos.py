"""Studies in processes of their own, to be killed, and what must be the same all the same.

The study has twelve runs, trained by NumPy: checkpoints, metrics, locks and store are as with
Keras, and a process is there in a third of the time. Its training pipeline sleeps for a moment in
each window where ``UNHURRIED_S`` says so, which changes nothing that is computed: how far a study
has come by a certain time then depends little on the machine, and costs it nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import pytest
from gallery import empty_store, made_once
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel, Run
from studies import NETWORKS, PARENT_TAG, grid_text
from waiting import wait_for

from ecg_mlflow.executors import worker_main
from ecg_mlflow.tracking.client import connect, environment

MARK = "ECG_MLFLOW_TEST_MARK"
IDENTITY = "ecg_mlflow.identity"
FOLDER = Path(__file__).parent
N_RUNS = 12

UNHURRIED = """
import os, time
from numpy_net import NumpyNet

def unhurried(signal, fs):
    time.sleep(float(os.environ.get("UNHURRIED_S", "0")))
    return signal
"""
_FIELDS = {
    "train": "root.random_split_signals(128, 2).apply(unhurried)",
    "epochs": "150",
    "test_every": "'15 epochs'",
    "split": "Split(0.5)",
    "repetitions": "2",
}
GRID = grid_text(
    before=UNHURRIED,
    grid="Option('momentum', [0.5, 0.9]) * Option('hidden', [2, 3, 4])",
    model="NumpyNet",
    model_arguments="",
    optimizer="Optimizer('sgd', learning_rate=1e-2)",
    **_FIELDS,
)
#: Another study, of networks with dropout, by Adam.
KERAS_GRID = grid_text(
    before=UNHURRIED,
    grid="Option('layout', ['cna', 'ca', 'cn'])",
    model_arguments="{'blocks': [1], 'filters': [4], 'input_filters': 2}",
    optimizer="Optimizer('adam', learning_rate=1e-3)",
    **_FIELDS,
)
#: Ten records to train on, five in a batch.
N_ITERATIONS = 300
#: Seconds that a run takes at least, alone in its process, with UNHURRIED_S = 0.001.
RUN_S = N_ITERATIONS * 5 * 2 * 0.001


@dataclass(frozen=True)
class Fault:
    """A SIGKILL at a certain call in a driver or a worker, once.

    Attributes
    ----------
    role
        ``driver`` or ``worker``.
    call
        Where: the function or method, patched in the module that defines it.
    number
        At which call in the process, from 1.
    after
        After the call and not before it, if it went well; the caller doesn't hear its answer.
    kill
        The process ``itself``, or the group whose number this file holds.
    only
        Count only calls with these keyword arguments.
    """

    role: str
    call: Callable[..., Any]
    number: int = 1
    after: bool = False
    kill: str = "itself"
    only: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the fault is called once it has happened."""
        where = f"{self._module}.{self.call.__qualname__}".replace(".", "_")
        return f"{self.role}_{where}_{self.number}_{'after' if self.after else 'before'}"

    def encoded(self) -> dict[str, Any]:
        """Return the fault as JSON values, with the function by its names."""
        names = {"name": self.name, "module": self._module, "call": self.call.__qualname__}
        return {**asdict(self), **names}

    @property
    def _module(self) -> str:
        # The functions of `os` are defined in `posix`, where nobody looks them up.
        return "os" if self.call.__module__ == os.name else self.call.__module__


@dataclass
class Driver:
    """A driver process, and what it has said."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def parent(self) -> str | None:
        """The id of its parent run, once it has told it."""
        found = re.search(r"parent run (\w+)", self.said)
        return found and found[1]

    @property
    def resumes_by(self) -> list[str]:
        """The arguments of the command that goes on with the study, as it was told."""
        return commands(self.said)[-1]

    def wait(self, seconds: float = 1000) -> int:
        """Return the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on and on: {self.said}") from None

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Return what the condition returns, once that is true, while the driver lives."""

        def met() -> Any:
            found = condition()
            assert found or self.process.poll() is None, f"it ended too soon: {self.said}"
            return found

        return wait_for(met)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each command to resume a study that the text tells."""
    return [
        found.split()[1:] for found in re.findall(r"go on with: (ecg-mlflow run .*)", text, re.I)
    ]


class Lab:
    """A folder with a store, a cache and a grid file, where studies run as processes.

    Parameters
    ----------
    folder
        For all of it.
    records
        What is trained on.
    uri
        The store; by default a new sqlite file in the folder, a copy of `empty`.
    empty
        A store without studies.
    grid
        Text of the grid file.
    environment
        For all its processes.
    """

    def __init__(
        self,
        folder: Path,
        records: Path,
        *,
        uri: str | None = None,
        empty: Path | None = None,
        grid: str = GRID,
        **environment: str,
    ) -> None:
        self.folder, self.records = folder, records
        self.mark = uuid.uuid4().hex
        (folder / "grid.py").write_text(grid)
        for name in ("faults", "tmp"):
            (folder / name).mkdir()
        if uri is None:
            assert empty is not None
            shutil.copy(empty, folder / "mlflow.db")
            uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.uri = uri
        self.client = connect(uri)
        self.environment = {
            **{key: value for key, value in os.environ.items() if key != "MLFLOW_RUN_ID"},
            MARK: self.mark,
            "MLFLOW_TRACKING_URI": uri,
            "ECG_MLFLOW_CACHE": str(folder / "cache"),
            "ECG_MLFLOW_CHECKPOINTS": str(folder / "checkpoints"),
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TMPDIR": str(folder / "tmp"),  # who is killed leaves files there
            "UNHURRIED_S": "0.001",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(NETWORKS), os.environ.get("PYTHONPATH")])
            ),
            **environment,
        }
        self._n_started = 0

    # --- Commands ------------------------------------------------------------------------------

    def start(self, *arguments: str, faults: Sequence[Fault] = ()) -> Driver:
        """Start a command."""
        self._n_started += 1
        output = self.folder / f"output-{self._n_started}.txt"
        environment = dict(self.environment)
        if faults:
            environment["FAULTS"] = json.dumps([fault.encoded() for fault in faults])
            environment["FAULTS_DONE"] = str(self.folder / "faults")
            environment["FAULTS_WORKER"] = worker_main.__name__
            folders = (str(FOLDER / "faults"), environment["PYTHONPATH"])
            environment["PYTHONPATH"] = os.pathsep.join(folders)
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "ecg_mlflow", *arguments],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return Driver(process, output)

    def run(self, *more: str, faults: Sequence[Fault] = ()) -> Driver:
        """Start the study, or go on with it if `more` says so; two workers, many checkpoints.

        What `more` says of these counts.
        """
        chosen = more if "--resume" in more else ("grid.py", "--data", str(self.records), *more)
        often = ("--workers", "2", "--checkpoint-minutes", "0.02")
        return self.start("run", *often, *chosen, faults=faults)

    def call(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; return the exit status and what it said."""
        driver = self.start(*arguments)
        return driver.wait(), driver.said

    def happened(self) -> set[str]:
        """Return the names of the faults that have happened."""
        return {path.name for path in (self.folder / "faults").iterdir()}

    # --- Processes -----------------------------------------------------------------------------

    def processes(self) -> list[int]:
        """List all processes that this lab's commands have started, and that still live."""
        return [pid for pid in _all_processes() if self._is_mine(pid)]

    def workers(self) -> list[int]:
        """List those that are workers."""
        return [pid for pid in self.processes() if _is_worker(pid)]

    def _is_mine(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return f"{MARK}={self.mark}".encode() in environment and state not in "ZX"

    def kill_all(self) -> None:
        """End whatever of this lab still runs."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- What is in the store ------------------------------------------------------------------

    def children(self, parent: str) -> list[Run]:
        experiment = self.client.get_run(parent).info.experiment_id
        query = f"tags.`{PARENT_TAG}` = '{parent}'"
        return list(self.client.search_runs([experiment], query, max_results=1000))

    def statuses(self, parent: str) -> Counter[str]:
        return Counter(run.info.status for run in self.children(parent))

    def running(self) -> list[str]:
        """Return the names of all runs of the store that look alive."""
        experiments = [one.experiment_id for one in self.client.search_experiments()]
        runs = self.client.search_runs(experiments, "attributes.status = 'RUNNING'")
        return [run.info.run_name for run in runs]

    def left_over(self) -> list[str]:
        """Return the names of what is left in the checkpoint folder."""
        return sorted(p.name for p in Path(self.environment["ECG_MLFLOW_CHECKPOINTS"]).glob("*"))

    def is_training(self, parent: str) -> bool:
        """Say whether a run has losses in the store, and is not over."""
        return any(
            run.info.status == "RUNNING" and "loss" in run.data.metrics
            for run in self.children(parent)
        )


@contextmanager
def opened_lab(*args: Any, **options: Any) -> Iterator[Lab]:
    """Give a lab, and leave none of its processes behind."""
    lab = Lab(*args, **options)
    try:
        yield lab
    finally:
        lab.kill_all()


@dataclass(frozen=True)
class Portrait:
    """What a run has come to, but for times and speeds.

    Attributes
    ----------
    histories
        Steps and values of each metric in the order of their times; of the figures of the
        machine, their steps alone.
    params
        All of them.
    datasets
        Digests and contexts of its data sets.
    artifacts
        Names of the files; the predictions' and the configuration's text.
    models
        Name, status and step of each model, the files of it, and its weights' hash.
    """

    histories: dict[str, list[tuple[int, float]]]
    params: dict[str, str]
    datasets: list[tuple[str, str]]
    artifacts: dict[str, str]
    models: list[tuple[str, str, list[int], list[str], str]]


#: Artifacts that are compared by their text; images differ in nothing but what is not looked at.
TEXTS = ("configuration.json", "predictions/last.csv", "predictions/best.csv")
#: ... of a search, whose runs leave the test records alone.
SEARCH_TEXTS = (*TEXTS, "predictions/validation_best.csv")


def portrait(client: MlflowClient, run: Run, scratch: Path) -> Portrait:
    """Look at a run."""
    run_id = run.info.run_id
    histories = {}
    for name in run.data.metrics:
        values = client.get_metric_history(run_id, name)
        values.sort(key=lambda metric: (metric.timestamp, metric.step))
        machine = name.startswith("system/")
        histories[name] = [(m.step, 0.0 if machine else m.value) for m in values]
    names = _files(lambda folder: client.list_artifacts(run_id, folder))
    scratch.mkdir(parents=True, exist_ok=True)
    with environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
        texts = {
            name: Path(client.download_artifacts(run_id, name, str(scratch))).read_text()
            for name in names
            if name in SEARCH_TEXTS
        }
    query = f"source_run_id = '{run_id}'"
    models = client.search_logged_models([run.info.experiment_id], filter_string=query)
    steps: dict[str, list[int]] = {}
    for output in run.outputs.model_outputs:
        steps.setdefault(output.model_id, []).append(output.step)
    return Portrait(
        histories,
        dict(run.data.params),
        sorted((one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs),
        {name: texts.get(name, "") for name in names},
        sorted(_model_portrait(client, m, steps.get(m.model_id, []), scratch) for m in models),
    )


def _model_portrait(
    client: MlflowClient, model: LoggedModel, steps: list[int], scratch: Path
) -> tuple[str, str, list[int], list[str], str]:
    files = _files(lambda folder: client.list_logged_model_artifacts(model.model_id, folder))
    network = f"artifacts/{model.name}.keras"
    weights = ""
    if network in files:
        with environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
            path = download_artifacts(
                f"{model.artifact_location}/{network}",
                dst_path=str(scratch),
                tracking_uri=client.tracking_uri,
            )
        weights = _weights_hash(Path(path))
        Path(path).unlink()
    return model.name, str(model.status), steps, files, weights


def _weights_hash(keras_file: Path) -> str:
    """Return a hash of a network's weights: the bytes of Keras's files differ by their dates."""
    found = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found.update(name.encode() + item[()].tobytes())

    with zipfile.ZipFile(keras_file) as archive:
        if "model.weights.h5" in archive.namelist():
            weights = archive.read("model.weights.h5")
            h5py.File(io.BytesIO(weights)).visititems(add)
        else:  # of the network in NumPy
            found.update(keras_file.read_bytes())
    return found.hexdigest()[:16]


def _files(look: Callable[[str | None], Any], folder: str | None = None) -> list[str]:
    found: list[str] = []
    for item in look(folder):
        found += _files(look, item.path) if item.is_dir else [item.path]
    return sorted(found)


def first_repetition(expected: dict[str, Portrait]) -> dict[str, Portrait]:
    """Return what is expected of the study with ``--reps 1``."""
    return {key: one for key, one in expected.items() if one.params["repetition"] == "0"}


def assert_same(lab: Lab, parent: str, expected: dict[str, Portrait], *, replaced: int = 0) -> None:
    """Check that a study has ended as an undisturbed one, and left nothing behind.

    Parameters
    ----------
    lab, parent
        The study.
    expected
        The undisturbed runs by identity.
    replaced
        How many children may have been given up for others.
    """
    children = lab.children(parent)
    finished = [run for run in children if run.info.status == "FINISHED"]
    assert Counter(r.data.tags[IDENTITY] for r in finished) == Counter(list(expected))
    assert len(children) - len(finished) == replaced, [r.info.status for r in children]
    assert lab.client.get_run(parent).info.status == "FINISHED"
    assert not lab.running(), lab.running()
    problems: list[str] = []
    for run in finished:
        mine = portrait(lab.client, run, lab.folder / "scratch")
        found = differences(mine, expected[run.data.tags[IDENTITY]])
        problems += [f"{run.info.run_name} ({run.info.run_id}): {one}" for one in found]
    assert not problems, "\n".join(problems)
    assert not lab.left_over(), lab.left_over()


def differences(mine: Portrait, expected: Portrait) -> list[str]:
    """Say in what two portraits differ, one line each."""
    found = []
    for name in sorted(mine.histories.keys() | expected.histories.keys()):
        got, wanted = mine.histories.get(name, []), expected.histories.get(name, [])
        if got != wanted:
            pairs = enumerate(zip(got, wanted, strict=False))
            place = next((i for i, (a, b) in pairs if a != b), -1)
            found.append(
                f"{name} has {len(got)} values for {len(wanted)}; at {place} of them "
                f"{got[max(place - 1, 0) : place + 2]} for {wanted[max(place - 1, 0) : place + 2]}"
            )
    for name in ("params", "datasets", "artifacts", "models"):
        got, wanted = getattr(mine, name), getattr(expected, name)
        if got != wanted:
            found.append(f"{name} are {str(got)[:500]} for {str(wanted)[:500]}")
    return found


def undisturbed(
    factory: pytest.TempPathFactory, records: Path, *more: str, grid: str = GRID
) -> dict[str, Portrait]:
    """Run a study, or a part of it, once without any trouble; return its runs by identity."""

    def make(folder: Path) -> None:
        with opened_lab(
            folder, records, empty=empty_store(factory), grid=grid, UNHURRIED_S="0"
        ) as lab:
            driver = lab.run(*more)
            assert driver.wait() == 0, driver.said
            assert lab.left_over() == []
            found = portraits(lab, driver.parent)
        for one in found.values() if grid in (GRID, KERAS_GRID) else ():
            _check_whole(one)
        (folder / "portraits.pickle").write_bytes(pickle.dumps(found))

    digest = hashlib.sha256("".join([grid, *more]).encode()).hexdigest()
    folder = made_once(factory, f"undisturbed-{digest[:8]}", make)
    found: dict[str, Portrait] = pickle.loads((folder / "portraits.pickle").read_bytes())
    return found


def portraits(lab: Lab, parent: str) -> dict[str, Portrait]:
    """Look at the finished runs of a study, by identity."""
    runs = [run for run in lab.children(parent) if run.info.status == "FINISHED"]
    found = {r.data.tags[IDENTITY]: portrait(lab.client, r, lab.folder / "scratch") for r in runs}
    assert len(found) == len(runs)
    return found


def _check_whole(one: Portrait) -> None:
    """Check that there is something to compare."""
    assert [step for step, _ in one.histories["loss"]] == list(range(N_ITERATIONS))
    tests = [step for step, _ in one.histories["test_f1"]]
    assert tests == list(range(29, N_ITERATIONS, 30))
    assert [(name, status) for name, status, _, _, weights in one.models if weights] == [
        ("best", "READY"),
        ("last", "READY"),
    ]
    assert all(one.artifacts[name] for name in TEXTS)
    assert len(one.datasets) == 2


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _is_worker(pid: int) -> bool:
    try:
        return worker_main.__name__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
