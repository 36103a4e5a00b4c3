"""Searches from the command line to what stands in MLflow, on small records in this process."""

from __future__ import annotations

import csv
import re

import pytest
from studies import grid_text, numpy_grid, reason

from ecg_mlflow.cli import main
from ecg_mlflow.tracking.stored_run import IDENTITY_TAG, PRUNED_TAG

# Ten records to train on, five to validate, five to test; two iterations an epoch. A run is
# given up after the first or the third of eight epochs, and hears of it long before the last one.
SEARCH = numpy_grid(
    train="root.random_split_signals(128, 2).apply(unhurried)",
    grid="Option.product(Option('hidden', [2, 3]), Option('momentum', [0.5, 0.6]))"
    " * Option('rate', [0.01, 0.1]) + Option('hidden', [4]) * Option('momentum', [0.9])"
    " * Option('rate', [1e-3, 2e-3, 3e-3, 4e-3])",
    optimizer="Optimizer('sgd', learning_rate=C('rate'))",
    epochs="8",
    split="Split((0.5, 0.25, 0.25), stratified=True, seed=0)",
    repetitions="2",
)
N_CONFIGS = 8
RANGE = SEARCH.replace("Option('rate', [0.01, 0.1])", "Option('rate', LogUniform(1e-3, 1e-1))")
RANGE = RANGE.replace("import C,", "import LogUniform, C,")


@pytest.fixture(scope="module")
def searched(shared_workplace):
    """Search a grid of eight with TPE and ASHA, six trials."""
    with shared_workplace() as work, pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNHURRIED_S", "0.005")
        grid = work.write_grid(SEARCH, "waves.py")
        assert work.run(
            grid, "--workers", "0", "--sampler", "tpe", "--trials", "6", "--pruner", "asha",
            "--finalists", "1", "--objective", "validation_log_loss", experiment="searched",
        ) == 0  # fmt: skip
        patch.undo()
        work.parent, work.children = work.runs("searched")
        work.n_complete = work.text(work.parent, "search/trials.csv").count(",complete,")
        yield work


def leaderboard(work, parent):
    return list(csv.DictReader(work.text(parent, "leaderboard.csv").splitlines()))


def test_a_search_ends_well_and_tries_no_configuration_twice_and_none_that_there_is_not(searched):
    assert searched.parent.info.status == "FINISHED"
    assert {run.info.status for run in searched.children} == {"FINISHED", "KILLED"}
    params = [run.data.params for run in searched.children]
    tried = {p["config"]: (p["hidden"], p["momentum"], p["rate"]) for p in params}
    assert len(tried) == len(set(tried.values())) == 6
    assert {one[:2] for one in tried.values()} <= {("2", "0.5"), ("3", "0.6"), ("4", "0.9")}
    small = ["0.001", "0.002", "0.003", "0.004"]
    assert all(rate in (small if n == "4" else ["0.01", "0.1"]) for n, _, rate in tried.values())


def test_a_run_that_was_given_up_says_why_and_keeps_its_losses(searched):
    pruned = [run for run in searched.children if run.info.status == "KILLED"]
    for run in pruned:
        assert re.match(
            r"pruned at epoch [13]: validation_log_loss \d\.\d{4} there, where", reason(run)
        )
        assert run.data.tags[PRUNED_TAG] == reason(run)
        assert 2 <= len(searched.losses(run)) < 16
        assert "validation_f1" in run.data.metrics
    finished = [run for run in searched.children if run.info.status == "FINISHED"]
    configs = [{run.data.params["config"] for run in runs} for runs in (pruned, finished)]
    assert not configs[0] & configs[1], "all repetitions of a configuration are given up"


