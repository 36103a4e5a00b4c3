from __future__ import annotations

import csv
import io
import warnings

import numpy as np
import pytest

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.artifacts import parse_table
from ecg_mlflow.tracking.run_data import (
    csv_text,
    log_new_params,
    log_params,
    log_tags,
    markdown,
    metric_name,
)


def test_params_and_tags_more_than_one_batch_and_longer_than_the_limit(client, run_id):
    long = "x" * 9000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        params = {f"p{i}": i for i in range(230)} | {"long": long, "long2": long + "y"}
        log_params(client, run_id, params)
    log_tags(client, run_id, {f"t{i}": i for i in range(130)} | {"reason": long})
    data = client.get_run(run_id).data
    assert (data.params["p229"], data.tags["t129"], len(data.params)) == ("229", "129", 232)
    assert (len(data.params["long"]), len(data.tags["reason"])) == (6000, 8000)
    assert "9000 characters" in data.params["long"]
    assert data.params["long"] != data.params["long2"]
    with pytest.raises(TrackingError, match=r"log the params of run .*p1"):
        log_params(client, run_id, {"p1": 2})
    log_new_params(client, run_id, {"p1": 2, "new": 3})
    found = client.get_run(run_id).data.params
    assert (found["p1"], found["new"]) == ("1", "3")


def test_a_table_keeps_every_digit():
    p = np.array([0.1, 1 / 3], np.float64)
    text = csv_text({"record": ["A,1", "A2"], "p": p, "label": (0, 1)})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["record"] for row in rows] == ["A,1", "A2"]
    assert [float(row["p"]) for row in rows] == p.tolist()
    assert [row["label"] for row in rows] == ["0", "1"]
    assert csv_text({"a": [], "b": []}) == "a,b\n"
    with pytest.raises(ValueError):
        csv_text({"a": [1], "b": [1, 2]})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("f1 A/b.c-d:e", "f1 A/b.c-d:e"),
        ("test_f1_~", "test_f1_tilde"),
        ("f1_é", "f1_latin_small_letter_e_with_acute"),
        ("a\nb", "au000ab"),
    ],
)
def test_metric_name(text, name):
    assert metric_name(text) == name


FORMULAS = ("=1+1", "+AF", "-", "@SUM(A1)", "\tx", " =1", "'=1", "=cmd|' /C calc'!A0")
TEXTS = ("AF", "~", "", "'AF'", "-0.5", "+3e-4", "1-2", "a=b", "O'Brien", 'ü,\n"')


def test_no_cell_is_a_formula_and_each_is_read_as_it_was_written():
    """Labels, patients, aliases and names of leads are other people's texts."""
    texts = [*FORMULAS, *TEXTS]
    columns = {"record": texts, "=label": texts, "p_A": np.full(len(texts), -0.5)}
    text = csv_text(columns)
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    for written, given in zip(rows, texts, strict=True):
        assert written[0] == (f"'{given}" if given in FORMULAS else given)
        assert written[2] == "-0.5"
    assert head == ["record", "'=label", "p_A"]
    assert csv_text({"label": ["N\r=1+1"]}) == "label\nN =1+1\n"
    found = parse_table(text.encode(), "a table")
    assert found["record"] == found["=label"] == texts
    np.testing.assert_array_equal(found["p_A"], columns["p_A"])


def test_older_tables_are_read_as_before():
    found = parse_table(b"record,label\n'A,=AF\n", "a table")
    assert found == {"record": ["'A"], "label": ["=AF"]}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("layout cna", "layout cna"),
        ("a|b\n| c", r"a\|b \| c"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("`code` *b* _i_ # h", r"\`code\` \*b\* \_i\_ \# h"),
        ("x" * 400, "x" * 297 + "..."),
        (3, "3"),
    ],
)
def test_a_name_is_no_markup_in_a_note(text, written):
    assert markdown(text) == written
