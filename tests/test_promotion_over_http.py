"""A promotion where all artifacts go through a server, which takes a request for each file."""

from __future__ import annotations

from collections import Counter

import pytest
import requests
from servers import MlflowServer
from studies import grid_text

from ecg_mlflow.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # requests and its client leave idle keep-alive sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

STUDY = grid_text(
    grid="Option('layout', ['cna'])",
    split="Split((0.4, 0.2, 0.4), stratified=True, seed=0)",
    epochs="1",
)


@pytest.fixture
def sent(monkeypatch):
    """Count this process's requests for artifacts, by method."""
    counts: Counter[str] = Counter()
    send = requests.Session.send

    def counted(self, request, **options):
        if "mlflow-artifacts" in request.url:
            counts[request.method] += 1
        return send(self, request, **options)

    monkeypatch.setattr(requests.Session, "send", counted)
    return counts


def test_a_model_is_promoted_in_few_requests(workplace, tmp_path, monkeypatch, sent, capsys):
    (tmp_path / "artifacts").mkdir()
    with MlflowServer(f"sqlite:///{tmp_path / 'new.db'}", tmp_path).running() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        grid = workplace.write_grid(STUDY)
        assert workplace.run(grid, "--workers", "0", experiment="http") == 0
        sent.clear()
        assert main(["promote", "small", "--name", "waves", "--resamples", "50"]) == 0
        said = capsys.readouterr()
    assert sent["PUT"] == 13, sent
    assert sum(sent.values()) <= 20, sent
    assert "sending 12 files of the model, " in said.err
    assert " MB: done" in said.err
