"""From a finished study to a model in the registry, by the commands that a user types."""

from __future__ import annotations

import csv
import io
from contextlib import contextmanager

import mlflow
import numpy as np
import pandas as pd
import pytest
from gallery import write_beats
from stored_runs import read_table

from ecg_mlflow.cli import main
from ecg_mlflow.serving import held_out, promote

# Of NumPy 2, in Keras's way of saving a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def work(exhibit):
    with exhibit("compared") as place:
        studies = ("good", "poor", "tested", "other")
        place.parents = {name: place.runs(name)[0].info.run_id for name in studies}
        yield place


def artifacts(work, run_id: str, folder: str) -> set[str]:
    return {item.path for item in work.client.list_artifacts(run_id, folder)}


def text_of(work, run_id: str, path: str) -> str:
    return mlflow.artifacts.load_text(f"{work.client.get_run(run_id).info.artifact_uri}/{path}")


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def aliases_of(work, name: str) -> dict[str, str]:
    return {key: str(one) for key, one in work.client.get_registered_model(name).aliases.items()}


def version(work, name: str, number: int):
    return work.client.get_model_version(name, str(number))


# --- compare -------------------------------------------------------------------------------------


def test_a_comparison_is_printed_and_logged(work, capsys):
    assert main(["compare", work.parents["good"], "--resamples", "200"]) == 0
    told = capsys.readouterr().out
    assert "layout cna" in told
    assert "layout cac" in told
    assert "not significantly different from the best" in told or "significantly better" in told
    parent = work.parents["good"]
    names = ("report.html", "configurations.csv", "pairs.csv", "intervals.png", "curves.png",
             "calibration.png", "size.png")  # fmt: skip
    assert {f"comparison/{name}" for name in names} <= artifacts(work, parent, "comparison")
    table = read_csv(text_of(work, parent, "comparison/configurations.csv"))
    runs = work.runs("good")[1]
    for row in table:
        layout = row["configuration"].removeprefix("layout ")
        logged = [r.data.metrics["test_f1"] for r in runs if r.data.params["layout"] == layout]
        assert float(row["f1"]) == pytest.approx(np.mean(logged))
        assert float(row["f1_low"]) <= float(row["f1"]) <= float(row["f1_high"])
        assert row["runs"] == "2"


