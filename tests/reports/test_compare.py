"""What `compare` prints, and the files of its report."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from comparisons import configuration, results_of
from simulated import answers, better, difficulties

from ecg_mlflow.errors import PredictionsError, StorageError
from ecg_mlflow.reports import compare
from ecg_mlflow.reports.compare import compare_studies
from ecg_mlflow.reports.study_results import ComparisonOptions, Results

OPTIONS = ComparisonOptions("", resamples=100)
FILES = ("calibration.png", "configurations.csv", "curves.png", "intervals.png", "pairs.csv",
         "report.html", "size.png")  # fmt: skip


class Store:
    """Keeps the artifacts of runs in folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def log_artifacts(self, run_id: str, folder: str, path: str) -> None:
        shutil.copytree(folder, self.root / run_id / path)


@pytest.fixture(scope="module")
def results() -> Results:
    """Networks of three repetitions that find more and alarm less by so much."""
    sides = [difficulties(np.random.default_rng(i), n, 0.3) for i, n in enumerate((300, 150))]
    found = []
    for name, extra, parameters in (
        ("good", 1.0, 900.0), ("good as well", 1.0, 500.0), ("poor", -2.0, 100.0)
    ):  # fmt: skip
        rng = np.random.default_rng(len(name))
        runs = [[answers(rng, side, **better(extra)) for side in sides] for _ in range(3)]
        found.append(configuration(name, *zip(*runs, strict=True), parameters))
    return results_of(*found, notes=("one study is old",))


def compared(results, tmp_path, monkeypatch, options=OPTIONS, output=None) -> str:
    monkeypatch.setattr(compare, "read_results", lambda client, names: results)
    return compare_studies(Store(tmp_path), ["waves"], options, output)


def test_the_table_and_the_conclusions(results, tmp_path, monkeypatch):
    lines = compared(results, tmp_path, monkeypatch).splitlines()
    assert [line.startswith("*") for line in lines[:4]] == [False, True, True, False]
    assert "poor" in lines[3]
    conclusions = lines[5:]
    assert conclusions[0] == (
        "2 of 3 configurations (marked) are not significantly different from the best in f1 on 300 "
        "test records, at 95%."
    )
    assert conclusions[1] == "The smallest of them is good as well."
    assert conclusions[-2:] == [
        "Note: one study is old.",
        "report: artifact comparison/report.html of run study",
    ]
    alone = replace(results, configurations=results.configurations[:1])
    assert "nothing to compare it with" in compared(alone, tmp_path / "2", monkeypatch)
    better = replace(results, configurations=results.configurations[1:])
    assert "good as well is significantly better than every other configuration in f1" in (
        compared(better, tmp_path / "3", monkeypatch)
    )


def test_the_report_is_logged_and_copied(results, tmp_path, monkeypatch):
    shown = compared(results, tmp_path, monkeypatch, output=tmp_path / "mine" / "here")
    assert shown.endswith(f"report: {tmp_path}/mine/here/report.html")
    logged, mine = tmp_path / "study" / "comparison", tmp_path / "mine" / "here"
    for folder in (logged, mine):
        assert tuple(sorted(file.name for file in folder.iterdir())) == FILES
    page = (mine / "report.html").read_text("utf-8")
    assert page.count("<img") == 4
    assert page.count('<tr class="lit">') == 2
    assert '<p class="note">one study is old.</p>' in page
    table = pd.read_csv(logged / "configurations.csv").set_index("configuration")
    for one in results.configurations:
        row, f1 = table.loc[one.name], np.mean([run.test.metrics["f1"] for run in one.runs])
        assert row["f1"] == pytest.approx(f1)
        assert max(row["f1_low"], row["f1_repetitions_low"]) < f1
        assert f1 < min(row["f1_high"], row["f1_repetitions_high"])
    assert table["as_good_as_the_best"].tolist() == [True, True, False]
    pairs = pd.read_csv(logged / "pairs.csv")
    assert pairs["second"].tolist()[1:] == ["poor", "poor"]
    assert pairs["f1_difference"].between(pairs["low"], pairs["high"]).all()


def test_an_unknown_metric_and_a_folder_that_is_a_file(results, tmp_path, monkeypatch):
    with pytest.raises(PredictionsError, match=r"metric='f2' is none of .* metrics: accuracy"):
        compared(results, tmp_path, monkeypatch, ComparisonOptions("f2"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"can't write {tmp_path}/file/"):
        compared(results, tmp_path, monkeypatch, output=tmp_path / "file")
    assert not (tmp_path / "study").exists()
