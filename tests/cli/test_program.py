"""The program as a whole: overview, help, version, completion, wrong usage."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from studies import parsed

import ecg_mlflow
from ecg_mlflow.cli import main, program

COMMANDS = {"run", "plan", "reap", "data", "datasets", "show", "compare", "errors"}
COMMANDS |= {"promote", "rollback", "predict"}


@pytest.fixture(autouse=True)
def terminal_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_the_overview_says_in_one_line_what_each_command_does(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    listed = dict(
        line.split(maxsplit=1)
        for line in told.splitlines()
        if line.startswith("  ") and line.split()[0] in COMMANDS
    )
    assert listed.keys() == COMMANDS == set(program.commands)
    assert all(text[0].isupper() and text.endswith(".") for text in listed.values())
    assert [line for line in told.splitlines() if line.endswith(":") and line[0] != " "] == [
        *("Options:", "Studies:", "Recordings:", "Reports:", "Models:")
    ]
    assert main([]) == 2
    assert capsys.readouterr() == ("", told), "also without a command"


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_the_help_of_a_command_fits_a_terminal_and_explains_every_option(name, word, capsys):
    assert main([name, word]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"Usage: ecg-mlflow {name} [OPTIONS]")
    assert max(map(len, told.splitlines())) <= 80
    for param in program.commands[name].params:
        if isinstance(param, click.Option):
            assert all(word in told for word in (*param.opts, *param.secondary_opts))
            assert param.help


def test_the_options_of_run_stand_under_headings_and_its_examples_at_the_end(capsys):
    assert main(["run", "--help"]) == 0
    told = capsys.readouterr().out
    in_order = (
        *(
            "\nData:",
            " --labels",
            "\nDesign, in place of the grid file's:",
            "\nSearch:",
            " --sampler",
        ),
        *("\nMachines:", " --gpus", "\nResume:", " --retry-failed", "\nOptions:", "\nExamples:"),
    )
    places = [told.index(one) for one in in_order]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["run", "plan"])
def test_the_examples_of_the_help_can_be_typed(name):
    examples = (program.commands[name].epilog or "").strip().splitlines()
    for example in examples:
        words = shlex.split(example)
        assert words[:2] == ["ecg-mlflow", name]
        assert parsed(words[1:])["grid"] or "--resume" in words


def test_the_version_is_that_of_the_installed_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ecg-mlflow, version {version('ecg_mlflow')}\n"
    assert ecg_mlflow.__version__ == version("ecg_mlflow")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("walk", "No such command 'walk'"),
        ("run", "Missing argument 'GRID'"),
        ("plan x.py --resume abc", "No such option"),
        ("run x.py --epoch 3", "--epochs"),  # an abbreviation
        ("run x.py y.py", "unexpected extra argument (y.py)"),
        ("run x.py --epochs 0", "'--epochs': 0 is not in the range x>=1"),
        ("run x.py --workers -1", "'--workers': -1 is not in the range x>=0"),
        ("run x.py --limit many", "'--limit': 'many' is not a valid whole number"),
        ("run x.py --gpus-per-worker nan", "'nan' is not a finite number"),
        ("run x.py --hang-minutes inf", "'inf' is not a finite number"),
        ("run x.py --hang-minutes 0", "0.0 is not in the range x>0"),
        ("run x.py --on-bad-record ignore", "'ignore' is not one of 'error', 'skip'"),
        ("run x.py --dry-run=maybe", "'--dry-run' does not take a value"),
        ("compare x --level 1", "'--level': 1.0 is not in the range 0<x<1"),
        ("promote x", "Missing option '--name'"),
        ("errors x --rule median", "'lower_bound', 'mean', 'smallest'"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_the_culprit(words, message, capsys):
    assert main(words.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(("Usage: ecg-mlflow", "Error: Option"))
    assert message in told.err


def test_completion_of_commands_and_options(monkeypatch, capsys):
    monkeypatch.setenv("_ECG_MLFLOW_COMPLETE", "bash_source")
    assert main([]) == 0
    assert "complete -o nosort -F _ecg_mlflow_completion ecg-mlflow" in capsys.readouterr().out
    monkeypatch.setenv("_ECG_MLFLOW_COMPLETE", "bash_complete")
    for typed, found in (
        ("ecg-mlflow pr", {"plain,promote", "plain,predict"}),
        ("ecg-mlflow run x.py --search", {"plain,--search-seed"}),
        ("ecg-mlflow run x.py --executor r", {"plain,ray"}),
    ):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
        assert main([]) == 0
        assert set(capsys.readouterr().out.split()) == found


def test_the_command_line_loads_no_library_before_a_command_needs_it():
    code = "import sys, ecg_mlflow.cli; print(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "click" in loaded
    assert not loaded & {"mlflow", "tensorflow", "keras", "numpy", "pandas", "numba", "optuna"}