def test_studies_compare_where_their_test_records_are_the_same(work, capsys, tmp_path):
    names = [work.parents[name] for name in ("good", "poor", "other")]
    assert main(["compare", *names, "--resamples", "200", "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "poor: layout cna" in told
    assert "other: layout cna is not compared: its test records are other ones" in told
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "poor: layout cna" not in told.partition("\n\n")[0].partition("*  ")[0]


def test_without_validation_records_the_last_weights_are_compared(work, capsys):
    assert main(["compare", "tested", "--resamples", "200"]) == 0
    told = capsys.readouterr().out
    assert "no validation records: the weights of the last iteration are compared" in told
    text = text_of(work, work.parents["tested"], "comparison/configurations.csv")
    by_name = {row["configuration"]: row for row in read_csv(text)}
    (run,) = (r for r in work.runs("tested")[1] if r.data.params["layout"] == "cac")
    last = read_table(work.client, run.info.run_id, "predictions/last.csv")
    said = np.array(last["prediction"]) == "A"
    truly = np.array(last["label"]) == "A"
    f1 = 2 * (said & truly).sum() / (said.sum() + truly.sum())
    assert float(by_name["layout cac"]["f1"]) == pytest.approx(f1)


# --- promote -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promoted(work):
    """Promote the poor study's model, then the good one's over it."""
    assert main(["promote", "poor", "--name", "waves", "--resamples", "500"]) == 0
    assert main(["promote", work.parents["good"], "--name", "waves", "--resamples", "500"]) == 0
    return work


def test_the_first_model_and_a_better_one_are_promoted(promoted):
    aliases = aliases_of(promoted, "waves")
    assert aliases["champion"] == "2"
    first, second = version(promoted, "waves", 1), version(promoted, "waves", 2)
    assert first.tags["ecg_mlflow.decision"] == "promoted"
    assert first.tags["ecg_mlflow.reason"] == "there was no champion"
    assert second.tags["ecg_mlflow.decision"] == "promoted"
    assert second.tags["ecg_mlflow.previous"] == "1"
    assert float(second.tags["ecg_mlflow.p_value"]) <= 0.05
    assert float(second.tags["ecg_mlflow.gain"]) > 0
    assert second.description.startswith("Promoted to champion: f1 +")
    report = text_of(promoted, promoted.parents["good"], "promotions/waves-v2.md")
    assert report == second.description or report.startswith(second.description[:1000])


def test_the_promoted_model_says_of_recordings_what_its_study_has_logged(promoted):
    found = version(promoted, "waves", 2)
    table = read_table(promoted.client, found.run_id, "predictions/best.csv")
    paths = [str(promoted.records / f"{record}.hea") for record in table["record"]]
    model = mlflow.pyfunc.load_model("models:/waves@champion")
    answers = model.predict(pd.DataFrame({"record": paths}))
    for name in ("p_A", "p_N"):
        np.testing.assert_allclose(answers[name], table[name], atol=1e-5)
    threshold = float(found.tags["ecg_mlflow.threshold"])
    said = ["A" if p >= threshold else "N" for p in answers["p_A"]]
    assert answers["prediction"].tolist() == said


def test_threshold_and_temperature_are_chosen_on_validation_records(promoted):
    from ecg_mlflow.stats.calibration import choose_threshold, fit_temperature
    from ecg_mlflow.stats.predictions import Predictions

    found = version(promoted, "waves", 2)
    table = read_table(promoted.client, found.run_id, "predictions/validation_best.csv")
    validation = Predictions.from_columns(table, "A").sorted()
    expected = choose_threshold(validation, "f1")
    assert float(found.tags["ecg_mlflow.threshold"]) == pytest.approx(expected)
    temperature = fit_temperature(validation)
    assert float(found.tags["ecg_mlflow.temperature"]) == pytest.approx(temperature, rel=1e-3)


def test_a_model_that_is_no_better_is_refused_and_stays_as_challenger(promoted, capsys):
    runs = promoted.runs("good")[1]
    champion = version(promoted, "waves", 2).run_id
    other = next(run.info.run_id for run in runs if run.info.run_id != champion)
    assert main(["promote", "good", "--name", "waves", "--run", other, "--resamples", "500"]) == 3
    assert "is not promoted: not significantly better than the champion" in capsys.readouterr().out
    aliases = aliases_of(promoted, "waves")
    number = aliases["challenger"]
    assert aliases["champion"] == "2"
    refused = version(promoted, "waves", int(number))
    assert refused.tags["ecg_mlflow.decision"] == "refused"
    # Chosen by hand among four models whose test figures everybody can see.
    assert "picked from 4 models" in refused.description


def test_the_champion_itself_is_not_promoted_again(promoted, capsys):
    before = len(promoted.client.search_model_versions("name='waves'"))
    assert main(["promote", "good", "--name", "waves"]) == 1
    assert "this very model is the champion already" in capsys.readouterr().err
    assert len(promoted.client.search_model_versions("name='waves'")) == before
    assert aliases_of(promoted, "waves")["champion"] == "2"


def test_the_first_model_too_has_to_meet_what_is_asked_for(work, capsys):
    command = ["promote", "poor", "--name", "strict", "--max-size-mb", "0.001"]
    command += ["--min-specificity", "0.9", "--min-sensitivity", "0.9", "--resamples", "200"]
    assert main(command) == 3
    told = capsys.readouterr().out
    assert "required is 0.9" in told
    assert "allowed is 0.001 MB" in told
    assert aliases_of(work, "strict") == {"challenger": "1"}


def champion_answers_five(predict, corpus, truth, who):
    answers = held_out.classify(predict, corpus, truth, who)
    if who != "the model":
        answers.probabilities[5:] = np.nan
    return answers


def test_the_best_of_many_picked_on_test_records_is_judged_as_such(work, capsys, monkeypatch):
    assert main(["promote", "poor", "--name", "corrected", "--resamples", "200"]) == 0
    # Its test records are others, of which the poor champion was trained on some.
    assert main(["promote", "tested", "--name", "corrected", "--resamples", "200"]) == 1
    assert "only 18 of 48 are new to it, " in capsys.readouterr().err
    assert aliases_of(work, "corrected") == {"champion": "1"}
    monkeypatch.setattr(promote, "LEAST_RECORDS", 10)
    with monkeypatch.context() as silent:
        silent.setattr(promote, "classify", champion_answers_five)
        assert main(["promote", "tested", "--name", "corrected", "--resamples", "200"]) == 1
    assert "only 5 of 48 are new to it and answered" in capsys.readouterr().err
    # Data sets with names tell themselves what they share.
    monkeypatch.setattr(promote, "overlap", lambda one, other: f"{one} is a part of {other}")
    # With 200 resamples p is at least 1/201, however good the model is.
    command = ["promote", "tested", "--name", "corrected", "--resamples", "200"]
    assert main([*command, "--level", "0.999"]) == 3
    assert aliases_of(work, "corrected") == {"champion": "1", "challenger": "2"}
    found = version(work, "corrected", 2)
    assert "(corrected: the best of 2 models)" in found.tags["ecg_mlflow.reason"]
    assert "picked from 2 models with a look at these records" in found.description
    assert "left out of the comparison: the champion was trained on them" in found.description
    data = work.records
    assert f"was trained on {data}, and {data} is a part of {data}" in found.description
    assert found.tags["ecg_mlflow.held_out_records"] == "18"
    assert found.tags["ecg_mlflow.threshold"] == "none"


@contextmanager
def changed_table(work, run_id: str, path: str, change):
    """Let a run have logged another table for a while."""
    text = text_of(work, run_id, path)
    table = pd.read_csv(io.StringIO(text), dtype={"record": str})
    work.client.log_text(run_id, change(table).to_csv(index=False), path)
    try:
        yield
    finally:
        work.client.log_text(run_id, text, path)


def test_a_model_that_says_otherwise_than_its_study_has_logged_is_not_registered(work, capsys):
    (run,) = work.runs("poor")[1]

    def by_a_little(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[3, "p_A"] += 1e-4
        return table

    with changed_table(work, run.info.run_id, "predictions/best.csv", by_a_little):
        assert main(["promote", "poor", "--name", "never", "--resamples", "200"]) == 1
    assert "the probabilities differ by 0.0001" in capsys.readouterr().err
    assert not work.client.search_registered_models("name='never'")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare good --metric f2", "metric='f2' is none of these predictions' metrics: accuracy"),
        ("compare nowhere", "{good}"),
        ("promote good --name never --run {run}", "is no run of good that was scored on the test"),
        ("promote good --name never --data {others}", "are not those that the study was run on"),
    ],
)
def test_what_can_not_be_done_is_an_error_before_anything_is_registered(
    work, capsys, tmp_path, write_record, words, message
):
    write_beats(tmp_path / "others", write_record, 24)
    places = {"run": work.runs("poor")[1][0].info.run_id, "others": tmp_path / "others"}
    assert main(words.format(**places).split()) == 1
    assert message.format(**work.parents) in capsys.readouterr().err
    assert not work.client.search_registered_models("name='never'")


def test_the_run_of_mlflow_run_is_named_and_ended(work, monkeypatch):
    made = work.client.create_run(work.client.create_experiment("project"))
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    assert main(["promote", "poor", "--name", "by project", "--resamples", "200"]) == 0
    run = work.client.get_run(made.info.run_id)
    assert run.info.status == "FINISHED"


# --- rollback, predict, errors -------------------------------------------------------------------


def test_a_rollback_gives_the_alias_back(work, capsys):
    for study in ("poor", "good"):
        assert main(["promote", study, "--name", "back", "--resamples", "500"]) == 0
    capsys.readouterr()
    assert main(["rollback", "--name", "back"]) == 0
    assert "champion of back is version 1 of back again" in capsys.readouterr().out
    assert aliases_of(work, "back")["champion"] == "1"
    assert main(["rollback", "--name", "back"]) == 1
    assert "ecg-mlflow: error: " in capsys.readouterr().err


def test_recordings_are_classified_into_a_csv(promoted, tmp_path):
    out = tmp_path / "answers.csv"
    names = [str(promoted.records / f"S{i:02d}.hea") for i in (1, 2, 3)]
    assert main(["predict", "models:/waves@champion", *names, "--output", str(out)]) == 0
    rows = read_csv(out.read_text())
    assert [row["record"] for row in rows] == ["S01", "S02", "S03"]
    assert [row["prediction"] for row in rows] == ["A", "N", "A"]


def test_errors_are_drawn_and_groups_are_told_apart(work, capsys, tmp_path):
    command = ["errors", "poor", "--worst", "3", "--resamples", "200", "--output", str(tmp_path)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "test records are wrong" in told
    (run,) = work.runs("poor")[1]
    strips = artifacts(work, run.info.run_id, "errors/strips")
    assert len(strips) == 3
    groups = read_csv((tmp_path / "groups.csv").read_text())
    assert {row["column"] for row in groups} == {"age", "sex"}
    assert sum(int(row["records"]) for row in groups if row["column"] == "sex") == 48
    records = read_csv((tmp_path / "records.csv").read_text())
    losses = [float(row["log_loss"]) for row in records]
    assert losses == sorted(losses, reverse=True)
    wrong = [row["record"] for row in records if row["label"] != row["prediction"]]
    assert [path.rpartition("_")[2].removesuffix(".png") for path in sorted(strips)] == wrong[:3]