def test_only_the_finalists_are_scored_on_the_test_records(searched):
    ranked = leaderboard(searched, searched.parent)
    # A second one is complete, too, unless one is so much better that the others are given up.
    assert ranked[0]["test_f1"] not in ("", "nan")
    assert all(row["test_f1"] in ("", "nan") for row in ranked[1:])
    best = ranked[0]["hidden"], ranked[0]["rate"]
    for run in searched.children:
        is_scored = any(name.startswith("test_") for name in run.data.metrics)
        assert is_scored is ((run.data.params["hidden"], run.data.params["rate"]) == best)
        assert is_scored is ("predictions/best.csv" in searched.artifacts(run))


def test_the_parent_shows_how_the_search_went(searched):
    data = searched.parent.data
    names = searched.artifacts(searched.parent, "search")
    assert {"search/trials.csv", "search/best.py", "search/optimisation_history.png"} <= names
    assert f"search/{searched.parent.info.run_id}.journal" in names
    assert len(searched.text(searched.parent, "search/trials.csv").splitlines()) == 7
    assert ("search/slices.png" in names) is (searched.n_complete > 1)
    assert data.params["sampler"] == "tpe"
    assert data.params["pruner"] == "asha:eta=3"
    assert data.params["configurations"] == str(N_CONFIGS)
    assert data.metrics["runs_waiting"] == 0
    note = data.tags["mlflow.note.content"]
    assert "Chosen by sampler tpe, pruner asha:eta=3" in note
    assert "orderByAsc=true" in note, "of a loss the least is the best"


def test_the_best_configuration_is_a_grid_file_that_runs(searched, capsys):
    path = searched.folder / "best.py"
    path.write_text(searched.text(searched.parent, "search/best.py"))
    assert main(["plan", str(path), "--data", str(searched.records)]) == 0
    first = leaderboard(searched, searched.parent)[0]
    out = capsys.readouterr().out
    assert "waves best: 1 configurations x 2 repetitions" in out
    assert f"NumpyNet {first['hidden']} {first['momentum']} {first['rate']}" in out


def test_a_search_that_is_over_has_nothing_left_to_do(searched, capsys):
    assert searched.resume(searched.parent, "--workers", "0") == 0
    parent, children = searched.runs("searched")
    assert parent.info.status == "FINISHED"
    assert [run.info for run in children] == [run.info for run in searched.children]
    assert [r.data.metrics for r in children] == [r.data.metrics for r in searched.children]
    assert "finished" in capsys.readouterr().err


def test_what_is_known_is_told_and_not_trained_again(searched):
    grid, more = searched.folder / "waves.py", ("--sampler", "random", "--reps", "1")
    assert searched.run(grid, "--workers", "0", *more, experiment="again") == 0
    again, trained = searched.runs("again")
    finished = {
        run.data.tags[IDENTITY_TAG]
        for run in searched.children
        if run.info.status == "FINISHED" and run.data.params["repetition"] == "0"
    }
    assert finished
    assert not finished & {run.data.tags[IDENTITY_TAG] for run in trained}
    assert len(finished) + len(trained) == N_CONFIGS
    assert f"{N_CONFIGS} of {N_CONFIGS} runs finished" in again.data.tags["mlflow.note.content"]


