"""Pictures of comparisons and of recordings, as figures that no global state knows of."""

from ecg_mlflow.drawing.curve_plots import Curve, ranking_plot
from ecg_mlflow.drawing.ecg_paper import draw_strip, strip_title
from ecg_mlflow.drawing.html_report import Paragraph, Picture, Section, Table, html_report
from ecg_mlflow.drawing.intervals import interval_plot
from ecg_mlflow.drawing.reliability import Reliability, reliability_plot
from ecg_mlflow.drawing.scores import Score, Subgroup
from ecg_mlflow.drawing.sheet import png
from ecg_mlflow.drawing.sizes import size_plot
from ecg_mlflow.drawing.subgroups import subgroup_plot

__all__ = [
    "Curve",
    "Paragraph",
    "Picture",
    "Reliability",
    "Score",
    "Section",
    "Subgroup",
    "Table",
    "draw_strip",
    "html_report",
    "interval_plot",
    "png",
    "ranking_plot",
    "reliability_plot",
    "size_plot",
    "strip_title",
    "subgroup_plot",
]
