"""How Sphinx builds the documentation: `sphinx-build -W -n docs build/docs`."""

from __future__ import annotations

import os
from importlib.metadata import version as version_of

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

# Sphinx imports modules that bring TensorFlow along; what it says about GPUs is no warning of ours.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

project = "ecg_mlflow"
author = "the ecg_mlflow authors"
release = version = version_of("ecg_mlflow")
extensions = ["sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["images/README*"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Experimental designs over ECG classifiers, run and compared on MLflow",
    "page_width": "1240px",
    "sidebar_width": "240px",
    "fixed_sidebar": True,
}
html_show_copyright = False

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Parameters are described without their types: those stand in the signature.
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# What other projects document; names that are imported for type checkers alone, which Sphinx sees
# without their modules; and what stands in signatures without being for anybody to call.
nitpick_ignore_regex = [
    (r"py:.*", r"(np|npt|numpy|pd|pandas|keras|tf|tensorflow|mlflow|optuna|matplotlib|ray)\..*"),
    (r"py:.*", r"(collections|pathlib|types|typing|datetime|contextlib|os|signal|subprocess)\..*"),
    (r"py:class", r"[A-Z]\w*"),
    (r"py:class", r"ecg_mlflow\.grids\.grid\.Design"),
    (r"py:.*", r"ecg_mlflow\.(grids\.canonical|provenance)\..*"),
    (r"py:class", r"ecg_mlflow\.study\.research\.Settings"),
    (r"py:.*", r"_frozen_importlib.*"),
    (r"py:class", r"ecg_mlflow\.records\.synthetic\..*"),
    (r"py:class", r"ecg_mlflow\.tracking\.(retry|runs)\..*"),
]


class CommandHelp(Directive):
    """The help text of one command: ``.. command-help:: run``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the text as a literal block."""
        from click import Context

        from ecg_mlflow.cli import program

        (name,) = self.arguments
        # As wide wherever it is built.
        whole = program.make_context("ecg-mlflow", [name], terminal_width=96)
        text = Context(program.commands[name], whole, name).get_help()
        return [nodes.literal_block(text, text, language="none")]


class DataSets(Directive):
    """A section for each data set that has a name: ``.. data-sets::``."""

    def run(self) -> list[nodes.Node]:
        """Put the sections in the place of the directive."""
        from ecg_mlflow.reports.data_sets import data_sets_page

        self.state_machine.insert_input(data_sets_page().splitlines(), "data sets")
        return []


def readable_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str, returned: str
) -> tuple[str, str] | None:
    """Write a data class's made default as ``...``: what Python writes, no parser can read."""
    made = signature and "<factory>" in signature
    return (signature.replace("<factory>", "..."), returned) if made else None


def setup(app: Sphinx) -> None:
    """Add what is ours to Sphinx."""
    app.add_directive("command-help", CommandHelp)
    app.add_directive("data-sets", DataSets)
    app.connect("autodoc-process-signature", readable_signature)
