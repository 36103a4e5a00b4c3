"""Records for the tests of plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecg_mlflow import load_corpus
from ecg_mlflow.records import Corpus


@pytest.fixture
def corpus(beats: Path) -> Corpus:
    """Give twenty short records in two classes."""
    return load_corpus(str(beats))
