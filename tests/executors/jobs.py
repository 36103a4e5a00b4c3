"""Job functions for the tests, imported by workers as the module `jobs`."""

import atexit
import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ecg_mlflow.executors.execution import Terminated, received, shielded, stop_requested
from ecg_mlflow.files import cache_root

Report = Callable[[dict[str, Any]], None]

#: Seconds, more than any test lasts.
FOREVER = 3600


class OwnError(Exception):
    pass


class UnreadableError(Exception):
    """Can be pickled, and not unpickled: pickle creates it by the one argument it has kept."""

    def __init__(self, lead, fault):
        super().__init__(f"{lead} is {fault}")


def do(payload: bytes, report: Report) -> Any:
    """Call the function that the payload names, with the rest of the payload as its text."""
    name, _, argument = payload.decode().partition(" ")
    return globals()[name](argument, report)


def echo(argument, report):
    return argument


def pid(argument, report):
    return os.getpid()


def hold_lock(argument, report):
    """Keep every other thread and the handling of signals from running."""
    report({"holding": True})
    sum(itertools.repeat(1, 10**14))


def slow_exit(argument, report):
    """Take a while to end after the job has been told to stop."""
    atexit.register(time.sleep, 0.7)
    tick("", report)


def stay(argument, report):
    """Say where this is, and nothing more until there is a file."""
    report({"node": os.environ.get("JOBS_NODE"), "pid": os.getpid(), "env": dict(os.environ)})
    while not Path(argument).exists():
        time.sleep(0.01)


def read_files(argument, report):
    """Say on which node this is and what files a folder of its cache has, and stay there."""
    folder = cache_root() / argument
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    report({"node": os.environ["JOBS_NODE"], "files": files})
    tick("", report)


def count(argument, report):
    for i in range(int(argument)):
        report({"i": i})
    return "counted"


def mirror(payload: bytes, report: Report) -> bytes:
    report({"blob": payload})
    return payload


def noise(argument, report):
    for i in range(50):
        print("noise \x00\xff" * 40, flush=True)
        os.write(1, b"\x80raw noise")
        os.write(2, b"\x80raw noise")
        report({"i": i})
    return "quiet"


def fail(argument, report):
    raise OwnError(f"lead {argument}\nis off")


def give_lock(argument, report):
    return threading.Lock()


def tell_lock(argument, report):
    report({"lock": threading.Lock()})


def give_unreadable(argument, report):
    return UnreadableError("II", "off")


def tell_unreadable(argument, report):
    report({"error": UnreadableError("II", "off")})


def leave(argument, report):
    print("last words")
    sys.exit(int(argument))


def leave_hard(argument, report):
    report({"before": "exit"})
    print("last words")
    os._exit(int(argument))


def kill_self(argument, report):
    print("last words")
    os.kill(os.getpid(), getattr(signal, argument))
    time.sleep(FOREVER)


def segfault(argument, report):
    ctypes.string_at(0)


def tick(argument, report):
    """Report until told to stop, then flush into the file `argument`."""
    try:
        for i in itertools.count():
            report({"i": i, "pid": os.getpid()})
            time.sleep(0.01)
    except Terminated:
        report({"flushing": True})
        if argument:
            Path(argument).write_text("flushed")
        raise


def stop_at_a_boundary(argument, report):
    """Ask at the end of every iteration; finish it, write a checkpoint, and only then end."""
    try:
        with shielded():
            for i in itertools.count():
                with shielded():
                    report({"i": i, "stop": stop_requested()})
                    time.sleep(0.01)
                    report({"i": i})
                if stop_requested():
                    break
            report({"checkpoint": i})
        report({"too far": i})
    except Terminated:
        return "checkpoint"


def stop_on_its_own(argument, report):
    raise Terminated("for no reason")


def poll_without_a_shield(argument, report):
    """Poll in vain, as nobody asks."""
    with shielded():
        inside = stop_requested()
    return [inside, stop_requested()]


