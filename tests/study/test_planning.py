from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest
from studies import DESIGN, ROOT, small_plan

from ecg_mlflow import C, Grid, Optimizer, Option, Pipeline, ResNet, Split, load_corpus
from ecg_mlflow.errors import BadRecordsError, ResearchError, SplitError
from ecg_mlflow.executors.base import Outcome, OutcomeState
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.study import planning
from ecg_mlflow.study.plan import Network
from ecg_mlflow.study.planning import probe_networks


@pytest.fixture
def records(beats, tmp_path):
    """Give a copy of the records that a test may damage."""
    folder = tmp_path / "records"
    shutil.copytree(beats, folder)
    return folder


def plan(corpus, request=None, **changes):
    return small_plan(corpus, request, **{"batch_size": 5, "epochs": 3, **changes})


def test_what_a_study_will_do(corpus):
    planned = plan(corpus, test_every="2 epochs", repetitions=2)
    # Repetitions are outermost.
    assert [run.key for run in planned.runs] == ["00-r0", "01-r0", "00-r1", "01-r1"]
    one, other = planned.configs
    # 16 of 20 records train, two windows of each; batches of 5, 5, 5 and 1.
    assert one.iterations_per_epoch == 4
    assert one.n_iterations == 12
    assert one.data.windows_per_epoch == 32
    assert one.data.input_shape == (100, 1)
    assert one.data is other.data
    assert one.tests.iterations(one.n_iterations) == [7, 11]
    assert one.name == "ResNet cna"
    # 28 + 8 stem, 48 + 8 block, 10 head
    assert one.network.parameters == 102
    described = json.loads(json.dumps(planned.describe()))
    assert described["split"]["test"] == ["S01", "S02", "S03", "S04"]
    assert described["runs"][1]["config"] == {"layout": "cnacna"}
    assert described["runs"][1]["iterations"] == 12
    assert described["corpus"]["digest"] == corpus.digest
    without = {"grid": Grid(), "model_arguments": {**DESIGN["model_arguments"], "layout": "c"}}
    assert [one.name for one in plan(corpus, **without).configs] == ["ResNet"]


def test_each_configuration_has_the_batches_of_its_own_settings(corpus):
    grid = Option("layout", ["c"]) * Option("rest", [False, True]) * Option("size", [5, 6])
    planned = plan(corpus, grid=grid, drop_last=C("rest"), batch_size=C("size"))
    assert [one.iterations_per_epoch for one in planned.configs] == [4, 3, 3, 2]
    assert [len(one.data.notes) for one in planned.configs] == [0, 0, 1, 1]
    assert any("drop_last leaves 1 of 16 training records out" in note for note in planned.notes)


def test_the_request_takes_the_place_of_the_files_words(corpus):
    request = {"epochs": 7, "repetitions": 2, "test_every": "last", "configs": "1", "limit": 13}
    planned = plan(corpus, request)
    assert [run.key for run in planned.runs] == ["01-r0", "01-r1"]
    assert planned.configs[0].settings.epochs == 7
    assert planned.configs[0].tests.iterations(14) == [13]
    assert sum(len(rows) for _, rows in planned.parts.items()) == 13


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"limit": 1}, "limit=1 must leave at least 2"),
        ({"configs": "9"}, "numbered 0 to 1"),
        ({"epochs": 2}, r"epochs=2 can't take the place of C\('passes'\)"),
        ({"repetitions": 0}, "repetitions=0"),
    ],
)
def test_requests_that_do_not_fit(corpus, asked, message):
    grid = Option("passes", [1]) * Option("layout", ["c", "ca"])
    with pytest.raises(ResearchError, match=message):
        plan(corpus, asked, grid=grid, epochs=C("passes"))


def test_equal_configurations_run_once_with_a_note(corpus):
    planned = plan(corpus, grid=Option("layout", ["cna"]) + Option("layout", ["cna", "c"]))
    assert len(planned.configs) == 2
    assert any("layout_cna equals layout_cna by value" in note for note in planned.notes)


@pytest.mark.parametrize(
    ("field", "values", "shares"),
    [
        ("seed", [0, 1], False),
        ("batch_size", [5, 6], False),
        ("drop_last", [False, True], False),
        ("train", [ROOT.random_split_signals(100, n) for n in (2, 3)], False),
        ("epochs", [3, 4], True),
        ("optimizer", [Optimizer("adam"), Optimizer("sgd")], True),
    ],
)
def test_a_stream_of_batches_is_shared_by_those_that_draw_the_same(corpus, field, values, shares):
    grid = Option("layout", ["cna", "cnacna"]) * Option("other", values)
    configs = plan(corpus, grid=grid, **{field: C("other")}).configs
    first, second = ([one.stream for one in configs[i::2]] for i in (0, 1))
    assert first[0] == first[1], "another layout changes no batch"
    assert second[0] == second[1]
    assert (first[0] == second[0]) == shares


def quotient(signal, fs):
    raise ZeroDivisionError("no beats")


def shorter(signal, fs):
    return signal[:50] if len(signal) == 100 else signal


def hole(signal, fs):
    return signal * np.float32("nan")


