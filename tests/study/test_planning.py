from __future__ import annotations

import shutil

import numpy as np
import pytest

from ecg_mlflow import (
    C,
    Grid,
    Optimizer,
    Option,
    Pipeline,
    Research,
    ResNet,
    Split,
    load_corpus,
)
from ecg_mlflow.errors import BadRecordsError, ResearchError, SplitError
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import Overrides

ROOT = Pipeline().center_flip()
DESIGN = {
    "grid": Option("layout", ["cna", "cnacna"]),
    "model": ResNet,
    "model_arguments": {"blocks": [1], "filters": [4], "input_filters": 4},
    "train": ROOT.random_split_signals(100, 2),
    "test": ROOT.split_signals(100, step=100),
    "classes": ["A", "N"],
    "batch_size": 5,
    "epochs": 3,
}


def research(**changes):
    return Research(**{**DESIGN, **changes})


@pytest.fixture
def corpus(beats):
    return load_corpus(str(beats))


@pytest.fixture
def records(beats, tmp_path):
    """Give a copy of the records that a test may damage."""
    folder = tmp_path / "records"
    shutil.copytree(beats, folder)
    return folder


def plan(corpus, overrides=None, **changes):
    return plan_study(research(**changes), corpus, overrides or Overrides())


def test_repetitions_are_outermost(corpus):
    planned = plan(corpus, repetitions=3)
    assert [run.key for run in planned.runs] == [
        "00-r0",
        "01-r0",
        "00-r1",
        "01-r1",
        "00-r2",
        "01-r2",
    ]


def test_what_a_configuration_will_do(corpus):
    one = plan(corpus, test_every="2 epochs").configs[0]
    # 16 of 20 records train, two windows of each; batches of 5, 5, 5 and 1.
    assert one.iterations_per_epoch == 4
    assert one.n_iterations == 12
    assert one.data.windows_per_epoch == 32
    assert one.data.input_shape == (100, 1)
    assert one.tests.iterations(one.n_iterations) == [7, 11]
    assert one.name == "ResNet cna"
    # 28 + 8 stem, 48 + 8 block, 10 head
    assert one.network.parameters == 102


def test_drop_last_leaves_the_partial_batch_out_and_says_so(corpus):
    planned = plan(corpus, drop_last=True)
    assert planned.configs[0].iterations_per_epoch == 3
    assert any("drop_last leaves 1 of 16 training records out" in note for note in planned.notes)


def test_each_configuration_has_the_batches_of_its_own_settings(corpus):
    grid = Option("layout", ["c"]) * Option("rest", [False, True]) * Option("size", [5, 6])
    planned = plan(corpus, grid=grid, drop_last=C("rest"), batch_size=C("size"))
    assert [one.iterations_per_epoch for one in planned.configs] == [4, 3, 3, 2]
    assert [len(one.data.notes) for one in planned.configs] == [0, 0, 1, 1]


def test_overrides_take_the_place_of_the_files_words(corpus):
    planned = plan(
        corpus, Overrides(epochs=7, repetitions=2, test_every="last", configs="1", limit=13)
    )
    assert [run.key for run in planned.runs] == ["01-r0", "01-r1"]
    assert planned.configs[0].settings.epochs == 7
    assert planned.configs[0].tests.iterations(14) == [13]
    assert sum(len(rows) for _, rows in planned.parts.items()) == 13


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        (Overrides(limit=1), {}, "limit=1 must leave at least 2"),
        (Overrides(configs="9"), {}, "numbered 0 to 1"),
        (
            Overrides(epochs=2),
            {"grid": Option("passes", [1]) * Option("layout", ["c"]), "epochs": C("passes")},
            r"epochs=2 can't take the place of C\('passes'\)",
        ),
        (Overrides(epochs=0), {}, "epochs=0"),
    ],
)
def test_overrides_that_do_not_fit(corpus, overrides, changes, message):
    with pytest.raises(ResearchError, match=message):
        plan(corpus, overrides, **changes)


