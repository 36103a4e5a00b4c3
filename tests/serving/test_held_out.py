"""Models asked about held-out recordings, and the labels that they gave."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.records import load_corpus
from ecg_mlflow.serving import held_out
from ecg_mlflow.serving.held_out import Answers, at_own_threshold, classify
from ecg_mlflow.stats.predictions import Predictions


@pytest.fixture
def corpus(small_folder):
    return load_corpus(str(small_folder))


def by_length(table: pd.DataFrame) -> pd.DataFrame:
    """Answer with a probability that tells which recording was asked about."""
    seconds = [len(signal) / fs for signal, fs in zip(table["signal"], table["fs"], strict=True)]
    p = np.array(seconds) / 10
    return pd.DataFrame({"prediction": np.where(p > 0.25, "A", "N"), "p_N": 1 - p, "p_A": p})


def ask(predict, corpus, rows, classes=("A", "N")):
    n = len(rows)
    names = tuple(corpus.ids[row] for row in rows)
    truth = Predictions(names, np.zeros(n, int), np.full((n, 2), 0.5), classes, "A")
    return classify(predict, corpus, truth, "version 3")


def test_recordings_are_asked_about_in_their_order_and_in_blocks(corpus, monkeypatch):
    monkeypatch.setattr(held_out, "BLOCK", 4)
    seen = []

    def predict(table):
        seen.append(len(table))
        assert table["signal"][0].dtype == np.float32
        assert list(table["leads"][0]) == ["L1"]
        return by_length(table)

    found = ask(predict, corpus, [5, 0, 1, 2, 3])
    assert seen == [4, 1]
    expected = (400 + 50 * np.array([6, 1, 2, 3, 4])) / 250 / 10
    np.testing.assert_allclose(found.probabilities[:, 0], expected)
    assert found.predicted.tolist() == ["A", "N", "N", "N", "N"]
    assert found.known.all()
    assert found.ms_per_record > 0


def test_a_model_with_other_classes_can_not_be_compared(corpus):
    with pytest.raises(PromotionError, match=r"version 3.* lack p_O"):
        ask(by_length, corpus, [0], ("A", "O"))
    with pytest.raises(PromotionError, match="lack prediction"):
        ask(lambda table: np.zeros(len(table)), corpus, [0])


def test_recordings_without_an_answer_are_not_known(corpus):
    def predict(table):
        answer = by_length(table)
        answer.loc[1, ["p_N", "p_A"]] = np.nan
        answer.loc[1, "prediction"] = None
        return answer

    found = ask(predict, corpus, [0, 1, 2])
    assert found.known.tolist() == [True, False, True]
    assert found.predicted[1] == ""


P_A = np.array([0.9, np.nan, 0.7, 0.4, 0.4])
PLAIN = np.array([0, 1, 0, 1])


def said(labels: str, p_n=1 - P_A, targets=PLAIN) -> tuple[Answers, Predictions]:
    """Answer to five recordings but the second; the others have these targets."""
    answers = Answers(np.array(labels.split("|"), dtype=object), np.stack([P_A, p_n], 1), 1.0)
    truth = Predictions(tuple("acde"), targets, np.full((4, 2), 0.5), ("A", "N"), "A")
    return answers, truth


@pytest.mark.parametrize("labels", ["A||A|N|N", "A||N|N|N", "A||A|A|A", "N||N|N|N"])
def test_labels_tell_the_threshold_that_made_them(labels):
    answers, truth = said(labels)
    found = at_own_threshold(answers, truth)
    assert ["AN"[place] for place in found.predicted] == labels.replace("||", "|").split("|")
    np.testing.assert_array_equal(found.targets, truth.targets)
    for other in ("A||N|A|N", "A||A|A|N"):  # the last two have one probability
        with pytest.raises(PromotionError, match="follow neither from a threshold"):
            at_own_threshold(*said(other))


@pytest.mark.parametrize("labels", ["A,N||N||N", "A,N||A,N||N"])
def test_labels_of_several_classes_tell_it_too(labels):
    targets = np.array([[1, 1], [0, 1], [0, 0], [0, 1]], bool)
    found = at_own_threshold(*said(labels, np.array([0.8, np.nan, 0.7, 0.2, 0.9]), targets))
    assert found.predicted_labels == [labels.split("|")[0], *labels.split("|")[2:]]
