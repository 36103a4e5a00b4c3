"""MLflow's run context ``ecg``: where a run's process is, by which versions, on which corpus.

MLflow imports this module in each of its processes, and asks it whenever ``mlflow.start_run``
makes a run: nothing heavy may be imported here, and nothing may be raised.
"""

from __future__ import annotations

import sys

from mlflow.tracking.context.abstract_context import RunContextProvider

from ecg_mlflow.provenance import machine_tags, version_tags
from ecg_mlflow.tracking.recordings_source import DIGEST_LIMIT

CORPUS_TAG = "ecg_mlflow.corpus"


class EcgRunContext(RunContextProvider):
    """Tags every run that is started where this package is installed.

    The runs of a study have the same tags: those of versions from the driver, those of the machine
    from the process that trains.
    """

    def in_context(self) -> bool:
        """Say whether there is something to tell: always."""
        return True

    def tags(self) -> dict[str, str]:
        """Return the tags; ``ecg_mlflow.corpus`` only where this process has opened a corpus."""
        # As much as MLflow keeps of a data set's digest, so that the two are the same.
        corpus = {CORPUS_TAG: digest[:DIGEST_LIMIT]} if (digest := last_corpus()) else {}
        return {**machine_tags(), **version_tags(), **corpus}


def last_corpus() -> str | None:
    """Return the digest of the corpus that this process has opened last, if it has opened one.

    A process that has opened one has the module; to import it here would take half a second.
    """
    module = sys.modules.get("ecg_mlflow.records.corpus")
    ask = getattr(module, "last_opened", None)  # not there while the module is being imported
    return ask() if ask else None
