"""Studies in processes of their own, to be killed, and what must be the same all the same.

The study is trained by NumPy: checkpoints, metrics, locks and store are as with Keras, and a
process is there in a third of the time. Its training pipeline sleeps in each window for as long as
``UNHURRIED_S`` says, which changes nothing that is computed: how far a study has come by a certain
time then depends little on the machine, and costs it nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import psutil
from gallery import made_once, new_store
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from studies import NETWORKS, PARENT_TAG, grid_text, numpy_grid
from waiting import wait_for

from ecg_mlflow.executors import worker_main
from ecg_mlflow.tracking.client import connect, environment
from ecg_mlflow.tracking.stored_run import IDENTITY_TAG

MARK = "ECG_MLFLOW_TEST_MARK"
FINISHED = {"status": "FINISHED"}
#: Of the random moments; another one for another try.
SEED = int(os.environ.get("CHAOS_SEED", "0"))

# Ten records to train on, five in a batch.
_FIELDS = {
    "train": "root.random_split_signals(128, 2).apply(unhurried)",
    "epochs": "40",
    "test_every": "'5 epochs'",
    "split": "Split(0.5)",
    "repetitions": "2",
}
N_ITERATIONS = 80
GRID = numpy_grid(
    grid="Option('momentum', [0.5, 0.9]) * Option('hidden', [2, 3, 4])",
    optimizer="Optimizer('sgd', learning_rate=1e-2)",
    **_FIELDS,
)
#: Another study, of networks with dropout, by Adam.
KERAS_GRID = grid_text(
    before="from numpy_net import unhurried",
    grid="Option('layout', ['cna', 'ca', 'cn'])",
    model_arguments="{'blocks': [1], 'filters': [4], 'input_filters': 2}",
    optimizer="Optimizer('adam', learning_rate=1e-3)",
    **_FIELDS,
)
#: Three runs of either.
FEW = ("--configs", "0-2", "--reps", "1")


@dataclass(frozen=True)
class Fault:
    """A SIGKILL at a certain call in a driver or a worker, once."""

    #: ``driver`` or ``worker``.
    role: str
    #: The function or method, patched in the module that defines it.
    call: Callable[..., Any]
    #: At which call in the process, from 1, of those with the keyword arguments `only`.
    number: int = 1
    #: After the call, if it went well, and not before it; the caller doesn't hear its answer.
    after: bool = False
    #: The process ``itself``, or the group whose number this file holds.
    kill: str = "itself"
    only: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the fault is called once it has happened."""
        when = "after" if self.after else "before"
        return f"{self.role} {when} {self.call.__qualname__} {self.number}"

    def encoded(self) -> dict[str, Any]:
        """Return the fault as JSON values, with the function by its names."""
        # The functions of `os` are defined in `posix`, where nobody looks them up.
        module = "os" if self.call.__module__ == os.name else self.call.__module__
        names = {"name": self.name, "module": module, "call": self.call.__qualname__}
        return {**asdict(self), **names}


class Driver(subprocess.Popen[bytes]):
    """A driver process, and what it has said."""

    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def parent(self) -> str | None:
        """The id of its parent run, once it has told it."""
        found = re.search(r"parent run (\w+)", self.said)
        return found and found[1]

    def end(self) -> int:
        """Return the exit status, once there is one."""
        try:
            return self.wait(1000)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on and on: {self.said}") from None

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Return what the condition returns, once that is true, while the driver lives."""

        def met() -> Any:
            found = condition()
            assert found or self.poll() is None, f"it ended too soon: {self.said}"
            return found

        return wait_for(met)

    def kill(self) -> None:
        super().kill()
        self.wait()


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each command to resume a study that the text tells."""
    return [found.split() for found in re.findall("(?i)go on with: ecg-mlflow (run .*)", text)]


