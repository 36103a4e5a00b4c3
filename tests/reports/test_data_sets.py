from __future__ import annotations

import pytest

from ecg_mlflow.cli import main
from ecg_mlflow.records.named_sets import data_sets
from ecg_mlflow.reports.data_sets import data_set_text, data_sets_page, data_sets_table


def test_the_list_has_a_line_for_each_data_set():
    head, *lines = data_sets_table().splitlines()
    assert head.split() == ["name", "records", "patients", "GB", "access", "licence", "signals"]
    assert [line.split()[0] for line in lines] == list(data_sets())
    [ptbxl] = [line for line in lines if line.startswith("ptbxl ")]
    assert ptbxl.split()[1:5] == ["21,799", "18,869", "2.6", "open"]


def test_a_data_set_is_described_with_licence_and_citation():
    text = data_set_text("ptbxl")
    for part in (
        "CC BY 4.0",
        "Scientific Data 7, 154",
        "open; downloaded by its name",
        "ptbxl:form",
    ):
        assert part in text
    assert "official split:   column strat_fold: validation 9, test 10, all others train" in text
    assert "overlap:          is a part of cinc2021" in text
    assert "not by its name: hdf5" in data_set_text("code15")
    assert "credentialed; by hand" in data_set_text("mimic-iv-ecg")


def test_the_page_has_a_section_for_each():
    page = data_sets_page()
    for name, one in data_sets().items():
        assert f"\n{name}\n{'-' * len(name)}\n" in f"\n{page}"
        assert f"- page: {one.page}" in page


@pytest.mark.parametrize("words", [[], ["afdb"]])
def test_the_command(words, capsys):
    assert main(["datasets", *words]) == 0
    assert "ODC-By 1.0" in capsys.readouterr().out


def test_the_command_tells_alike_names(capsys):
    assert main(["datasets", "ptb-xl"]) == 1
    assert "no data set is called 'ptb-xl'; there are ptbxl" in capsys.readouterr().err
