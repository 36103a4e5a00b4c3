"""Describe experimental designs: options, grids of them, and placeholders for their values."""

from ecg_mlflow.grids.grid import Grid, Option
from ecg_mlflow.grids.placeholder import C, references, resolve
from ecg_mlflow.grids.ranges import IntUniform, LogUniform, Uniform
from ecg_mlflow.grids.values import KV, ConfigAlias, Range

__all__ = [
    "KV",
    "C",
    "ConfigAlias",
    "Grid",
    "IntUniform",
    "LogUniform",
    "Option",
    "Range",
    "Uniform",
    "references",
    "resolve",
]