class Lab:
    """A folder with a store, a cache and a grid file, where studies run as processes.

    As a context manager it leaves none of its processes behind.
    """

    def __init__(self, factory, records, grid=GRID, uri=None, **environment):
        self.factory, self.records, self.grid = factory, records, grid
        self.folder = folder = factory.mktemp("lab")
        self.uri = uri or new_store(factory, folder)
        self.mark = uuid.uuid4().hex
        self.client = connect(self.uri)
        (folder / "grid.py").write_text(grid)
        for name in ("faults", "tmp"):
            (folder / name).mkdir()
        self.environment = {
            **{key: value for key, value in os.environ.items() if key != "MLFLOW_RUN_ID"},
            MARK: self.mark,
            "MLFLOW_TRACKING_URI": self.uri,
            "ECG_MLFLOW_CACHE": str(folder / "cache"),
            "ECG_MLFLOW_CHECKPOINTS": str(folder / "checkpoints"),
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TMPDIR": str(folder / "tmp"),  # who is killed leaves files there
            "UNHURRIED_S": "0.002",  # 1.6 s a run
            "PYTHONPATH": str(NETWORKS),
            **environment,
        }

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    # --- Commands ------------------------------------------------------------------------------

    def start(self, *arguments: str, faults: Sequence[Fault] = ()) -> Driver:
        """Start a command."""
        environment = dict(self.environment)
        if faults:
            environment |= {
                "FAULTS": json.dumps([fault.encoded() for fault in faults]),
                "FAULTS_DONE": str(self.folder / "faults"),
                "FAULTS_WORKER": worker_main.__name__,
                "PYTHONPATH": f"{Path(__file__).parent / 'faults'}{os.pathsep}{NETWORKS}",
            }
        output = self.folder / f"output-{uuid.uuid4().hex}.txt"
        with output.open("wb") as file:
            driver = Driver(
                [sys.executable, "-m", "ecg_mlflow", *arguments],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        driver.output = output
        return driver

    def run(self, *more: str, faults: Sequence[Fault] = ()) -> Driver:
        """Start the study, or go on with it if `more` says so; two workers, many checkpoints.

        What `more` says of these counts.
        """
        chosen = more if "--resume" in more else ("grid.py", "--data", str(self.records), *more)
        often = ("--workers", "2", "--checkpoint-minutes", "0.01")
        return self.start("run", *often, *chosen, faults=faults)

    def run_until_it_trains(self, *more: str, faults: Sequence[Fault] = ()) -> Driver:
        """Start the study, and wait until losses have come to the store."""
        driver = self.run(*more, faults=faults)
        driver.wait_for(lambda: driver.parent and self.is_training(driver.parent))
        return driver

    def finish(self, parent: str) -> Driver:
        """Go on with the study to its end, by one worker and in a hurry."""
        self.environment["UNHURRIED_S"] = "0"
        driver = self.run("--resume", parent, "--workers", "1")
        assert driver.end() == 0, driver.said
        assert "Traceback" not in driver.said
        return driver

    def undisturbed(self, *more: str) -> dict[str, Portrait]:
        """Run the study, or a part of it, without any trouble; return its runs by identity.

        Once for all tests.
        """

        def make(folder: Path) -> None:
            with Lab(self.factory, self.records, self.grid, UNHURRIED_S="0") as lab:
                driver = lab.run("--workers", "1", *more)
                assert driver.end() == 0, driver.said
                assert_clean(lab)
                children = lab.children(driver.parent)
                found = lab.portraits(children)
            assert len(found) == len(children)
            for one in found.values() if self.grid in (GRID, KERAS_GRID) else ():
                _check_whole(one)
            (folder / "portraits.pickle").write_bytes(pickle.dumps(found))

        digest = hashlib.sha256("".join([self.grid, *more]).encode()).hexdigest()
        folder = made_once(self.factory, f"undisturbed-{digest[:8]}", make)
        found: dict[str, Portrait] = pickle.loads((folder / "portraits.pickle").read_bytes())
        return found

    def call(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; return the exit status and what it said."""
        driver = self.start(*arguments)
        return driver.end(), driver.said

    def happened(self) -> set[str]:
        """Return the names of the faults that have happened."""
        return {path.name for path in (self.folder / "faults").iterdir()}

    # --- Processes -----------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """List all processes that this lab's commands have started, and that still live."""
        return [
            process
            for process in psutil.process_iter(["environ", "status", "cmdline"])
            if (process.info["environ"] or {}).get(MARK) == self.mark
            and process.info["status"] not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        ]

    def workers(self) -> list[psutil.Process]:
        """List those that are workers."""
        return [one for one in self.processes() if worker_main.__name__ in one.info["cmdline"]]

    def wait_until_all_have_ended(self) -> None:
        wait_for(lambda: not self.processes())

    # --- What is in the store ------------------------------------------------------------------

    def children(self, parent: str) -> list[Run]:
        experiment = self.client.get_run(parent).info.experiment_id
        return list(self.client.search_runs([experiment], f"tags.`{PARENT_TAG}` = '{parent}'"))

    def status(self, parent: str) -> str:
        return str(self.client.get_run(parent).info.status)

    def n_finished(self, parent: str) -> int:
        return sum(run.info.status == "FINISHED" for run in self.children(parent))

    def running(self) -> list[str]:
        """Return the names of all runs of the store that look alive."""
        experiments = [one.experiment_id for one in self.client.search_experiments()]
        runs = self.client.search_runs(experiments, "attributes.status = 'RUNNING'")
        return [run.info.run_name for run in runs]

    def left_over(self) -> list[str]:
        """Return the names of what is left in the checkpoint folder."""
        folder = Path(self.environment.get("ECG_MLFLOW_CHECKPOINTS", os.devnull))
        return sorted(path.name for path in folder.glob("*"))

    def n_losses(self, parent: str) -> int:
        """Return how many losses the store has of the study."""
        runs = self.children(parent)
        return sum(len(self.client.get_metric_history(run.info.run_id, "loss")) for run in runs)

    def is_training(self, parent: str) -> bool:
        """Say whether a run has losses in the store, and is not over."""
        return any(
            run.info.status == "RUNNING" and "loss" in run.data.metrics
            for run in self.children(parent)
        )

    def portraits(self, runs: Iterable[Run]) -> dict[str, Portrait]:
        """Look at runs, by identity."""
        return {run.data.tags[IDENTITY_TAG]: self.portrait(run) for run in runs}

    def portrait(self, run: Run) -> Portrait:
        """Look at a run."""
        data, run_id = run.data, run.info.run_id
        found: Portrait = {f"param {name}": value for name, value in data.params.items()}
        found["datasets"] = sorted(
            (one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs
        )
        for name in data.metrics:
            values = self.client.get_metric_history(run_id, name)
            values.sort(key=lambda metric: (metric.timestamp, metric.step))
            machine = name.startswith("system/")
            found[f"metric {name}"] = [(m.step, 0.0 if machine else m.value) for m in values]
        for name, content in self._download(f"runs:/{run_id}/").items():
            found[f"artifact {name}"] = content if name.endswith((".csv", ".json")) else b""
        models = self.client.search_logged_models(
            [run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'"
        )
        for model in models:
            files = self._download(model.artifact_location)
            network = files.get(f"artifacts/{model.name}.keras", b"")
            logged = (one for one in run.outputs.model_outputs if one.model_id == model.model_id)
            found.setdefault(f"model {model.name}", []).append(
                (str(model.status), [one.step for one in logged], sorted(files), _weights(network))
            )
        return found

    def _download(self, uri: str) -> dict[str, bytes]:
        folder = self.folder / "scratch" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        with environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
            root = Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=self.uri))
        files = [path for path in root.rglob("*") if path.is_file()]
        return {str(path.relative_to(root)): path.read_bytes() for path in files}


#: What a run has come to, but for times and speeds: steps and values of ``metric NAME`` in the
#: order of their times (of the figures of the machine, their steps alone), ``param NAME``, the
#: digests of ``datasets``, the text of ``artifact NAME``, the state and the weights of ``model
#: NAME``.
Portrait = dict[str, Any]


def _weights(keras_file: bytes) -> str:
    """Return a hash of a network's weights: the bytes of Keras's files differ by their dates."""
    if not keras_file:
        return ""
    found = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found.update(name.encode() + item[()].tobytes())

    with zipfile.ZipFile(io.BytesIO(keras_file)) as archive:
        if "model.weights.h5" in archive.namelist():
            h5py.File(io.BytesIO(archive.read("model.weights.h5"))).visititems(add)
        else:  # of the network in NumPy
            found.update(keras_file)
    return found.hexdigest()[:16]


def differences(mine: Portrait, expected: Portrait) -> list[str]:
    """Say in what two portraits differ, one line each."""
    found = []
    for name in sorted(mine.keys() | expected.keys()):
        got, wanted = mine.get(name), expected.get(name)
        if got != wanted:
            texts = str(got), str(wanted)
            at = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
            found.append(f"{name}: ...{texts[0][at:][:300]} for ...{texts[1][at:][:300]}")
    return found


def assert_same(lab: Lab, parent: str, expected: dict[str, Portrait], *, replaced: int = 0) -> None:
    """Check that a study has ended as an undisturbed one, and left nothing behind.

    So many of its children may have been replaced by others.
    """
    children = lab.children(parent)
    finished = [run for run in children if run.info.status == "FINISHED"]
    assert Counter(r.data.tags[IDENTITY_TAG] for r in finished) == Counter(list(expected))
    assert len(children) - len(finished) == replaced, [r.info.status for r in children]
    assert lab.status(parent) == "FINISHED"
    assert_clean(lab)
    problems = [
        f"{run.info.run_name} ({run.info.run_id}): {one}"
        for run in finished
        for one in differences(lab.portrait(run), expected[run.data.tags[IDENTITY_TAG]])
    ]
    assert not problems, "\n".join(problems)


def assert_clean(lab: Lab) -> None:
    """Check that nothing runs, and that no checkpoint is left."""
    lab.wait_until_all_have_ended()
    assert (lab.running(), lab.left_over()) == ([], [])


def _check_whole(one: Portrait) -> None:
    """Check that there is something to compare."""
    assert [step for step, _ in one["metric loss"]] == list(range(N_ITERATIONS))
    assert [step for step, _ in one["metric test_f1"]] == list(range(9, N_ITERATIONS, 10))
    for name in ("best", "last"):
        assert one[f"artifact predictions/{name}.csv"]
        ((status, steps, files, _),) = one[f"model {name}"]
        assert (status, len(steps)) == ("READY", 1)
        assert f"artifacts/{name}.keras" in files
    assert len(one["datasets"]) == 2
    assert one["artifact configuration.json"]
