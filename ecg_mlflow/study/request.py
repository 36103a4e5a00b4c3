"""What a user asks for, and what a resumed study keeps of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.study.research import Rules

#: Characters of an experiment's name that MLflow takes.
NAME_LIMIT = 500


@dataclass(frozen=True)
class StudyRequest:
    """What a user asks for; None where they left the choice to the grid file or the defaults.

    Attributes
    ----------
    epochs, repetitions, test_every
        In place of the research's.
    configs
        ``"0,3,5-8"`` or ``"model=ResNet18 & layout=cna"``.
    limit
        Use at most this many records, evenly spread over the sorted ones.
    skip_bad_records
        Leave bad records out instead of refusing to start.
    sampler, trials, search_seed, pruner, objective, direction, adaptive, finalists
        The options of the search; see `SearchConfig`.
    visible_devices
        CUDA_VISIBLE_DEVICES as it was when the command was typed.
    branches
        How many runs may share a process and a stream of batches.
    checkpoint_minutes
        Longest time between two checkpoints.
    hang_minutes
        Time without a sign of life after which a worker counts as hung.
    folders
        Where the path of the grid file may start, the first that fits; a relative store is in the
        first.
    how_to_resume
        The command that resumes the study, with ``{run_id}`` in it.

    The others are the options of ``ecg-mlflow run``.

    Raises
    ------
    TrackingError
        If there can be no experiment of that name.
    """

    grid: str = ""
    data: str | None = None
    labels: str | None = None
    leads: str | None = None
    gaps: str | None = None
    epochs: int | None = None
    repetitions: int | None = None
    test_every: Rules | None = None
    configs: str | None = None
    limit: int | None = None
    skip_bad_records: bool | None = None
    sampler: str | None = None
    trials: int | None = None
    search_seed: int | None = None
    pruner: str | None = None
    objective: str | None = None
    direction: str | None = None
    adaptive: bool | None = None
    finalists: int | None = None
    workers: int | None = None
    gpus: str | None = None
    threads: int | None = None
    visible_devices: str | None = None
    experiment: str | None = None
    dry_run: bool = False
    resume: str | None = None
    retry_failed: bool = False
    reuse: bool | None = None
    trust_code: bool = False
    branches: int = 1
    checkpoint_minutes: float = 1.0
    hang_minutes: float = 15.0
    executor: str = "processes"
    ray_address: str | None = None
    gpus_per_worker: float = 0.0
    how_to_resume: str = "ecg-mlflow run --resume {run_id}"
    folders: tuple[Path, ...] = field(default_factory=lambda: (Path.cwd(),))

    def __post_init__(self) -> None:
        if self.experiment and not (self.experiment.strip() and len(self.experiment) <= NAME_LIMIT):
            raise TrackingError(
                f"{self.experiment[:100]!r} can't be the name of an experiment: give 1 to "
                f"{NAME_LIMIT} characters that are not all spaces"
            )


#: What a resumed study keeps of the request that it was started with, unless it is given again.
DESIGN = (
    *("grid", "data", "labels", "leads", "gaps", "epochs", "repetitions", "configs", "limit"),
    *("sampler", "trials", "search_seed", "pruner", "objective", "direction", "adaptive"),
    *("finalists", "skip_bad_records"),
)
