from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ecg_mlflow.cli.environment import base_folders


def test_paths_start_at_the_callers_folder_only_under_mlflow_run(monkeypatch, tmp_path):
    caller = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        monkeypatch.setattr(os, "getppid", lambda: caller.pid)
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
        assert base_folders() == (Path.cwd(),)
        monkeypatch.setenv("MLFLOW_RUN_ID", "0")
        assert base_folders() == (tmp_path, Path.cwd())
    finally:
        caller.kill()
        caller.wait()
