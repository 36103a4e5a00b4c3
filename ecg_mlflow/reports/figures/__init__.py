"""Figures of comparisons and recordings, drawn without pyplot and its global state."""

from ecg_mlflow.reports.figures.curve_plots import ranking_plot, reliability_plot
from ecg_mlflow.reports.figures.ecg_paper import draw_ecg
from ecg_mlflow.reports.figures.forest import interval_plot, subgroup_plot
from ecg_mlflow.reports.figures.sheet import png
from ecg_mlflow.reports.figures.sizes import size_plot

__all__ = [
    "draw_ecg",
    "interval_plot",
    "png",
    "ranking_plot",
    "reliability_plot",
    "size_plot",
    "subgroup_plot",
]
