"""Make the tables of labels of public data sets from the files that these publish.

A table has the columns record (the name of the header), label (several joined by commas), and where
they are known patient, age, sex and the official fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ecg_mlflow.records.label_sets import SEPARATOR, join_labels
from ecg_mlflow.records.labels import diagnoses, read_comments

#: What may follow ``ptbxl:``, with ECGBench's column of each.
_PTBXL_COLUMNS = {
    "super": "superclasses",
    "sub": "subclasses",
    "diagnostic": "diagnostic_codes",
    "form": "form_codes",
    "rhythm": "rhythm_codes",
    "all": "scp_codes",
}
_PTBXL_FILES = {"100": "filename_lr", "500": "filename_hr"}
PTBXL_CHOICES = {
    "super": "the five diagnostic superclasses, the default",
    "sub": "the diagnostic subclasses",
    "diagnostic": "the diagnostic statements",
    "form": "the statements on form",
    "rhythm": "the statements on rhythm",
    "all": "all statements",
    "100": "the signals at 100 Hz, the default",
    "500": "the signals at 500 Hz",
}
_DEMOGRAPHICS = ("age", "sex")
#: ECGBench's column of the diagnosis where its description names one that only its folds are made
#: by, in which rare classes are pooled or coarser.
_DIAGNOSES = {
    "leipzig_heart_center_ecg": "diagnosis",
    "ludb": "rhythms",
    "mimic_iv_ecg": "report_text",
    "wctecgdb": "diagnosis",
}


def ptbxl_table(folder: Path, choices: tuple[str, ...]) -> pd.DataFrame:
    """Read PTB-XL's statements of a kind, its patients and its folds.

    As in Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL"
    (2021, doi:10.1109/JBHI.2020.3022989), a statement counts whatever its likelihood, and records
    without a statement of the kind are left out.

    Parameters
    ----------
    folder
        Has ``ptbxl_database.csv`` and ``scp_statements.csv``.
    choices
        A kind of `PTBXL_CHOICES` and a frequency; at most one of each.

    Raises
    ------
    ValueError
        If two kinds or two frequencies are given, or statements of a record can't be read.
    """
    from ecgbench.labels import load_labels

    kind = _one_of(_PTBXL_COLUMNS, choices, "super")
    file = _PTBXL_FILES[_one_of(_PTBXL_FILES, choices, "100")]
    known = load_labels("ptbxl", folder)
    published = pd.read_csv(folder / "ptbxl_database.csv", index_col="ecg_id")
    # ECGBench takes what it can't read for no statements.
    unread = known["scp_codes"].map(len).eq(0) & published["scp_codes"].ne("{}")
    if unread.any():
        raise ValueError(f"ptbxl_database.csv: the scp_codes of ecg_id {known.index[unread][0]}")
    return _labelled(
        {
            "record": published[file].map(lambda path: Path(path).name),
            "label": known[_PTBXL_COLUMNS[kind]].map(join_labels),
            "patient": known["patient_id"],
            **{name: known[name] for name in ("strat_fold", *_DEMOGRAPHICS)},
        }
    )


def cpsc2018_table(folder: Path, choices: tuple[str, ...]) -> pd.DataFrame:
    """Read the nine classes of CPSC 2018 from ``REFERENCE.csv``, or from headers with ``#Dx``."""
    from ecgbench.labels.cpsc_2018 import CPSC_CLASSES

    by_number = {str(number): name for number, _, name, _ in CPSC_CLASSES}
    by_code = {code: name for _, code, name, _ in CPSC_CLASSES}
    if reference := sorted(folder.rglob("REFERENCE.csv")):
        published = pd.read_csv(reference[0], dtype=str, keep_default_na=False)
        labels = published.filter(like="_label").map(lambda number: by_number.get(number, number))
        return _labelled(
            {"record": published["Recording"], "label": labels.agg(join_labels, axis=1)}
        )
    return _from_comments(
        folder, lambda comments: join_labels(by_code.get(one, one) for one in _codes(comments))
    )


def cpsc2021_table(folder: Path, choices: tuple[str, ...]) -> pd.DataFrame:
    """Read the rhythm of each record of CPSC 2021 from its header; its name has the patient.

    ``data_21_7`` is the seventh stretch of patient 21.
    """
    table = _from_comments(folder, lambda comments: "".join(comments[:1]))
    table["patient"] = table["record"].str.split("_").str[1]
    return table


def described_table(slug: str) -> Callable[[Path, tuple[str, ...]], pd.DataFrame]:
    """Return a function that reads the labels of a data set as ECGBench does.

    Parameters
    ----------
    slug
        ECGBench's name of the data set.
    """

    def read(folder: Path, choices: tuple[str, ...]) -> pd.DataFrame:
        from ecgbench.config import load_config
        from ecgbench.labels import load_labels

        config = load_config(slug)
        known = load_labels(config, folder)
        several = config.label_format == "comma_separated"
        columns = {
            "record": known.index.to_series().map(lambda name: str(name).rpartition("/")[2]),
            "label": known[_DIAGNOSES.get(slug, config.label_column)].map(
                lambda label: _joined(label, several=several)
            ),
        }
        if config.patient_id_column in known:
            columns["patient"] = known[config.patient_id_column]
        split = config.predefined_splits
        wanted = (*_DEMOGRAPHICS, *([split.column] if split else []))
        return _labelled(columns | {name: known[name] for name in wanted if name in known})

    return read


def _joined(label: object, *, several: bool) -> str:
    """Write a record's label, or its several; a comma in a name would make two labels of it."""
    if isinstance(label, list):
        return join_labels(str(one).rstrip(".").replace(SEPARATOR, ";") for one in label)
    return _text(label) if several else _text(label).replace(SEPARATOR, ";")


def _one_of(words: Iterable[str], choices: tuple[str, ...], default: str) -> str:
    found = [word for word in choices if word in words]
    if len(found) > 1:
        raise ValueError(f"choose one of {' and '.join(found)}")
    return found[0] if found else default


def _codes(comments: tuple[str, ...]) -> list[str]:
    return (diagnoses(comments) or "").split(SEPARATOR)


def _from_comments(folder: Path, label: Callable[[tuple[str, ...]], str]) -> pd.DataFrame:
    """Read a label from the comments of each header below a folder."""
    headers = sorted(folder.rglob("*.hea"))
    return _labelled(
        {
            "record": pd.Series([header.stem for header in headers], dtype=str),
            "label": pd.Series([label(read_comments(header)) for header in headers], dtype=str),
        }
    )


def _labelled(columns: Mapping[str, pd.Series[Any]]) -> pd.DataFrame:
    """Make a table of columns, with whole numbers as such, of the records with a label."""
    table = pd.DataFrame({name: column.map(_text) for name, column in columns.items()})
    return table[table["label"] != ""].sort_values("record").reset_index(drop=True)


def _text(value: object) -> str:
    """Write a cell: ``15709.0`` as 15709, a missing one as nothing."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}" if value % 1 else str(int(value))
    return "" if value is None else str(value)
