"""Links into MLflow's own pages, as MLflow 3.17 reads them.

They are relative to the address of the UI (``#/experiments/...``): that is not known here. What
filters and orders the list of runs stands in the address; what groups it does not, but in a "shared
view", which is a tag of the experiment that the address names.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

#: Before the name of a shared view, in an experiment's tags.
VIEW_TAG = "mlflow.sharedViewState."
#: The UI's two halves are for language models and for everything else.
_WORKFLOW = "workflowType=machine_learning"
#: Runs that the UI reads before somebody asks for more.
PAGE = 100
#: Names a run's configuration: what is grouped by has room for a word or two, and for no table of
#: options.
CONFIGURATION_TAG = "ecg_mlflow.configuration"


def children_url(
    experiment_id: str, parent_id: str, metric: str, *, higher_is_better: bool = True
) -> str:
    """Return the link to all runs of a study as a flat list with charts, best first.

    The UI shows no charts for children that are folded under their parent.
    """
    search, order = quote(_children(parent_id), safe=""), quote(_ordered_by(metric), safe="")
    return (
        f"#/experiments/{experiment_id}/runs?searchFilter={search}"
        f"&orderByKey={order}&orderByAsc={'false' if higher_is_better else 'true'}"
        f"&compareRunsMode=CHART&{_WORKFLOW}"
    )


def averages_url(experiment_id: str, parent_id: str) -> str:
    """Return the link to the charts that average repetitions; they need `averages_view`."""
    return (
        f"#/experiments/{experiment_id}/runs?viewStateShareKey={parent_id}"
        f"&compareRunsMode=CHART&{_WORKFLOW}"
    )


def averages_view(
    parent_id: str, metric: str, n_runs: int, *, higher_is_better: bool = True
) -> dict[str, str]:
    """Return the experiment's tag with the view in which repetitions are one line.

    Parameters
    ----------
    parent_id
        The study.
    metric
        What runs are ordered by, and what is drawn beside the loss.
    n_runs
        How many runs there are. The UI averages those that it has read: of more than a page, the
        best ones would be too good. They are read by configuration then.
    higher_is_better
        Whether the best metric is the highest one.
    """
    by_metric = n_runs <= PAGE
    keys = [{"mode": "tag", "groupByData": CONFIGURATION_TAG}]
    view = {
        "searchFilter": _children(parent_id),
        "orderByKey": _ordered_by(metric) if by_metric else f"tags.`{CONFIGURATION_TAG}`",
        "orderByAsc": not (by_metric and higher_is_better),
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys},
        "useGroupedValuesInCharts": True,
        "chartsSearchFilter": f"^(loss|{metric})$",
    }
    return {f"{VIEW_TAG}{parent_id}": json.dumps(view)}


def _children(parent_id: str) -> str:
    return f"tags.{MLFLOW_PARENT_RUN_ID} = '{parent_id}'"


def _ordered_by(metric: str) -> str:
    return f"metrics.`{metric}`"
