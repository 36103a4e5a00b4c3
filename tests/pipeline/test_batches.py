"""Epochs of batches: what is in them, in which order, and how they are prepared ahead."""

from __future__ import annotations

import itertools
import threading
import time
from itertools import islice

import numpy as np
import pytest

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline import BatchSource, Pipeline, class_targets, prefetched

TRAIN = (
    Pipeline()
    .center_flip()
    .random_resample_signals("normal", loc=300, scale=30)
    .random_split_signals(16, {"N": 2, "A": 6})
)


@pytest.fixture
def corpus(make_corpus):
    """Eleven records of 20 to 60 samples, N and A by turns."""
    rng = np.random.default_rng(0)
    return make_corpus([rng.normal(0, 400, (20 + 4 * i, 1)).astype(np.int16) for i in range(11)])


def by_record(batches):
    """Each record's windows, whatever batch they came in."""
    found = {}
    for batch in batches:
        parts = np.split(batch.windows, np.cumsum(batch.counts)[:-1])
        for row, part in zip(batch.rows.tolist(), parts, strict=True):
            assert row not in found, "a record came twice"
            found[row] = part
    return found


def equal(a, b):
    return len(a) == len(b) and all(
        np.array_equal(getattr(x, name), getattr(y, name))
        for x, y in zip(a, b, strict=True)
        for name in ("windows", "targets", "rows", "counts")
    )


def test_a_batch_holds_whole_records_with_their_labels(corpus, make_source):
    (batch, *_) = make_source(corpus, TRAIN, 4).epoch(0, 0, 0, shuffle=False)
    assert batch.rows.tolist() == [0, 1, 2, 3]
    assert batch.counts.tolist() == [2, 6, 2, 6]
    assert batch.windows.shape == (16, 16, 1)
    assert batch.targets.dtype == batch.windows.dtype == np.float32
    expected = [[1, 0]] * 2 + [[0, 1]] * 6 + [[1, 0]] * 2 + [[0, 1]] * 6
    assert batch.targets.tolist() == expected
    for array in (batch.windows, batch.targets, batch.rows, batch.counts):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("batch_size", [3, 11, 50])
def test_an_epoch_shows_every_record_once(corpus, make_source, batch_size):
    source = make_source(corpus, TRAIN, batch_size)
    batches = list(source.epoch(0, 0, 0, shuffle=True))
    assert len(batches) == source.batches_per_epoch == -(-11 // batch_size)
    assert sorted(by_record(batches)) == list(range(11))


def test_drop_last_leaves_the_partial_batch_out(corpus, make_source):
    source = make_source(corpus, TRAIN, 4, drop_last=True)
    epochs = [list(source.epoch(0, 0, epoch, shuffle=True)) for epoch in range(6)]
    assert {len(batches) for batches in epochs} == {source.batches_per_epoch} == {2}
    assert all(len(batch.rows) == 4 for batches in epochs for batch in batches)
    assert set().union(*map(by_record, epochs)) == set(range(11))
    with pytest.raises(PipelineError, match=r"11 records are too few for .* 12.*drop_last=False"):
        make_source(corpus, TRAIN, 12, drop_last=True)
    nothing = np.array([], dtype=np.int64)
    with pytest.raises(PipelineError, match=r"0 records are too few for a batch of 4 records$"):
        BatchSource(source.windows, nothing, np.empty((0, 2), np.float32), 4)


def test_neither_batch_size_nor_order_nor_other_records_change_a_window(corpus, make_source):
    small, large = make_source(corpus, TRAIN, 2), make_source(corpus, TRAIN, 7)
    list(large.epoch(1, 2, 0, shuffle=True))
    found, again = (by_record(s.epoch(1, 2, 3, shuffle=True)) for s in (small, large))
    assert [*found] == [*again], "nor does the batch size change the order"
    few = by_record(make_source(corpus, TRAIN, 4, [1, 4, 9]).epoch(1, 2, 3, shuffle=True))
    assert sorted(few) == [1, 4, 9]
    for others in (again, few, by_record(large.epoch(1, 2, 3, shuffle=False))):
        for row, windows in others.items():
            np.testing.assert_array_equal(windows, found[row])


@pytest.mark.parametrize("other", [(2, 2, 3), (1, 0, 3), (1, 2, 4)], ids=str)
def test_seed_repetition_and_epoch_change_order_and_windows(corpus, make_source, other):
    source = make_source(corpus, TRAIN, 11)
    one, two = next(source.epoch(1, 2, 3, shuffle=True)), next(source.epoch(*other, shuffle=True))
    assert one.rows.tolist() != two.rows.tolist()
    assert not np.array_equal(by_record([one])[5], by_record([two])[5])


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("iteration", [0, 7])
def test_a_stream_can_begin_at_any_iteration(corpus, make_source, iteration, drop_last):
    source = make_source(corpus, TRAIN, 4, drop_last=drop_last)
    whole = list(islice(source.stream(5, 1), iteration + 5))
    assert equal(list(islice(source.stream(5, 1, iteration), 5)), whole[iteration:])
    n = source.batches_per_epoch
    assert equal(whole[:n], list(source.epoch(5, 1, 0, shuffle=True))[: len(whole)])


def test_the_order_of_records_stays_for_a_seed_and_repetition(corpus, make_source):
    source = make_source(corpus, TRAIN, 4)
    found = list(islice(source.stream(7, 2), 6))
    order = [[8, 9, 7, 2], [3, 10, 0, 6], [4, 1, 5], [7, 6, 1, 9], [3, 2, 5, 4], [10, 8, 0]]
    assert [batch.rows.tolist() for batch in found] == order
    windows, _ = source.windows.make(found[5].rows, source.windows.draw(7, 2, epoch=1))
    np.testing.assert_array_equal(found[5].windows, windows)


def test_a_record_may_be_of_several_classes_or_of_none():
    found = class_targets(["AF,RBBB", "", "RBBB"], ["RBBB", "AF", "PVC"])
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0]]


# --- Prepared ahead -----------------------------------------------------------------------------


def test_items_are_read_ahead_in_a_thread_but_not_further_than_they_should():
    made = []

    def noted(i):
        made.append(threading.current_thread())
        return i

    with prefetched(map(noted, range(100)), depth=3) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 100
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        assert len(made) == 4  # one was taken, and three wait
        assert threading.current_thread() not in made
        assert list(items) == list(range(1, 100))


def test_an_error_is_raised_in_its_place():
    def broken():
        yield 1
        raise PipelineError("record R007: no beats")

    with prefetched(broken()) as items:
        assert next(items) == 1
        with pytest.raises(PipelineError, match="R007"):
            next(items)


def test_the_end_of_the_block_or_an_error_in_it_stops_the_thread():
    before = threading.active_count()
    with prefetched(itertools.count(1), depth=2) as items:
        assert list(islice(items, 5)) == [1, 2, 3, 4, 5]
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(KeyError), prefetched(iter(range(1000))):
        raise KeyError("elsewhere")
    assert threading.active_count() == before
