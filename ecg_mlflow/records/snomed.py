"""List the SNOMED CT codes that CinC 2020 and 2021 score, with their abbreviations.

The 30 codes and abbreviations are those of ``dx_mapping_scored.csv`` in
https://github.com/physionetchallenges/evaluation-2021; see Reyna et al., "Will two do? Varying
dimensions in electrocardiography: the PhysioNet/Computing in Cardiology Challenge 2021",
doi:10.23919/CinC53138.2021.9662687. The Challenge counts four pairs as one diagnosis each: CLBBB
and LBBB, CRBBB and RBBB, PAC and SVPB, PVC and VPB.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Abbreviation of each code; a plain dict, so that grid files with it can be pickled.
SNOMED: Mapping[str, str] = {
    "164889003": "AF",
    "164890007": "AFL",
    "6374002": "BBB",
    "426627000": "Brady",
    "733534002": "CLBBB",
    "713427006": "CRBBB",
    "270492004": "IAVB",
    "713426002": "IRBBB",
    "39732003": "LAD",
    "445118002": "LAnFB",
    "164909002": "LBBB",
    "251146004": "LQRSV",
    "698252002": "NSIVCB",
    "426783006": "NSR",
    "284470004": "PAC",
    "10370003": "PR",
    "365413008": "PRWP",
    "427172004": "PVC",
    "17338001": "VPB",
    "164947007": "LPR",
    "111975006": "LQT",
    "164917005": "QAb",
    "47665007": "RAD",
    "59118001": "RBBB",
    "427393009": "SA",
    "426177001": "SB",
    "427084000": "STach",
    "63593006": "SVPB",
    "164934002": "TAb",
    "59931005": "TInv",
}

#: Code of each abbreviation.
CODES: Mapping[str, str] = {abbreviation: code for code, abbreviation in SNOMED.items()}


def in_words(label: str) -> str:
    """Return a diagnosis, with its abbreviation if it is a known code: ``164889003 (AF)``."""
    return f"{label} ({SNOMED[label]})" if label in SNOMED else label


def abbreviated(label: str) -> str:
    """Return a label of one or several comma-separated diagnoses in abbreviations."""
    return ",".join(SNOMED.get(one, one) for one in label.split(","))