NET = DESIGN["model_arguments"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "test",
            ROOT.split_signals(64, 64),
            r"configuration layout_cna: .* can't .*test \(64, 1\)",
        ),
        ("train", ROOT.random_split_signals(100, {"A": 2}), "train records: .*'N' is not among"),
        ("train", Pipeline().drop_labels(["A"]).random_split_signals(100, 1), "'A', .* be learnt"),
        ("test", Pipeline().drop_labels(["A"]).split_signals(100, 100), "'A', .* be scored"),
        ("batch_size", 17, "16 records are too few for a batch of 17 records; drop_last=False"),
        ("model_arguments", NET | {"blocks": 1}, "layout_cna: blocks=1 must be whole numbers"),
        ("model_arguments", NET | {"blocks": [1, 1]}, "must name the same number of groups"),
        ("grid", Option("layout", ["cxa"]), "configuration layout_cxa: layout='cxa'"),
        # A step that fails is named with its record.
        ("train", Pipeline().apply(quotient).random_split_signals(100, 1), "quotient.*no beats"),
        ("train", ROOT.random_split_signals(100, 1).apply(shorter), "S05: .*must keep the shape"),
        ("test", ROOT.split_signals(100, 50).apply(hole), "the test .* record S01: .* NaN or inf"),
    ],
)
def test_what_can_not_run_is_known_before(corpus, field, value, message):
    with pytest.raises(ResearchError, match=message):
        plan(corpus, **{field: value, "drop_last": field == "batch_size"})


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

    planned = plan(load_corpus(str(records)), {"skip_bad_records": True})
    assert {record.id for record in planned.bad} == listed
    used = {planned.corpus.ids[row] for _, rows in planned.parts.items() for row in rows}
    assert len(used) == 14
    assert not used & listed


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["A", "NO"], r"'N'; classes are \['A', 'NO'\]"),
        (["A", "N"], r"'NO' \(from 'N'\); classes are \['A', 'N'\]"),
    ],
)
def test_a_label_that_only_one_pipeline_renames_is_found(corpus, classes, message):
    renamed = Pipeline().rename_labels({"N": "NO"}).random_split_signals(100, 1)
    with pytest.raises(BadRecordsError, match=message):
        plan(corpus, classes=classes, train=renamed)


def test_copies_on_two_sides_of_the_split(records):
    for ending in ("hea", "dat"):
        content = (records / f"S02.{ending}").read_bytes()
        (records / f"S12.{ending}").write_bytes(content.replace(b"S02", b"S12"))
    corpus = load_corpus(str(records))
    with pytest.raises(SplitError, match=r"S02 \(test\) and S12 \(train\)"):
        plan(corpus)
    planned = plan(corpus, split=Split(0.7, seed=0))
    assert "the same recording under several names: S02 = S12" in planned.notes


def test_identities_tell_trainings_apart(corpus):
    base, same = (plan(corpus, repetitions=2) for _ in range(2))
    assert len({run.identity for run in base.runs}) == 4
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
    grown = Option("layout", ["c", "cna", "cnacna"])
    before, after = (
        {r.identity for r in one.runs} for one in (plan(corpus), plan(corpus, grid=grown))
    )
    assert before < after


# --- Models that can't describe themselves --------------------------------------------------------


def own_net(input_shape, n_classes, *, layout, blocks, filters, input_filters):
    """Stand for a model that can't describe itself; it is never built here."""


@pytest.fixture
def ask(corpus, monkeypatch):
    """Plan configurations that share models by pairs, and probe the models."""

    def ask(value=None, state=OutcomeState.DONE, **changes):
        asked = []
        executor = SimpleNamespace(
            submit=lambda job: asked.extend(cloudpickle.loads(job.payload)),
            events=lambda timeout: [Outcome("probe", state, value, error="killed by SIGKILL")],
        )
        monkeypatch.setattr(planning, "make_executor", lambda *_: nullcontext(executor))
        grid = Option("layout", ["c", "cc"]) * Option("rate", [0.1, 0.2])
        optimizer = Optimizer("sgd", learning_rate=C("rate"))
        one = plan(corpus, **{"grid": grid, "model": own_net, "optimizer": optimizer, **changes})
        return one, probe_networks(one, UserCode()), asked

    return ask


def test_a_model_is_built_once_for_all_configurations_that_share_it(ask):
    before, complete, asked = ask([(10, 100), (20, 200)])
    assert len(asked) == 2
    sizes = {one.config["layout"]: one.network for one in complete.configs}
    assert sizes == {"c": Network(10, 100), "cc": Network(20, 200)}
    assert complete.digest == before.digest


def test_every_configuration_whose_model_fails_is_named(ask):
    with pytest.raises(ResearchError) as error:
        ask([(1, 1), "ValueError: no"])
    assert str(error.value).count("ValueError: no") == 2
    assert "layout_cc-rate_0.1" in str(error.value)
    assert "layout_c-" not in str(error.value)
    with pytest.raises(ResearchError, match="killed by SIGKILL"):
        ask(state=OutcomeState.DIED)


def test_only_the_models_that_can_not_describe_themselves_are_built(ask):
    grid = Option("model", [ResNet, own_net]) * Option("layout", ["c"])
    mixed = {"grid": grid, "model": C("model"), "optimizer": Optimizer()}
    before, complete, asked = ask([(10, 100)], **mixed)
    assert [settings.builder.__name__ for settings, _ in asked] == ["own_net"]
    assert complete.configs[0].network == before.configs[0].network
    assert complete.configs[1].network == Network(10, 100)
    before, complete, asked = ask(model=ResNet)
    assert complete is before
    assert asked == []
