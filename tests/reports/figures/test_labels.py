from __future__ import annotations

import numpy as np

from ecg_mlflow.reports.figures.labels import label_places

FRAME = (100.0, 80.0)


def boxes(places, sizes):
    return [(np.array(at) - size / 2, np.array(at) + size / 2)
            for at, size in zip(places, sizes, strict=True) if at is not None]  # fmt: skip


def test_labels_are_inside_and_clear_of_each_other():
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), FRAME, (200, 2))
    points[:20] = (50, 40)
    sizes = np.tile([6.0, 3.0], (40, 1))
    places = label_places(points, list(range(40)), sizes, FRAME)
    found = boxes(places, sizes)
    assert len(found) >= 30
    for number, (low, high) in enumerate(found):
        assert (low >= 0).all()
        assert (high <= FRAME).all()
        for other_low, other_high in found[:number]:
            assert not (np.maximum(low, other_low) < np.minimum(high, other_high)).all()


def test_a_lonely_label_stands_at_the_right():
    (place,) = label_places(np.array([[50.0, 40.0]]), [0], np.array([[4.0, 3.0]]), FRAME)
    assert place[1] == 40
    assert 52 < place[0] < 56


def test_a_label_avoids_points():
    points = np.array([[50.0, 40.0], [53.5, 40.0]])
    (place,) = label_places(points, [0], np.array([[3.0, 3.0]]), FRAME)
    assert place[0] < 50


def test_no_room_is_no_label():
    assert label_places(np.array([[1.0, 1.0]]), [0], np.array([[9.0, 9.0]]), (5, 5)) == [None]
