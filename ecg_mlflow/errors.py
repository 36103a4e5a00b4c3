"""Define the errors that this package raises on purpose.

A base class lets a caller catch all of them. Subclasses also inherit the builtin exception that
they specialise, so ``except ValueError`` and ``except FileNotFoundError`` work. A message says what
was given, what is allowed, where it was given and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable


def few(names: Iterable[object], shown: int = 5, between: str = ", ") -> str:
    """Join the first names for a message, and count the others."""
    texts = [str(name) for name in names]
    more = len(texts) - shown
    return between.join(texts[:shown]) + (f" and {more} more" if more > 0 else "")


class EcgMlflowError(Exception):
    """Base class of the package's errors."""


class CanonicalError(EcgMlflowError, TypeError):
    """A value has no canonical form, so it can't be part of a configuration's identity."""


class GridError(EcgMlflowError, ValueError):
    """An option or a grid is ill-formed."""


class ScheduleError(EcgMlflowError, ValueError):
    """A schedule rule can't be read."""


class ResearchError(EcgMlflowError, ValueError):
    """A grid file, or the research that it declares, is inconsistent."""


class SearchError(EcgMlflowError, ValueError):
    """A search can't be run as configured, or can't be resumed."""


class PipelineError(EcgMlflowError, ValueError):
    """A signal pipeline is ill-formed or can't be applied to these records."""


class ModelError(EcgMlflowError, ValueError):
    """A model can't be built from its arguments."""


class SplitError(EcgMlflowError, ValueError):
    """Records can't be split as asked, or one of them is in two parts."""


class RecordError(EcgMlflowError, ValueError):
    """One recording can't be read or used."""


class BadRecordsError(EcgMlflowError, ValueError):
    """Some recordings of a corpus are unusable; the message lists all of them."""


class ExtraMissingError(EcgMlflowError, ImportError):
    """An optional package is not installed; the message says how to install it."""


class DataNotFoundError(EcgMlflowError, FileNotFoundError):
    """Recordings or labels were not found."""


class CorpusError(EcgMlflowError, OSError):
    """A packed corpus on disk is damaged or of another version."""


class DownloadError(EcgMlflowError, OSError):
    """A data set could not be downloaded completely."""


class DeviceError(EcgMlflowError, RuntimeError):
    """The requested devices are missing, or can't be divided as requested."""


class PredictionsError(EcgMlflowError, ValueError):
    """Predictions are incomplete, or can't be compared with each other."""


class TrackingError(EcgMlflowError, ConnectionError):
    """The MLflow store can't be reached or rejects a request.

    Attributes
    ----------
    of_a_call
        Whether it says only which call has failed, and not what the call was for.
    """

    of_a_call = False


class RunGoneError(TrackingError):
    """A run was deleted or ended, by hand or by another program, while it was being written.

    Attributes
    ----------
    run_id
        The run.
    """

    def __init__(self, message: str, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class StorageError(EcgMlflowError, OSError):
    """A file can't be written: the disk is full, or the folder is missing or not to be written."""


class CheckpointError(EcgMlflowError, OSError):
    """A run can't be continued: its checkpoint is missing, damaged or in use."""


class ResumeError(EcgMlflowError, RuntimeError):
    """A study can't be resumed: it is still running, or it or its grid file is another one."""


class UntrustedCodeError(EcgMlflowError, PermissionError):
    """Code from a store would run here, and its user has not consented to that."""


class DivergedError(EcgMlflowError, ArithmeticError):
    """A training loss turned NaN or infinite."""


class AutologError(EcgMlflowError, ValueError):
    """A training outside of studies can't be logged as asked."""


class ResultsError(EcgMlflowError, ValueError):
    """A study's results lack a metric or state, or can't be subsampled as asked."""


class PromotionError(EcgMlflowError, RuntimeError):
    """A model can't be promoted or rolled back."""


class DatasetError(EcgMlflowError, ValueError):
    """A data set can't be described to MLflow as asked."""


class BackendError(EcgMlflowError, ValueError):
    """A project can't be run with this configuration of the backend."""
