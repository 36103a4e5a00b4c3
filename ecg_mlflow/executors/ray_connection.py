"""Ray itself: whether this process is connected to a cluster, and what that has room for."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Any, cast

import ray

from ecg_mlflow.errors import DeviceError
from ecg_mlflow.executors.base import ExecutorError
from ecg_mlflow.executors.machine import count_cores

_KNOCK = 10.0  # seconds for a cluster to be reached


def check_share(n_workers: int, num_cpus: float, num_gpus: float) -> None:
    """Raise ExecutorError for numbers that no cluster could serve."""
    if n_workers < 1:
        raise ExecutorError(f"n_workers={n_workers}: write a number of at least 1")
    if not num_cpus > 0:
        raise ExecutorError(f"num_cpus={num_cpus:g}: write a number above 0")
    if num_gpus < 0 or (num_gpus > 1 and num_gpus != int(num_gpus)):
        raise ExecutorError(
            f"num_gpus={num_gpus:g}: write whole GPUs, or a fraction of one, per worker"
        )


def connect(address: str | None) -> bool:
    """Connect to Ray unless this process is; return whether that has to be undone.

    Raises
    ------
    ExecutorError
        If there is no Ray at the address.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"num_cpus": count_cores(), "include_dashboard": False}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ExecutorError(
            f"can't connect to Ray at {address}: {error}. Start it there with `ray start --head`, "
            "or leave the address out for one on this machine"
        ) from error
    finally:
        if in_main and handler is not None:  # Ray takes SIGTERM over, which is the driver's affair
            signal.signal(signal.SIGTERM, handler)
    return True


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), _KNOCK):
            pass


def check_room(n_workers: int, num_cpus: float, num_gpus: float) -> None:
    """Raise DeviceError if the cluster could never hold so many workers at once."""
    nodes: list[dict[str, Any]] = cast(Any, ray).nodes()  # which has no types
    found = [node["Resources"] for node in nodes if node["Alive"]]
    room = sum(_count_room(node, num_cpus, num_gpus) for node in found)
    if room < n_workers:
        shown = "; ".join(
            f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in found
        )
        raise DeviceError(
            f"{n_workers} workers with {num_cpus:g} CPUs and {num_gpus:g} GPUs each were asked "
            f"for, and the Ray cluster has room for {room}; its nodes have {shown}. Take fewer "
            "workers or smaller shares, or add nodes"
        )


def _count_room(node: Mapping[str, float], num_cpus: float, num_gpus: float) -> int:
    room = int(node.get("CPU", 0) / num_cpus + 1e-9)
    gpus = int(node.get("GPU", 0))
    if num_gpus >= 1:
        room = min(room, gpus // int(num_gpus))
    elif num_gpus > 0:
        room = min(room, gpus * int(1 / num_gpus + 1e-9))
    return room
