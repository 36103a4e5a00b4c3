"""The chain as it is written, and how its actions are sorted by when they run."""

from __future__ import annotations

import pytest

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids import C, references, resolve
from ecg_mlflow.pipeline import Pipeline


def as_it_is(signal, fs):
    return signal


def names(actions) -> list[str]:
    return [action.name for action in actions]


def test_a_common_beginning_is_continued_in_two_ways():
    root = Pipeline().drop_labels(["~"])
    train, test = root.random_split_signals(10, 2), root.split_signals(10, 5)
    assert names(root.actions) == ["drop_labels"]
    assert names(train.actions) == ["drop_labels", "random_split_signals"]
    assert names(test.actions) == ["drop_labels", "split_signals"]


def test_actions_are_sorted_by_when_they_run():
    stages = (
        Pipeline()
        .drop_labels(["~"])
        .band_pass_signals(1, 40)
        .rename_labels({"O": "N"})
        .apply(as_it_is)
        .center_flip()
        .apply(as_it_is)
        .random_resample_signals("normal", loc=300, scale=10)
        .random_split_signals(10, 2)
        .standardise_signals()
        .stages()
    )
    assert names(stages.labels) == ["drop_labels", "rename_labels"]
    assert names(stages.once) == ["band_pass_signals", "apply"]
    assert names(stages.every) == [
        "center_flip",
        "apply",
        "random_resample_signals",
        "random_split_signals",
        "standardise_signals",
    ]
    assert stages.split is stages.every[3]


def test_labels_go_through_the_actions_in_their_order():
    stages = (
        Pipeline().drop_labels(["~"]).rename_labels({"N": "~", "O": "N"}).split_signals(3, 1)
    ).stages()
    assert [stages.label(x) for x in ["N", "O", "A", "~"]] == ["~", "N", "A", None]


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (Pipeline().center_flip(), "must cut windows of one length(.|\n)*end it with split_sig"),
        (Pipeline(), r"must cut windows(.|\n)*\(no actions\)"),
        (Pipeline().split_signals(3, 1).split_signals(2, 1), "windows are cut twice: by split_sig"),
        (
            Pipeline().split_signals(3, 1).drop_labels(["~"]),
            "drop_labels.* must come before split",
        ),
        (
            Pipeline().center_flip().keep_leads(["I"]).split_signals(3, 1),
            "keep_leads.* must come before the first random action or split .center_flip",
        ),
        (Pipeline().split_signals(3, 1).drop_short_signals(3), "drop_short_signals.* must come"),
        (Pipeline().split_signals(3, 1).resample_signals(100), "would change the length"),
        (
            Pipeline().split_signals(3, 1).random_resample_signals("normal", loc=300),
            "would change the length of the windows that split_signals",
        ),
    ],
)
def test_chains_that_make_no_sense(pipeline, message):
    with pytest.raises(PipelineError, match=message):
        pipeline.stages()


def test_whether_windows_may_differ_in_sampling_frequency():
    assert not Pipeline().split_signals(3, 1).stages().resamples
    assert Pipeline().resample_signals(300).split_signals(3, 1).stages().resamples


def test_any_argument_may_be_an_option():
    pipeline = (
        Pipeline()
        .drop_labels(C("a"))
        .keep_labels(C("b"))
        .rename_labels({"N": C("c")})
        .drop_short_signals(C("d"))
        .keep_leads(C("e"))
        .drop_leads(C("f"))
        .reorder_leads(["I", C("g")])
        .band_pass_signals(C("h"), C("i"), C("j"))
        .resample_signals(C("k"))
        .apply(C("l"))
        .center_flip(C("m"))
        .random_resample_signals(C("n"), loc=C("o"))
        .random_split_signals(C("p"), {"A": C("q")})
        .split_signals(C("r"), step=C("s"))
    )
    assert references(pipeline) == set("abcdefghijklmnopqrs")


def test_an_option_gives_the_pipeline_that_its_value_would():
    pipeline = Pipeline().keep_leads(C("leads")).random_split_signals(C("length"), {"A": C("n")})
    found = resolve(pipeline, {"leads": ("I", "II"), "length": 30, "n": 6})
    assert found == Pipeline().keep_leads(["I", "II"]).random_split_signals(30, {"A": 6})
    with pytest.raises(PipelineError, match="leads must be a list of names"):
        resolve(pipeline, {"leads": "II", "length": 30, "n": 6})


def test_one_name_is_not_a_list_of_names():
    with pytest.raises(PipelineError, match=r"a list of names is needed, as in \['I'\]"):
        Pipeline().keep_leads("I")


def test_what_happens_to_a_dict_later_does_not_change_the_pipeline():
    numbers = {"A": 6}
    pipeline = Pipeline().rename_labels({"N": "NO"}).random_split_signals(30, numbers)
    numbers["A"] = 1
    assert pipeline.stages().split.value("A") == 6


def test_a_pipeline_prints_as_its_actions():
    pipeline = Pipeline().center_flip().split_signals(3000, step=C("step"))
    assert str(pipeline) == (
        "center_flip(flip_at_test=False)\nsplit_signals(length=3000, step=C('step'))"
    )
