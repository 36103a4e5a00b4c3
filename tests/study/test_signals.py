from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import wait_for

from ecg_mlflow.study import signals
from ecg_mlflow.study.signals import sigterm_as_interrupt, stop_on_signals


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


def test_signals_are_answered_where_the_driver_asks():
    """Those of one kind in quick succession are one request."""
    with stop_on_signals() as stop:
        send(signal.SIGTERM, signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"):
            stop.check()


def test_ctrl_c_and_the_sigterm_that_mlflow_sends_after_it_are_one_request(monkeypatch):
    monkeypatch.setattr(signals, "ONE_REQUEST_S", 0.0)
    with stop_on_signals():
        send(signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_of_a_kind_is_obeyed_at_once(number, monkeypatch):
    monkeypatch.setattr(signals, "ONE_REQUEST_S", 0.0)
    with stop_on_signals():
        send(number)
        with pytest.raises(KeyboardInterrupt, match=f"second {number.name}"):
            send(number)


def test_sigterm_interrupts_at_once_while_a_study_is_planned():
    with sigterm_as_interrupt(), pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        send(signal.SIGTERM)


@pytest.mark.parametrize("enter", [stop_on_signals, sigterm_as_interrupt])
def test_handlers_are_put_back(enter):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), enter():
        raise ZeroDivisionError
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_another_thread_may_run_a_study_too():
    def run():
        with stop_on_signals() as stop:
            stop.check()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_driver_ends_with_its_parent(tmp_path):
    """As `mlflow run` does, the parent dies without a word to its command."""
    mark = tmp_path / "mark"
    child = (
        "import pathlib, sys, time\n"
        "from ecg_mlflow.study.signals import end_with_parent, sigterm_as_interrupt\n"
        "mark = pathlib.Path(sys.argv[1])\n"
        "with sigterm_as_interrupt():\n"
        "    end_with_parent()\n"
        "    mark.write_text('waiting')\n"
        "    try:\n"
        "        time.sleep(3600)\n"
        "    except KeyboardInterrupt:\n"
        "        mark.write_text('ended in order')\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', *sys.argv[1:]])\n"
        "time.sleep(3600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, child, str(mark)])
    wait_for(lambda: mark.exists() and mark.read_text())
    process.kill()
    process.wait()
    wait_for(lambda: mark.read_text() == "ended in order")
