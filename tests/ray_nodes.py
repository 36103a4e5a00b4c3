"""A Ray cluster of two nodes on this machine, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class TwoNodes:
    """A Ray cluster of two nodes on this machine, each with a GPU that does not exist.

    Parameters
    ----------
    first, second
        Environment variables of the two nodes.
    num_cpus
        Cores of each.

    Attributes
    ----------
    caches
        Folders of the two, where whoever made it has given them any.
    """

    caches: list[Path]

    def __init__(self, first: dict[str, str], second: dict[str, str], num_cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self._variables = (first, second)
        self._num_cpus = num_cpus
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                **self._node(0),
                "include_dashboard": False,
                # A lost node is given up after four seconds, not after a dozen.
                "_system_config": {
                    "health_check_initial_delay_ms": 1000,
                    "health_check_period_ms": 1000,
                    "health_check_failure_threshold": 4,
                },
            },
        )
        self.add_second()

    def _node(self, number: int) -> dict[str, Any]:
        return {
            "num_cpus": self._num_cpus,
            "num_gpus": 1,
            "env_vars": self._variables[number],
        }

    def add_second(self) -> None:
        """Start the second node, again if it was removed."""
        self.second = self.cluster.add_node(**self._node(1))
        self.cluster.wait_for_nodes()

    def remove_second(self) -> None:
        """Let it die as a machine does whose power fails."""
        self.cluster.remove_node(self.second, allow_graceful=False)
