"""Names of data sets, and what they stand for."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records import named_sets
from ecg_mlflow.records.catalogue import asked_for, located
from ecg_mlflow.records.named_sets import DataSet, Fold, data_sets, named, overlap
from ecg_mlflow.records.sources import load_corpus

CLINIC = DataSet(
    name="clinic",
    title="Our clinic: emergencies",
    signals="1-lead",
    records="6",
    patients="—",
    access="restricted",
    license="none",
    page="https://clinic.example",
    labels="",
    shares={"ptbxl": "has recordings of {}"},
)


@pytest.mark.parametrize(
    ("data", "name", "choices", "folder"),
    [
        ("ptbxl", "ptbxl", (), None),
        ("ptbxl:super:500", "ptbxl", ("super", "500"), None),
        ("ptbxl:form@~/ptb-xl/1.0.3", "ptbxl", ("form",), "~/ptb-xl/1.0.3"),
        ("mimic-iv-ecg@a b:c@d", "mimic-iv-ecg", (), "a b:c@d"),
    ],
)
def test_names_and_what_follows_them(data, name, choices, folder):
    asked = named(data)
    assert (asked.data_set.name, asked.choices, asked.folder) == (name, choices, folder)
    assert str(asked) == data


def test_paths_are_no_names_and_unknown_words_are_refused():
    for data in ("records", "/data/ptbxl", "./ptbxl", "ptbxl/", "demo:3", "PTBXL", "*.hea", ""):
        assert named(data) is None
    with pytest.raises(
        DataNotFoundError, match=r"'supre' is no choice of ptbxl; .* super, sub, dia"
    ):
        named("ptbxl:supre")
    with pytest.raises(DataNotFoundError, match="'100' is no choice of afdb; they are: none"):
        named("afdb:100")


def test_a_folder_behind_a_name_is_found_from_the_callers_folder(tmp_path):
    (tmp_path / "copy").mkdir()
    assert located("ptbxl:all@copy", [tmp_path]) == f"ptbxl:all@{tmp_path}/copy"
    assert located("ptbxl:all@/copy", [tmp_path]) == "ptbxl:all@/copy"
    assert located("ptbxl", [tmp_path]) == "ptbxl"
    (tmp_path / "ptbxl").mkdir()
    assert located("ptbxl", [tmp_path]) == f"{tmp_path}/ptbxl", "a folder of that name goes first"


def test_data_sets_are_many_and_have_what_users_ask_for():
    known = data_sets()
    assert len(known) >= 65
    wanted = (
        "ptbxl cinc2017 cinc2020 cinc2021 cpsc2018 cpsc2021 afdb mitdb ltafdb georgia chapman ludb"
    )
    assert set(wanted.split()) <= set(known)
    for name, one in known.items():
        assert one.name == name
        assert all((one.title, one.signals, one.records, one.patients, one.license, one.page)), name
        assert one.access in ("open", "credentialed", "restricted")
        assert bool(one.files) <= (one.access == "open")
        assert set(one.shares) <= set(known)
        assert set(one.folder_of) <= set(one.choices)
    assert known["ptbxl"].fold == Fold("strat_fold", ("9",), ("10",))
    assert known["ptbxl"].files == "https://physionet.org/files/ptb-xl/1.0.3/"
    assert known["ptbxl"].gigabytes == pytest.approx(21_799 * 5000 * 12 * 2 / 1e9)


@pytest.mark.parametrize("part", ["ptbxl", "georgia", "cpsc2018", "ptbdb", "incartdb"])
def test_the_challenges_hold_other_data_sets(part):
    for year in ("cinc2020", "cinc2021"):
        assert overlap(part, year) == f"{part} is a part of {year}"
        told = (f"{part} is a part of {year}", f"{year} has {part} as a part")
        assert overlap(f"{year}@/data", part) in told
    assert (
        overlap("afdb", part) is overlap(part, "elsewhere") is overlap(part, f"{part}@/x") is None
    )


def test_other_overlaps():
    assert overlap("chapman", "cinc2021") == "chapman is a part of cinc2021"
    assert overlap("ecg-arrhythmia", "chapman@/x") == "chapman is a part of ecg-arrhythmia"
    assert overlap("chapman", "cinc2020") is overlap("georgia", "ptbxl") is None
    assert overlap("qtdb", "mitdb") == "qtdb is made of recordings of mitdb"
    assert (
        overlap("mimic-iv-ecg-demo", "mimic-iv-ecg")
        == "mimic-iv-ecg-demo is a part of mimic-iv-ecg"
    )


@pytest.fixture
def register(monkeypatch):
    """Register data sets as an installed package would."""

    def these(*registered):
        entry = EntryPoint("clinic", "clinic:CLINIC", named_sets.ENTRY_POINTS)
        monkeypatch.setattr(EntryPoint, "load", lambda self: registered[0])
        monkeypatch.setattr(named_sets, "entry_points", lambda group: [entry] * len(registered))
        data_sets.cache_clear()

    yield these
    monkeypatch.undo()
    data_sets.cache_clear()


def test_a_package_registers_its_data_set(register, small_folder):
    register(CLINIC)
    corpus = load_corpus(f"clinic@{small_folder}")
    assert len(corpus) == 6
    assert corpus.source == f"clinic@{small_folder}: Our clinic, emergencies"
    assert asked_for(corpus.source) == f"clinic@{small_folder}"
    for pair in (("ptbxl", "clinic"), ("clinic", "ptbxl")):
        assert overlap(*pair) == "clinic has recordings of ptbxl"
    register(CLINIC, CLINIC)
    with pytest.raises(
        DataNotFoundError, match="clinic:CLINIC registers a data set 'clinic', which"
    ):
        data_sets()


def test_copies_that_are_elsewhere_or_in_another_format(tmp_path):
    for data, message in (
        (f"afdb@{tmp_path}/none", "there is no folder .*none. Give the folder that MIT-BIH Atrial"),
        (f"code15@{tmp_path}", "the signals of code15 are in the format hdf5, which is not read"),
        (f"symile-mimic@{tmp_path}", "symile-mimic.* not read"),
        (f"georgia@{tmp_path}", "matches 0 files"),
        (f"ptbxl@{tmp_path}", "no WFDB|matches 0 files"),
    ):
        with pytest.raises(DataNotFoundError, match=message):
            load_corpus(data)
