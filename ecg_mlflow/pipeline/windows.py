"""Run the part of a pipeline that runs for every batch: prepared signals to windows.

Random numbers are drawn here, outside the kernels: one seeded generator for each (seed,
repetition, epoch, action) gives every record of the corpus its own row of numbers. Therefore a
record's windows depend only on (seed, repetition, epoch, record), and are independent of its batch,
of the number of workers and of the other records.

Recordings in memory, of which a model gets one or a few, take the same way as a packed corpus, so
that they have the same windows as in a study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline import kernels
from ecg_mlflow.pipeline.actions.base import Signal
from ecg_mlflow.pipeline.actions.every_batch import (
    CenterFlip,
    ChanceAction,
    Numbers,
    RandomResampleSignals,
    SplitAction,
    Starts,
)
from ecg_mlflow.pipeline.actions.records import LINEAR, RecordAction, ResampleSignals
from ecg_mlflow.pipeline.pipeline import Stages
from ecg_mlflow.pipeline.prepare import Prepared, apply_checked, changing_actions, run_once
from ecg_mlflow.records import DigitalRecord, Record, Signals

#: Random numbers of one epoch: for each random action, one row for each record of the corpus.
Draws = dict[int, Numbers]


@dataclass(frozen=True)
class FusedChain:
    """The actions of every batch, as the arguments of one kernel call.

    Attributes
    ----------
    center
        Where the mean is taken, as in `kernels`.
    flip, resample, split
        The actions, each with its position among the stage's actions; None for a missing one.
    tail
        Actions on finished windows.
    """

    center: int
    flip: tuple[int, CenterFlip] | None
    resample: tuple[int, RandomResampleSignals | ResampleSignals] | None
    split: tuple[int, SplitAction]
    tail: tuple[RecordAction, ...]


def fuse(stages: Stages) -> FusedChain | None:
    """Combine the actions for the kernel: centre, resample and cut, in most orders.

    Returns None if another action comes between them; such a chain runs in NumPy.
    """
    flip: tuple[int, CenterFlip] | None = None
    resample: tuple[int, RandomResampleSignals | ResampleSignals] | None = None
    split: tuple[int, SplitAction] | None = None
    center = kernels.NO_CENTER
    tail: list[RecordAction] = []
    for place, action in enumerate(stages.every):
        if isinstance(action, CenterFlip) and flip is None and not tail:
            flip = place, action
            if split is not None:
                center = kernels.CENTER_WINDOW
            elif resample is not None:
                center = kernels.CENTER_RESAMPLED
            else:
                center = kernels.CENTER_RECORD
        elif (isinstance(action, RandomResampleSignals) and resample is None) or (
            isinstance(action, ResampleSignals) and action.method == LINEAR and resample is None
        ):
            resample = place, action
        elif isinstance(action, SplitAction):
            split = place, action
        elif split is not None and isinstance(action, RecordAction):
            tail.append(action)
        else:
            return None
    assert split is not None, "Stages always hold a split"
    return FusedChain(center, flip, resample, split, tuple(tail))


class WindowMaker:
    """Makes the windows of records, for one pipeline over one corpus.

    Parameters
    ----------
    stages
        The pipeline.
    prepared
        The corpus after the actions that run once.
    rows, labels
        Positions in the corpus of the records whose windows can be made, and their final labels.
    training
        False at test time, when signs are +1 unless the pipeline flips at test too.
    """

    def __init__(
        self,
        stages: Stages,
        prepared: Prepared,
        rows: npt.NDArray[np.int64],
        labels: Sequence[str],
        *,
        training: bool,
    ) -> None:
        self._stages = stages
        self._prepared = prepared
        self._labels = dict(zip(rows.tolist(), labels, strict=True))
        self._training = training
        # The kernels count the samples of a record in 32 bits.
        countable = prepared.signals.n_samples.max(initial=0) <= np.iinfo(np.int32).max
        self._chain = fuse(stages) if countable else None
        self.n_leads = len(prepared.leads)
        self.length = int(stages.split.length)
        self._means: npt.NDArray[np.float64] | None = None
        if self._chain is not None and self._chain.center == kernels.CENTER_RECORD:
            self._means = self._lead_means(rows)

    def draw(self, seed: int, repetition: int, epoch: int) -> Draws:
        """Draw the random numbers of an epoch, for every record of the corpus.

        Together with the action's place in the pipeline, the arguments are its generator's seed.
        """
        n_records = len(self._prepared.place)
        return {
            place: action.draw(
                np.random.default_rng([seed, repetition, epoch, place]), n_records, self.n_leads
            )
            for place, action in enumerate(self._stages.every)
            if isinstance(action, ChanceAction)
        }

    def make(
        self, rows: npt.NDArray[np.int64], draws: Draws
    ) -> tuple[Signal, npt.NDArray[np.int64]]:
        """Make the windows of these records.

        Parameters
        ----------
        rows
            ``(n,)`` positions in the corpus.
        draws
            From `draw`.

        Returns
        -------
        windows
            ``(n_windows, length, n_leads)`` float32, mV, record by record.
        counts
            ``(n,)`` number of windows of each record.
        """
        if self._chain is not None:
            return self._make_fused(self._chain, rows, draws)
        made = [self._make_in_numpy(int(row), draws) for row in rows]
        return np.concatenate(made), np.array([len(windows) for windows in made], dtype=np.int64)

    def _signs(self, place: int, action: CenterFlip, draws: Draws) -> npt.NDArray[np.float32]:
        """Return the signs of all records, ``(n_corpus, n_leads)``."""
        signs = draws[place]
        return signs if self._training or action.flip_at_test else np.ones_like(signs)

    def _make_fused(
        self, chain: FusedChain, rows: npt.NDArray[np.int64], draws: Draws
    ) -> tuple[Signal, npt.NDArray[np.int64]]:
        signals, place = self._prepared.signals, self._prepared.place[rows]
        fs, n_samples = self._prepared.fs[rows], signals.n_samples[place]
        n_resampled = n_samples
        if chain.resample is not None:
            k, action = chain.resample
            fixed = action.fs if isinstance(action, ResampleSignals) else None
            fs_new = draws[k][rows] if fixed is None else np.full(len(rows), float(fixed))
            n_resampled = np.maximum(1, (fs_new * n_samples / fs).astype(np.int64))
            n_resampled = np.where(fs_new > 0, n_resampled, n_samples)
            fs = np.where(fs_new > 0, fs_new, fs)
        base = signals.baseline[place, : self.n_leads]
        scale = 1 / signals.gain[place, : self.n_leads]
        if self._means is not None:
            base = self._means[rows].astype(np.float32)
        if chain.flip is not None:
            scale = scale * self._signs(*chain.flip, draws)[rows]
        starts = self._starts(chain.split, rows, n_resampled, draws)
        counts = np.array([len(s) for s in starts], dtype=np.int64)
        window_of = np.concatenate([[0], np.cumsum(counts)])
        windows = np.empty((int(window_of[-1]), self.length, self.n_leads), dtype=np.float32)
        kernels.fill_windows(
            windows,
            signals.data,
            signals.offset[place],
            n_samples,
            n_resampled,
            base,
            scale,
            window_of,
            np.concatenate(starts),
            chain.center,
        )
        if chain.tail:
            sources = zip(np.repeat(rows, counts).tolist(), np.repeat(fs, counts), strict=True)
            for i, (row, its_fs) in enumerate(sources):
                for one in chain.tail:
                    windows[i] = self._apply(one, windows[i], row, float(its_fs), is_window=True)
        return windows, counts

    def _starts(
        self,
        split: tuple[int, SplitAction],
        rows: npt.NDArray[np.int64],
        n_samples: npt.NDArray[np.int64],
        draws: Draws,
    ) -> list[Starts]:
        place, action = split
        return [
            action.starts(n, self._labels[row], draws[place][row] if place in draws else None)
            for row, n in zip(rows.tolist(), n_samples.tolist(), strict=True)
        ]

    def _apply(
        self, action: RecordAction, signal: Signal, row: int, fs: float, *, is_window: bool
    ) -> Signal:
        """Apply an action to a record or to a window of it, whose shape it must keep."""
        prepared = self._prepared
        result = apply_checked(action, signal, fs, prepared.leads, prepared.ids[row])
        if is_window and result.shape != signal.shape:
            raise PipelineError(
                f"record {prepared.ids[row]}: {action} makes {result.shape} of a window "
                f"{signal.shape}; after {self._stages.split} an action must keep the shape, so put "
                "it before"
            )
        return result

    def _make_in_numpy(self, row: int, draws: Draws) -> Signal:
        """Run the actions one by one, for chains that can't be fused; also the tests' reference."""
        pieces = [self._prepared.signals.millivolts(int(self._prepared.place[row]))]
        fs, cut = float(self._prepared.fs[row]), False
        for place, action in enumerate(self._stages.every):
            if isinstance(action, SplitAction):
                n_samples = np.array([len(pieces[0])])
                (starts,) = self._starts((place, action), np.array([row]), n_samples, draws)
                pieces, cut = list(action.cut(pieces[0], starts)), True
            elif isinstance(action, CenterFlip):
                signs = self._signs(place, action, draws)[row]
                pieces = [action.apply(piece, signs) for piece in pieces]
            elif isinstance(action, RandomResampleSignals):
                fs_new = float(draws[place][row])
                pieces = [action.apply(piece, fs, fs_new) for piece in pieces]
                fs = fs_new if fs_new > 0 else fs
            else:
                assert isinstance(action, RecordAction)
                pieces = [self._apply(action, one, row, fs, is_window=cut) for one in pieces]
                fs = action.output_fs(fs)
        return np.stack(pieces)

    def _lead_means(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the mean of every lead in the packed units, ``(n_corpus, n_leads)``."""
        signals, place = self._prepared.signals, self._prepared.place[rows]
        means = np.empty((len(rows), self.n_leads))
        kernels.lead_means(signals.data, signals.offset[place], signals.n_samples[place], means)
        found = np.zeros((len(self._prepared.place), self.n_leads))
        found[rows] = means
        return found


