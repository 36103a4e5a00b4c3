"""Messages on the job's side, without an executor."""

from collections import deque

from ecg_mlflow.executors import received
from ecg_mlflow.executors.messages import encode_message, reading, take_all


def test_messages_are_received_once_the_oldest_first_and_only_while_the_job_runs():
    messages = deque(encode_message({"i": i}) for i in range(3))
    assert received() == []
    with reading(lambda: take_all(messages)):
        assert received() == [{"i": 0}, {"i": 1}, {"i": 2}]
        assert received() == []
        messages.append(encode_message({"i": 3}))
    assert received() == []
    assert len(messages) == 1
