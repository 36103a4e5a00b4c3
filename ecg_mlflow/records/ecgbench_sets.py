"""Turn ECGBench's descriptions of data sets into ours, mend them, and add what it lacks.

Checked against the sources' own tables: PTB-XL's statements with their kinds, superclasses and
subclasses, and the diagnoses that the Challenge of 2021 scores. Mended of ECGBench 1.0: it has an
address to download from for PTB-XL only; it takes the diagnoses of `ecg-arrhythmia` from a table
that its own scripts write; it takes statements that can't be read for none; and of `ludb`,
`leipzig-heart-center-ecg`, `wctecgdb` and `mimic-iv-ecg` it names the labels that its folds are
made by, in which rare classes are pooled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ecg_mlflow.records.dataset_labels import (
    PTBXL_CHOICES,
    cpsc2018_table,
    cpsc2021_table,
    described_table,
    ptbxl_table,
)
from ecg_mlflow.records.named_sets import BESIDE, HEADERS, OPEN, DataSet, Fold

if TYPE_CHECKING:
    from ecgbench.catalogue import CatalogueEntry
    from ecgbench.config import DatasetConfig

_PAGE = re.compile(r"https://physionet\.org/content/([\w-]+)/([\d.]+)")
_FILES = "https://physionet.org/files"
_CINC2020, _CINC2021 = f"{_FILES}/challenge-2020/1.0.2/", f"{_FILES}/challenge-2021/1.0.3/"
_BYTES = 2  # of a sample
#: Our names where people use another one than ECGBench.
_NAMES = {
    "challenge2017": "cinc2017",
    "challenge2020": "cinc2020",
    "challenge2021": "cinc2021",
    "cpsc_2018": "cpsc2018",
}
_RELATIONS = {
    "contains": "has {} as a part",
    "subset_of": "is a part of {}",
    "derived_from": "is made of recordings of {}",
    "has_derivative": "has recordings that {} is made of",
    "same_cohort": "may have patients in common with {}",
    "sibling_release": "is another release of {}",
}
#: What ECGBench says otherwise, or doesn't say, of the data sets of these names.
_MENDED: Mapping[str, Mapping[str, Any]] = {
    "ptbxl": {
        "labels": ptbxl_table,
        "choices": PTBXL_CHOICES,
        "folder_of": {"100": "records100/", "500": "records500/"},
    },
    "cinc2017": {"labels": BESIDE, "folder": "training/"},
    "cinc2020": {"labels": HEADERS, "folder": "training/"},
    "cinc2021": {"labels": HEADERS, "folder": "training/"},
    "ecg-arrhythmia": {"labels": HEADERS},
    "cpsc2018": {"labels": cpsc2018_table, "files": _CINC2020, "folder": "training/cpsc_2018/"},
}
_REYNA = (
    "Reyna, M. A. et al. Will two do? Varying dimensions in electrocardiography: the "
    "PhysioNet/Computing in Cardiology Challenge 2021. CinC (2021)."
)
#: The part of the Challenges that a data set is.
_PART = {"cinc2020": "is a part of {}", "cinc2021": "is a part of {}"}
_OWN = (
    DataSet(
        name="cpsc2021",
        title="China Physiological Signal Challenge 2021",
        signals="2-lead (I + II) · 8 s–6 h · 200 Hz · WFDB · rhythm annotations",
        records="1,436",
        patients="105",
        access=OPEN,
        license="CC BY 4.0",
        page="https://physionet.org/content/cpsc2021/1.0.0/",
        citation="Wang, X. et al. Paroxysmal atrial fibrillation events detection from dynamic ECG "
        "recordings: the 4th China Physiological Signal Challenge 2021. PhysioNet (2021). "
        "doi:10.13026/ksya-qw89",
        files=f"{_FILES}/cpsc2021/1.0.0/",
        labels=cpsc2021_table,
    ),
    DataSet(
        name="georgia",
        title="Georgia 12-lead ECG Challenge database",
        signals="12-lead · 5–10 s · 500 Hz · WFDB (.hea/.mat)",
        records="10,344",
        patients="—",
        access=OPEN,
        license="CC BY 4.0",
        page="https://physionet.org/content/challenge-2020/1.0.2/",
        citation=_REYNA,
        gigabytes=1.2,
        files=_CINC2020,
        folder="training/georgia/",
        shares=_PART,
    ),
    DataSet(
        name="chapman",
        title="Chapman University and Shaoxing People's Hospital, as in the Challenge of 2021",
        signals="12-lead · 10 s · 500 Hz · WFDB (.hea/.mat)",
        records="10,247",
        patients="10,247",
        access=OPEN,
        license="CC BY 4.0",
        page="https://physionet.org/content/challenge-2021/1.0.3/",
        citation="Zheng, J. et al. A 12-lead electrocardiogram database for arrhythmia research "
        f"covering more than 10,000 patients. Scientific Data 7, 48 (2020). {_REYNA}",
        gigabytes=1.2,
        files=_CINC2021,
        folder="training/chapman_shaoxing/",
        shares={
            "cinc2021": "is a part of {}",
            "ecg-arrhythmia": "is a part of {}",
            "chapman-shaoxing": "has the recordings of {}",
        },
    ),
    DataSet(
        name="ningbo",
        title="Ningbo First Hospital, as in the Challenge of 2021",
        signals="12-lead · 10 s · 500 Hz · WFDB (.hea/.mat)",
        records="34,905",
        patients="34,905",
        access=OPEN,
        license="CC BY 4.0",
        page="https://physionet.org/content/challenge-2021/1.0.3/",
        citation="Zheng, J. et al. Optimal multi-stage arrhythmia classification approach. "
        f"Scientific Reports 10, 2898 (2020). {_REYNA}",
        gigabytes=4.2,
        files=_CINC2021,
        folder="training/ningbo/",
        shares={"cinc2021": "is a part of {}", "ecg-arrhythmia": "is a part of {}"},
    ),
)


def described_sets() -> Iterator[DataSet]:
    """Yield the data sets that ECGBench describes, as mended, and our own."""
    from ecgbench.catalogue import list_datasets
    from ecgbench.config import list_available_configs, load_config

    by_page = {_page(one.url): one for one in map(load_config, list_available_configs())}
    entries = {entry.slug: entry for entry in list_datasets()}
    configs = {slug: by_page.get(_page(one.raw["source_url"])) for slug, one in entries.items()}
    names = {slug: _name(entry, configs[slug]) for slug, entry in entries.items()}
    for slug, entry in entries.items():
        shares = {
            names[link.slug]: _RELATIONS[link.relation]
            for link in entry.related
            if link.shares_records or link.relation == "same_cohort"
        }
        described = _described(names[slug], entry, configs[slug])
        yield replace(described, shares=shares, **_MENDED.get(names[slug], {}))
    yield from _OWN


def _page(url: str) -> str:
    return url.rstrip("/").casefold()


def _name(entry: CatalogueEntry, config: DatasetConfig | None) -> str:
    """Return the name of ECGBench's configuration, else PhysioNet's, else that of its entry."""
    if config is not None:
        slug: str = config.slug
        return _NAMES.get(slug, slug.replace("_", "-"))
    published = _PAGE.match(entry.raw["source_url"])
    return str(published[1] if published else entry.slug)


def _described(name: str, entry: CatalogueEntry, config: DatasetConfig | None) -> DataSet:
    page = entry.raw["source_url"]
    described = DataSet(
        name=name,
        title=entry.name,
        signals=entry.format,
        records=entry.records,
        patients=entry.patients,
        access=entry.access,
        license=entry.license or "",
        page=page,
        citation=" ".join(filter(None, (entry.paper_title, entry.paper_doi))),
        form="",
    )
    if config is None:
        return described
    published = _PAGE.match(page)
    is_open = entry.access == OPEN and published is not None
    split = config.predefined_splits
    number = re.match(r"[\d,]+", entry.records)
    samples = config.duration_seconds * config.default_sampling_rate * config.leads * _BYTES
    return replace(
        described,
        citation=" ".join(config.citation.split()),
        gigabytes=int(number[0].replace(",", "")) * samples / 1e9 if number else None,
        files=f"{_FILES}/{published[1]}/{published[2]}/" if is_open and published else "",
        form=config.signal_format,
        labels=described_table(config.slug),
        fold=split
        and Fold(
            split.column,
            tuple(map(str, split.fold_mapping["val"])),
            tuple(map(str, split.fold_mapping["test"])),
        ),
    )
