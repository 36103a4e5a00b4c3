"""What a promotion takes where all artifacts go through an MLflow server that asks for a login.

    pip install 'mlflow[auth]'
    python benchmarks/promotion.py [CHECKOUT ...]

For each checkout of this project, by default this one: a fresh server with basic authentication on
this machine, a study of one small network on made-up records, and its promotion. Counted are the
requests for artifacts by method, and all requests. On a network each takes its latency, too; the
server itself takes about 80 ms to check a password.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

USER, PASSWORD = "admin", "of-this-benchmark"
CONFIG = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/auth.db
admin_username = {user}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
GRID = """
from ecg_mlflow import Option, Pipeline, Research, ResNet, Split
root = Pipeline().rename_labels({"N": "NO", "O": "NO", "~": "NO"})
research = Research(
    grid=Option("layout", ["cna"]),
    model=ResNet,
    model_arguments={"blocks": [1], "filters": [4], "input_filters": 4},
    train=root.random_split_signals(1000, 2),
    test=root.split_signals(1000, step=1000),
    classes=["A", "NO"],
    epochs=1,
    split=Split((0.4, 0.2, 0.4), stratified=True, seed=0),
)
"""


def measure(checkout: Path) -> None:
    """Promote once with the code of a checkout, and print what it took."""
    folder = Path(tempfile.mkdtemp(prefix="promotion-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "auth.ini"
    config.write_text(CONFIG.format(folder=folder, user=USER, password=PASSWORD))
    (folder / "one.py").write_text(GRID)
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD,
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }
    python = [sys.executable, "-m"]
    serve = [*python, "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    serve += ["--backend-store-uri", f"sqlite:///{folder}/store.db", "--port", str(port)]
    serve += ["--artifacts-destination", str(folder / "artifacts")]
    log = folder / "server.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            serve, cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        study = ["ecg_mlflow", "run", "one.py", "--data", "demo:120", "--workers", "1"]
        subprocess.run([*python, *study], cwd=folder, env=environment, check=True)
        before = len(log.read_text().splitlines())
        began = time.perf_counter()
        promote = ["ecg_mlflow", "promote", "one", "--name", "one", "--resamples", "50"]
        subprocess.run([*python, *promote], cwd=folder, env=environment, check=True)
        seconds = time.perf_counter() - began
    finally:
        os.killpg(server.pid, signal.SIGKILL)
    lines = [line for line in log.read_text().splitlines()[before:] if " HTTP/1" in line]
    methods = Counter(
        found[1]
        for line in lines
        if "mlflow-artifacts" in line and (found := re.search(r'"([A-Z]+) ', line))
    )
    print(f"{checkout}: {seconds:.1f} s, artifacts {dict(methods)}, all requests {len(lines)}")


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(url)


if __name__ == "__main__":
    for given in sys.argv[1:] or [str(Path(__file__).parents[1])]:
        measure(Path(given).absolute())