def test_equal_configurations_run_once_with_a_note(corpus):
    planned = plan(corpus, grid=Option("layout", ["cna"]) + Option("layout", ["cna", "c"]))
    assert len(planned.configs) == 2
    assert any("layout_cna equals layout_cna by value" in note for note in planned.notes)


def test_configurations_that_share_pipelines_share_their_data(corpus):
    first, second = plan(corpus).configs
    assert first.data is second.data


@pytest.mark.parametrize(
    ("option", "field", "shares"),
    [
        (Option("seed", [0, 1]), "seed", False),
        (Option("size", [5, 6]), "batch_size", False),
        (Option("rest", [False, True]), "drop_last", False),
        (Option("cut", [ROOT.random_split_signals(100, n) for n in (2, 3)]), "train", False),
        (Option("passes", [3, 4]), "epochs", True),
        (Option("rule", [Optimizer("adam"), Optimizer("sgd")]), "optimizer", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stream_of_batches_is_shared_by_those_that_draw_the_same(corpus, option, field, shares):
    grid = Option("layout", ["cna", "cnacna"]) * option
    configs = plan(corpus, grid=grid, **{field: C(option.name)}).configs
    first, second = ([one.stream for one in configs[i::2]] for i in (0, 1))
    assert first[0] == first[1], "another layout changes no batch"
    assert second[0] == second[1]
    assert (first[0] == second[0]) == shares


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"test": ROOT.split_signals(64, step=64)},
            r"configuration layout_cna: one model can't take .* train \(100, 1\), test \(64, 1\)",
        ),
        ({"train": ROOT}, "the train pipeline: the pipeline must cut windows of one length"),
        (
            {"train": ROOT.random_split_signals(100, {"A": 2})},
            "the train records: .*label 'N' is not among",
        ),
        (
            {"train": Pipeline().drop_labels(["A"]).random_split_signals(100, 1)},
            "the train records: no record has the label 'A', so that class can't be learnt",
        ),
        (
            {"test": Pipeline().drop_labels(["A"]).split_signals(100, 100)},
            "the test records: no record has the label 'A', so that class can't be scored",
        ),
        ({"train": ROOT.random_split_signals(100, 1), "batch_size": 0}, "batch_size=0"),
        (
            {"batch_size": 17, "drop_last": True},
            "16 records are too few for a batch of 17 records; drop_last=False would keep",
        ),
        (
            {"model_arguments": {"blocks": 1, "filters": [4], "input_filters": 4}},
            "configuration layout_cna: ResNet refuses its arguments: 'int' object is not iterable",
        ),
        (
            {"model_arguments": {"blocks": [1, 1], "filters": [4], "input_filters": 4}},
            "must name the same number of groups",
        ),
        ({"grid": Option("layout", ["cxa"])}, "configuration layout_cxa: layout='cxa'"),
        (
            {"train": Pipeline().apply(lambda signal, fs: signal / 0).random_split_signals(100, 1)},
            "NaN or infinite",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_can_not_run_is_known_before(corpus, changes, message):
    with pytest.raises(ResearchError, match=message):
        plan(corpus, **changes)


def test_a_step_that_raises_is_named_with_its_record(corpus):
    def quotient(signal, fs):
        raise ZeroDivisionError("no beats")

    with pytest.raises(ResearchError, match=r"quotient.*ZeroDivisionError: no beats"):
        plan(corpus, train=Pipeline().apply(quotient).random_split_signals(100, 1))


def test_all_bad_records_stand_in_one_error(records):
    (records / "S05.dat").unlink()
    whole = (records / "S06.dat").read_bytes()
    (records / "S06.dat").write_bytes(whole[: len(whole) // 2])
    (records / "S07.hea").write_text("this is no header\n")
    silent = np.frombuffer((records / "S08.dat").read_bytes(), "<i2").copy()
    silent[10] = -32768  # WFDB's NaN
    (records / "S08.dat").write_bytes(silent.tobytes())
    lines = (records / "REFERENCE.csv").read_text().splitlines()
    lines = [line for line in lines if not line.startswith("S09")]
    lines[lines.index("S10,N")] = "S10,X"
    (records / "REFERENCE.csv").write_text("\n".join(lines) + "\n")

    with pytest.raises(BadRecordsError) as error:
        plan(load_corpus(str(records)))
    listed = {line.split()[0] for line in str(error.value).splitlines() if line.startswith("  ")}
    assert listed == {"S05", "S06", "S07", "S08", "S09", "S10"}
    assert "a label that no class covers" in str(error.value)
    assert "on_bad_record=skip" in str(error.value)

    planned = plan(load_corpus(str(records)), Overrides(skip_bad_records=True))
    assert {record.id for record in planned.bad} == listed
    used = {planned.corpus.ids[row] for _, rows in planned.parts.items() for row in rows}
    assert len(used) == 14
    assert not used & listed


def test_one_id_twice_is_a_bad_record(records):
    (records / "a").mkdir()
    (records / "b").mkdir()
    for path in list(records.glob("S*")):
        shutil.copy(path, records / "a")
        if path.stem == "S03":
            shutil.copy(path, records / "b")
        path.unlink()
    with pytest.raises(BadRecordsError, match="S03"):
        plan(load_corpus(str(records / "*" / "*.hea"), records / "REFERENCE.csv"))


def test_a_label_that_only_one_pipeline_renames_is_found(corpus):
    with pytest.raises(BadRecordsError, match=r"'N'; classes are \['A', 'NO'\]"):
        plan(
            corpus,
            classes=["A", "NO"],
            train=Pipeline().rename_labels({"N": "NO"}).random_split_signals(100, 1),
        )


def test_copies_on_two_sides_of_the_split(records):
    for ending in ("hea", "dat"):
        content = (records / f"S02.{ending}").read_bytes()
        (records / f"S12.{ending}").write_bytes(content.replace(b"S02", b"S12"))
    corpus = load_corpus(str(records))
    with pytest.raises(SplitError, match=r"S02 \(test\) = S12 \(train\)"):
        plan(corpus)
    planned = plan(corpus, split=Split(0.7, seed=0))
    assert "the same recording under several names: S02 = S12" in planned.notes


def test_identities_tell_trainings_apart(corpus):
    base = plan(corpus, repetitions=2)
    assert len({run.identity for run in base.runs}) == 4
    same = plan(corpus, repetitions=2)
    assert [run.identity for run in same.runs] == [run.identity for run in base.runs]
    assert same.digest == base.digest
    for changes in (
        {"epochs": 4},
        {"seed": 1},
        {"batch_size": 4},
        {"optimizer": Optimizer("sgd")},
        {"split": 0.7},
        {"train": ROOT.random_split_signals(100, 3)},
        {"model_arguments": {"blocks": [1], "filters": [4], "input_filters": 8}},
    ):
        other = plan(corpus, repetitions=2, **changes)
        assert not {r.identity for r in other.runs} & {r.identity for r in base.runs}, changes


def test_a_grown_grid_keeps_the_identities_it_had(corpus):
    before = {run.identity for run in plan(corpus).runs}
    after = {
        run.identity for run in plan(corpus, grid=Option("layout", ["c", "cna", "cnacna"])).runs
    }
    assert before < after


def test_a_study_without_options(corpus):
    (one,) = plan(
        corpus, grid=Grid(), model_arguments={**DESIGN["model_arguments"], "layout": "c"}
    ).configs
    assert one.name == "ResNet"


def test_the_plan_as_plain_data(corpus):
    import json

    described = json.loads(json.dumps(plan(corpus).describe()))
    assert described["split"]["test"] == ["S01", "S02", "S03", "S04"]
    assert described["runs"][1]["config"] == {"layout": "cnacna"}
    assert described["runs"][1]["iterations"] == 12
    assert described["corpus"]["digest"] == corpus.digest
