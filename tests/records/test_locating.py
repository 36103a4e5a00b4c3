from __future__ import annotations

import pytest

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.locating import asked_for, demo_source, is_demo, locate


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *[(data, True) for data in ("demo", "demo:5", "demo12", "demo12:200:7")],
        *[(data, False) for data in ("demo13", "demos", "cinc2017", "/x/demo", "./demo")],
    ],
)
def test_words_for_made_up_records(data, expected):
    assert is_demo(data) is expected


@pytest.mark.parametrize("data", ["demo:3:1", "demo12:2:5"])
def test_a_corpus_says_what_to_ask_for(data):
    folder, source = locate(data)
    assert len(list(folder.glob("*.hea"))) == int(data.split(":")[1])
    assert demo_source(source) == asked_for(source) == data


def test_other_sources_are_asked_for_as_they_are():
    assert demo_source("/data/demo: 3") is None
    assert asked_for("cinc2017: PhysioNet/CinC Challenge 2017") == "cinc2017"
    assert asked_for("/data/records") == "/data/records"


@pytest.mark.parametrize("data", ["demo:many", "demo12:", "demo12:1:2:3"])
def test_words_that_can_not_be_read(data):
    with pytest.raises(DataNotFoundError, match="likewise demo12"):
        locate(data)
