from __future__ import annotations

import pytest
from studies import numpy_grid

from ecg_mlflow.cli import main
from ecg_mlflow.reports.text_tables import aligned
from ecg_mlflow.terminal import printable, say, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("AF\x1b[2K\rN", r"AF\x1b[2K\rN"),
        ("\x07\x00\x9b1A", r"\x07\x00\x9b1A"),
        ("\u202eN reversed", r"\u202eN reversed"),
        ("µV, Ž, 心, ±\n\tnext", "µV, Ž, 心, ±\n\tnext"),
    ],
    ids=["escape sequence", "bell and C1", "direction of writing", "text"],
)
def test_what_would_move_the_cursor_or_hide_text_is_shown_as_it_is_written(text, shown, capsys):
    assert printable(text) == shown
    say(text, "and this")
    assert capsys.readouterr().out == f"{shown}\nand this\n"


def test_long_texts_are_cut_and_stay_different():
    one, other = ("x" * 10_000 + end for end in "ab")
    assert len(shortened(one)) == 120
    assert shortened(one) != shortened(other)
    assert shortened("x" * 120) == "x" * 120
    lines = aligned([["alias", "f1"], [one, "0.5"], [other, "0.25"], ["a\nb\tc", "1"]])
    assert len(lines) == 4, "a newline breaks no table"
    assert max(map(len, lines)) < 130
    assert lines[3].startswith("a b c ")


def test_names_that_other_people_gave_reach_the_terminal_printable(workplace, experiment, capsys):
    name, alias = "\x1b[31mred", "\x1b[31mred\nand more"
    text = numpy_grid(grid=f"Option('hidden', [KV(2, {alias!r}), 3])", name=repr(name))
    grid = workplace.write_grid(text)
    assert workplace.run(grid, "--workers", "0", experiment=experiment) == 0
    parent, _ = workplace.runs(experiment)
    for words in (
        ["plan", str(grid), "--data", str(workplace.records)],
        ["compare", parent.info.run_id],
        ["compare", name],
        ["run", name],
        [name],
    ):
        main(words)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert r"\x1b[31mred" in said.out
    assert r"\x1b[31mred" in said.err
    assert not [line for line in said.err.splitlines() if line.startswith("and more: ")]