def report_from_a_thread(argument, report):
    """Report from two threads: only the job's own may be interrupted."""
    threads_errors = []

    def tell():
        try:
            while not done.wait(0.01):
                report({"from": "helper"})
        except BaseException as error:  # noqa: BLE001
            threads_errors.append(repr(error))

    done = threading.Event()
    helper = threading.Thread(target=tell)
    helper.start()
    try:
        time.sleep(0.3)
        tick("", report)
    except Terminated:
        time.sleep(0.1)
        return threads_errors
    finally:
        done.set()
        helper.join()


def leave_a_thread(argument, report):
    """Leave a thread behind that goes on reporting for a second."""

    def tell():
        for _ in range(100):
            with contextlib.suppress(Terminated):
                report({"from": "the past"})
            time.sleep(0.01)

    threading.Thread(target=tell, daemon=True).start()


def report_slowly(argument, report):
    """Report more often than a certain time, and take much longer in all."""
    for i in range(8):
        report({"i": i})
        time.sleep(float(argument))
    return "slow"


def hang(argument, report):
    """Never be heard of again; with an argument, withstand SIGABRT too."""
    if argument:
        signal.signal(signal.SIGABRT, signal.SIG_IGN)
    report({"pid": os.getpid()})
    time.sleep(FOREVER)


def flush(argument, report):
    """Return something once it is told to stop, or fail."""
    try:
        tick("", report)
    except Terminated:
        if argument == "badly":
            raise OwnError("disk full") from None
        return "checkpoint 7"


def stubborn(argument, report):
    """Go on after having been told to stop."""
    try:
        report({"stubborn": True, "pid": os.getpid()})
        time.sleep(FOREVER)
    except Terminated:
        report({"ignored": True})
    time.sleep(FOREVER)


def late(argument, report):
    """Report once more some seconds later, though told to stop in between."""
    end = time.monotonic() + float(argument)
    with contextlib.suppress(Terminated):
        report({"pid": os.getpid()})
    while time.monotonic() < end:
        with contextlib.suppress(Terminated):
            time.sleep(0.05)
    with contextlib.suppress(Terminated):
        report({"late": True})


def sleep(argument, report):
    report({"pid": os.getpid()})
    time.sleep(float(argument or FOREVER))


def terminate_twice(argument, report):
    """Send itself two SIGTERMs and say how many exceptions came of them."""
    caught = 0
    for _ in range(2):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        except Terminated:
            caught += 1
            assert threading.current_thread() is threading.main_thread()
    report({"caught": caught})


def read(argument, report):
    """Read, once there is a file if one is named, until told that it was the last; return all."""
    stay(argument or os.curdir, report)
    found = []
    while not (found and found[-1].get("last")):
        found += received()
        time.sleep(0.001)
    return found


def read_what_is_there(argument, report):
    """Return what comes within some seconds."""
    found = []
    end = time.monotonic() + float(argument)
    while time.monotonic() < end:
        found += received()
        time.sleep(0.01)
    return found


def read_in_two_threads(argument, report):
    """Return what a thread that is not the job's own gets, and what the job's gets then."""
    report({"pid": os.getpid()})
    time.sleep(float(argument))
    helpers = []
    helper = threading.Thread(target=lambda: helpers.extend(received()))
    helper.start()
    helper.join()
    return helpers, received()


def terminated_in_a_message(argument, report):
    """Get SIGTERM between the head of a message and its body, and read on after that."""
    receive = Connection._recv

    def receive_and_terminate(*arguments):
        Connection._recv = receive
        head = receive(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return head

    Connection._recv = receive_and_terminate
    try:
        while True:
            received()
    except Terminated:
        report({"flushing": True})
    return read("", report)


def read_and_flush(argument, report):
    """Read as quickly as can be until told to stop, then flush into the file `argument`."""
    try:
        report({"pid": os.getpid()})
        while True:
            received()
    except Terminated:
        Path(argument).write_text("flushed")
        raise


def with_child(argument, report):
    child = subprocess.Popen(["sleep", str(FOREVER)])
    report({"pid": os.getpid(), "child": child.pid})
    time.sleep(FOREVER)


def flood(argument, report):
    """Report as much as the connection takes until told to stop."""
    blob = bytes(300_000)
    try:
        while True:
            report({"pid": os.getpid(), "blob": blob})
    except Terminated:
        report({"flushed": True})
        raise
