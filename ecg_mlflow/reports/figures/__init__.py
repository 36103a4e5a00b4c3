"""Pictures of comparisons and of recordings, as figures that no global state knows of."""

from ecg_mlflow.reports.figures.curves import Curve, ranking_plot
from ecg_mlflow.reports.figures.ecg_paper import draw_strip, strip_title
from ecg_mlflow.reports.figures.intervals import interval_plot
from ecg_mlflow.reports.figures.reliability import Reliability, reliability_plot
from ecg_mlflow.reports.figures.scores import Score, Subgroup
from ecg_mlflow.reports.figures.sheet import png
from ecg_mlflow.reports.figures.sizes import size_plot
from ecg_mlflow.reports.figures.subgroups import subgroup_plot

__all__ = [
    "Curve",
    "Reliability",
    "Score",
    "Subgroup",
    "draw_strip",
    "interval_plot",
    "png",
    "ranking_plot",
    "reliability_plot",
    "size_plot",
    "strip_title",
    "subgroup_plot",
]
