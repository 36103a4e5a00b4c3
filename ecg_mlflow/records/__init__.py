"""Read WFDB and EDF recordings and their labels, and pack them into a memory-mapped corpus."""

from ecg_mlflow.records.array_reader import from_arrays
from ecg_mlflow.records.corpus import Corpus, Provenance, Signals, corpora_folder, packed_path
from ecg_mlflow.records.formats import read_digital, read_record
from ecg_mlflow.records.named_sets import DataSet, Fold
from ecg_mlflow.records.record import (
    BadRecord,
    DigitalRecord,
    Record,
    bad_records_error,
    list_bad_records,
)
from ecg_mlflow.records.snomed import SNOMED
from ecg_mlflow.records.sources import load_corpus

__all__ = [
    "SNOMED",
    "BadRecord",
    "Corpus",
    "DataSet",
    "DigitalRecord",
    "Fold",
    "Provenance",
    "Record",
    "Signals",
    "bad_records_error",
    "corpora_folder",
    "from_arrays",
    "list_bad_records",
    "load_corpus",
    "packed_path",
    "read_digital",
    "read_record",
]
