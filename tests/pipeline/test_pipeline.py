"""The chain as it is written, and how its actions are sorted by when they run."""

from __future__ import annotations

import pytest

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids import C, references, resolve
from ecg_mlflow.pipeline import Pipeline


def as_it_is(signal, fs):
    return signal


def names(actions):
    return [action.name for action in actions]


def test_pipelines_do_not_change():
    numbers, root = {"A": 6}, Pipeline().center_flip()
    train, test = root.random_split_signals(30, numbers), root.split_signals(10, step=C("step"))
    numbers["A"] = 1
    assert str(root) == "center_flip(flip_at_test=False)"
    assert str(train) == f"{root}\nrandom_split_signals(length=30, n={{'A': 6}})"
    assert str(test) == f"{root}\nsplit_signals(length=10, step=C('step'))"
    with pytest.raises(PipelineError, match=r"a list of names is needed, as in \['I'\]"):
        Pipeline().keep_leads("I")


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
    assert stages.resamples
    assert not Pipeline().split_signals(3, 1).stages().resamples
    assert Pipeline().resample_signals(300).split_signals(3, 1).stages().resamples


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (Pipeline().center_flip(), "must cut windows of one length(.|\n)*end it with split_sig"),
        (Pipeline(), r"must cut windows(.|\n)*\(no actions\)"),
        (Pipeline().split_signals(3, 1).split_signals(2, 1), "windows are cut twice: by split_sig"),
        (Pipeline().split_signals(3, 1).drop_labels(["~"]), "drop_labels.* before split_signals"),
        (
            Pipeline().center_flip().keep_leads(["I"]).split_signals(3, 1),
            "keep_leads.* must come before the first random action or split .center_flip",
        ),
        (Pipeline().split_signals(3, 1).resample_signals(9), "resample_.* before split_signals"),
        (Pipeline().split_signals(3, 1).drop_short_signals(3), "drop_short_signals.* must come"),
        (
            Pipeline().split_signals(3, 1).random_resample_signals("normal", loc=300),
            "random_resample.* must come before split_signals",
        ),
    ],
)
def test_chains_that_make_no_sense(pipeline, message):
    with pytest.raises(PipelineError, match=message):
        pipeline.stages()


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
