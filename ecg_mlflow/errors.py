"""Every error that this package raises on purpose.

One base class, so that a caller can catch all of them, and subclasses that also inherit the
builtin they specialise, so that ``except ValueError`` and ``except FileNotFoundError`` keep
working. A message says what came, what is allowed, where it came from and what to do next.
"""


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
    """A search can't be carried out as it was asked for, or not be gone on with."""


class PipelineError(EcgMlflowError, ValueError):
    """A signal pipeline is ill-formed or can't be applied to these records."""


class ModelError(EcgMlflowError, ValueError):
    """A model can't be built from its arguments."""


class SplitError(EcgMlflowError, ValueError):
    """Records can't be split as asked, or one of them stands on two sides."""


class RecordError(EcgMlflowError, ValueError):
    """One recording can't be read or used."""


class BadRecordsError(EcgMlflowError, ValueError):
    """Some recordings of a corpus are unusable; the message lists all of them."""


class ExtraMissingError(EcgMlflowError, ImportError):
    """A package that only some commands need is not installed; the message says how to."""


class DataNotFoundError(EcgMlflowError, FileNotFoundError):
    """No recordings, or no labels, where they were looked for."""


class CorpusError(EcgMlflowError, OSError):
    """A packed corpus on disk is damaged or of another version."""


class DownloadError(EcgMlflowError, OSError):
    """A data set could not be fetched whole."""


class DeviceError(EcgMlflowError, RuntimeError):
    """The devices asked for are not there, or can't be shared out as asked."""


class PredictionsError(EcgMlflowError, ValueError):
    """Predictions are incomplete, or can't be compared with each other."""


class TrackingError(EcgMlflowError, ConnectionError):
    """The MLflow store can't be reached or refuses what is sent."""


class StorageFullError(EcgMlflowError, OSError):
    """A disk has no room for what has to be written."""


class CheckpointError(EcgMlflowError, OSError):
    """A run can't go on in its own curves: its checkpoint is missing, damaged or in use."""


class ResumeError(EcgMlflowError, RuntimeError):
    """A study can't be continued: it is still running, or is another one."""


class DivergedError(EcgMlflowError, ArithmeticError):
    """A training loss turned NaN or infinite."""


class AutologError(EcgMlflowError, ValueError):
    """A training of the user's own can't be logged as asked."""


class ResultsError(EcgMlflowError, ValueError):
    """A study's results have no such metric or state, or can't be thinned out as asked."""


class PromotionError(EcgMlflowError, RuntimeError):
    """A model can't be promoted or rolled back."""


class DatasetError(EcgMlflowError, ValueError):
    """A data set can't be described to MLflow in the way that was asked for."""


class BackendError(EcgMlflowError, ValueError):
    """A project can't be run with this configuration of the backend."""