def test_a_grid_can_be_pruned_too_with_repetitions_for_the_best(
    workplace, experiment, monkeypatch, capsys
):
    monkeypatch.setenv("UNHURRIED_S", "0.003")
    grid = workplace.write_grid(SEARCH)
    more = ("--pruner", "median:min_trials=2", "--adaptive", "--objective", "validation_log_loss")
    assert workplace.run(grid, *more, "--workers", "0", experiment=experiment) == 0
    _, runs = workplace.runs(experiment)
    first = [run for run in runs if run.data.params["repetition"] == "0"]
    assert sorted(int(run.data.params["config"]) for run in first) == list(range(N_CONFIGS))
    finished = [run for run in first if run.info.status == "FINISHED"]
    assert len(finished) < N_CONFIGS
    n_pruned = sum(run.info.status == "KILLED" for run in runs)
    assert f" runs finished, {n_pruned} pruned; parent run " in capsys.readouterr().out
    finished.sort(key=lambda run: run.data.metrics["validation_log_loss"])
    contenders = {run.data.params["config"] for run in finished[: max(1, len(finished) // 3)]}
    repeated = [run for run in runs if run.data.params["repetition"] == "1"]
    assert {run.data.params["config"] for run in repeated} == contenders


def test_ranges_need_a_sampler_and_are_listed_as_numbers(workplace, experiment, capsys):
    grid = workplace.write_grid(RANGE)
    assert workplace.run(grid, experiment=experiment) == 1
    assert "sampler=tpe" in capsys.readouterr().err
    assert workplace.runs(experiment) == (None, [])
    more = ("--sampler", "random", "--trials", "5", "--reps", "1", "--workers", "0")
    assert workplace.run(grid, *more, "--epochs", "1", experiment=experiment) == 0
    parent, runs = workplace.runs(experiment)
    assert len(runs) == 5
    assert parent.data.params["configurations"] == "unlimited"
    for run in runs:
        assert 1e-3 <= float(run.data.params["rate"]) <= 1e-1
        assert len(run.data.params["rate"]) <= 9


def test_several_objectives_give_a_front(workplace, experiment):
    # A grid file that has been loaded may be moved or deleted.
    grid = workplace.write_grid(f"{SEARCH}\n__import__('os').remove(__file__)\n")
    more = ("--sampler", "nsgaii", "--trials", "4", "--reps", "1", "--workers", "0")
    goals = ("--objective", "validation_f1,trainable_parameters")
    assert workplace.run(grid, *more, *goals, "--epochs", "1", experiment=experiment) == 0
    parent, _ = workplace.runs(experiment)
    names = workplace.text(parent, "leaderboard.csv").splitlines()[0].split(",")
    assert {"trainable_parameters", "pareto_front"} <= set(names)
    assert {"search/pareto_front.png", "search/best.py"} <= workplace.artifacts(parent)
    assert (
        parent.data.params["objective"] == "maximize validation_f1, minimize trainable_parameters"
    )


# Of NumPy 2, in Keras's way of saving a model.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_search_of_keras_that_selects_by_its_test_records_is_warned(
    workplace, experiment, capsys
):
    text = grid_text(
        grid="Option('layout', ['c', 'ca', 'cna'])",
        model_arguments="{'blocks': [1], 'filters': [2], 'input_filters': 2}",
        epochs="1",
    )
    more = ("--sampler", "random", "--trials", "2", "--workers", "0")
    assert workplace.run(workplace.write_grid(text), *more, experiment=experiment) == 0
    parent, runs = workplace.runs(experiment)
    note = parent.data.tags["mlflow.note.content"]
    assert "**Beware**: this study selects by its test records" in note
    assert "note: this study selects by its test records" in capsys.readouterr().err
    assert len(runs) == 2
    assert all("test_f1" in run.data.metrics for run in runs)


def test_a_grid_file_changes_its_grid_by_what_was_found(workplace, experiment, capsys):
    update = """
def update(results):
    results.to_csv("seen.csv", mode="a")
    best = results.loc[results["test_f1"].idxmax(), "momentum"]
    if len(results) > 2:
        return None
    return Option("momentum", [best]) * Option("hidden", [5, 6])
"""
    text = numpy_grid(
        before=update,
        grid="Option('momentum', [0.5, 0.9]) * Option('hidden', [2])",
        update_grid="update",
        epochs="1",
    )
    grid = workplace.write_grid(text)
    assert workplace.run(grid, "--workers", "0", experiment=experiment) == 0
    _, runs = workplace.runs(experiment)
    assert [run.data.params["hidden"] for run in runs] == ["2", "2", "5", "6"]
    assert len({run.data.params["momentum"] for run in runs[2:]}) == 1
    assert "after 2 configurations the grid file has changed the grid" in capsys.readouterr().err
