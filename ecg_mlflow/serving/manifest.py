"""What a model knows of itself beside its network: how recordings become windows and answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ecg_mlflow.errors import ModelError
from ecg_mlflow.provenance import installed_version

#: To be raised when a field comes to mean something else.
FORM = 1
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class SelfTest:
    """A recording with a known answer, by which a model notices that it computes otherwise.

    Attributes
    ----------
    record
        Name of the recording; its samples are kept beside the manifest.
    fs
        Its sampling frequency in Hz.
    leads
        Its leads.
    probabilities
        One per class, as they came when the model was made.
    """

    record: str
    fs: float
    leads: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Manifest:
    """All that decides how a recording is read, judged and answered, but for the weights.

    Attributes
    ----------
    classes, positive
        Names of the classes in the order of the network's outputs, and the one that the threshold
        is for.
    input_shape
        ``(length, n_leads)`` of a window.
    pipeline
        The test pipeline, as `stages_to_json` writes it.
    leads
        Of the recordings trained on, before the pipeline.
    fs
        Sampling frequencies that occurred among them, in Hz.
    shortest_s
        Duration of the shortest one, in seconds.
    activation
        What makes probabilities of the network's outputs: ``softmax``, ``sigmoid`` or ``linear``.
    threshold
        A recording is `positive` from this probability on; None: the most probable class, or,
        where it may be of several, those of at least 0.5.
    temperature
        Of the calibrated probabilities; 1 leaves them as they are.
    threshold_rule, calibrated_on
        Where the two numbers come from, in words.
    version, code
        Of the package that made the model: its version, and a digest of its Python files.
    self_test
        What the model tries itself on when it is loaded.
    """

    classes: tuple[str, ...]
    positive: str
    input_shape: tuple[int, int]
    pipeline: tuple[Mapping[str, Any], ...]
    leads: tuple[str, ...]
    fs: tuple[float, ...]
    shortest_s: float
    activation: str = "softmax"
    threshold: float | None = None
    temperature: float = 1.0
    threshold_rule: str = ""
    calibrated_on: str = ""
    version: str = ""
    code: str = ""
    self_test: SelfTest | None = None

    @property
    def multilabel(self) -> bool:
        """Whether a recording may be of several classes, or of none."""
        return self.activation == "sigmoid"

    @property
    def place(self) -> int:
        """Index of the positive class."""
        return self.classes.index(self.positive)

    def to_json(self) -> str:
        """Write it as JSON text."""
        return json.dumps({"form": FORM, **asdict(self)}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises
        ------
        ModelError
            If it was written in another version's form.
        """
        found = json.loads(text)
        form, made_by = found.pop("form", None), found.get("version")
        if form != FORM or set(found) != {field.name for field in fields(cls)}:
            raise ModelError(
                f"the model was made by ecg_mlflow {made_by} in form {form}, which this version "
                f"({package_version()}, form {FORM}) can't read: load it in a process that has not "
                "imported ecg_mlflow, or in an environment of the model's own requirements"
            )
        test = found["self_test"]
        if test is not None:
            found["self_test"] = SelfTest(**{key: _frozen(value) for key, value in test.items()})
        return cls(**{key: _frozen(value) for key, value in found.items()})


def package_version() -> str:
    """Return the version of this package; empty where it runs from a model's own copy."""
    return installed_version("ecg_mlflow") or ""


def code_digest() -> str:
    """Hash the package's Python files as they are now."""
    content = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py"), key=lambda file: file.relative_to(_PACKAGE).parts):
        name = file.relative_to(_PACKAGE).as_posix()
        content.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return content.hexdigest()


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
