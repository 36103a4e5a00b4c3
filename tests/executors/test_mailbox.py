"""Letters on the job's side, without an executor."""

from collections import deque

from ecg_mlflow.executors import received
from ecg_mlflow.executors.mailbox import encode_letter, reading, take_all


def test_letters_are_received_once_the_oldest_first_and_only_while_the_job_runs():
    letters = deque(encode_letter({"i": i}) for i in range(3))
    assert received() == []
    with reading(lambda: take_all(letters)):
        assert received() == [{"i": 0}, {"i": 1}, {"i": 2}]
        assert received() == []
        letters.append(encode_letter({"i": 3}))
    assert received() == []
    assert len(letters) == 1