# --- Recordings in memory -------------------------------------------------------------------------


def prepare_record(record: DigitalRecord, stages: Stages) -> DigitalRecord:
    """Run the actions that run once per record.

    Raises
    ------
    PipelineError
        If an action fails, or its result isn't finite.
    """
    if changing := changing_actions(stages):
        signal = Record(record.id, record.millivolts(), record.fs, record.leads, None)
        return run_once(signal, changing)
    return record


def cut_windows(
    records: Sequence[DigitalRecord], stages: Stages
) -> tuple[Signal, npt.NDArray[np.int64]]:
    """Cut prepared recordings as at test time; each recording is independent of the others.

    Parameters
    ----------
    records
        At least one recording from `prepare_record`, all with the same leads.
    stages
        A deterministic pipeline.

    Returns
    -------
    windows
        ``(n_windows, length, n_leads)`` float32, record by record.
    counts
        ``(n_records,)`` number of windows of each.

    Raises
    ------
    PipelineError
        If an action fails on a record.
    """
    rows = np.arange(len(records))
    prepared = Prepared(
        signals_of(records),
        rows,
        np.array([record.fs for record in records], np.float64),
        records[0].leads,
        tuple(record.id for record in records),
    )
    step = stages.split.per_label()
    any_label = next(iter(step)) if isinstance(step, Mapping) else ""
    maker = WindowMaker(stages, prepared, rows, [any_label] * len(rows), training=False)
    return maker.make(rows, maker.draw(0, 0, 0))


def signals_of(records: Sequence[DigitalRecord]) -> Signals:
    """Concatenate recordings with the same leads, as a packed corpus does.

    If any recording is float32, int16 samples become float32, which represents them exactly.
    """
    n_samples = np.array([len(record.samples) for record in records], np.int64)
    n_leads = np.array([len(record.leads) for record in records], np.int64)
    ends = np.cumsum(n_samples * n_leads)
    samples: Any = np.concatenate([record.samples.reshape(-1) for record in records])
    return Signals(
        samples,
        (ends - n_samples * n_leads).astype(np.int64),
        n_samples,
        n_leads,
        np.stack([record.gain for record in records]),
        np.stack([record.baseline for record in records]),
    )
