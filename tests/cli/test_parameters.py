"""Parameters as ``mlflow run`` writes them, and as a person types them."""

from __future__ import annotations

import pytest
from studies import parsed

from ecg_mlflow.cli.parameters import as_typed

FLAGS = {"--dry-run": "", "--reuse": "--no-reuse"}


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        ("x.py --on_bad_record skip", "x.py --on-bad-record skip"),
        ("x.py --on_bad_record=a_b", "x.py --on-bad-record=a_b"),
        ("a_b.py --data c_d", "a_b.py --data c_d"),
        ("--dry_run true x.py", "--dry-run x.py"),
        ("--dry_run True --reuse YES", "--dry-run --reuse"),
        ("--dry_run false --reuse false x.py", "--no-reuse x.py"),
        ("--reuse 0 --dry-run 1", "--no-reuse --dry-run"),
        ("--dry-run x.py", "--dry-run x.py"),
        ("--dry-run --reuse", "--dry-run --reuse"),
        ("--data true", "--data true"),
        ("--dry-run maybe", "--dry-run maybe"),
    ],
)
def test_words_of_mlflow_run_become_those_that_a_person_types(given, typed):
    assert as_typed(given.split(), FLAGS) == typed.split()


def test_an_option_with_an_empty_value_was_not_given():
    words = ["", "--data", "", "--dry_run", "", "--epochs", "3", "--configs", ""]
    assert as_typed(words, FLAGS) == ["", "--epochs", "3"]


@pytest.mark.parametrize(
    ("words", "value"),
    [([], None), (["--reuse"], True), (["--no-reuse"], False), (["--reuse", "false"], False)],
)
def test_a_flag_that_the_study_decides_on_where_it_is_left_out(words, value):
    assert parsed(["run", "x.py", *words])["reuse"] is value


@pytest.mark.parametrize(
    ("words", "value"),
    [([], None), (["--on-bad-record", "skip"], True), (["--on_bad_record", "error"], False)],
)
def test_bad_records(words, value):
    assert parsed(["run", "x.py", *words])["skip_bad_records"] is value
