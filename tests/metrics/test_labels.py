"""Scores against scikit-learn, and tables that line up."""

import json
import random

import numpy as np
import pytest
from rich.cells import cell_len
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from gemkit.errors import DataError
from gemkit.metrics.labels import score_labels


@pytest.mark.parametrize("known", [["a", "b", "c", "d"], ["d", "a", "c", "b"]])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(known: list[str], seed: int) -> None:
    draw = random.Random(seed)
    truth = draw.choices(known[: seed + 1], k=30)
    answers = draw.choices(known[-(seed + 1) :], k=30)
    scores = score_labels(truth, answers, known)
    assert scores.accuracy == pytest.approx(accuracy_score(truth, answers))
    assert scores.macro_f1 == pytest.approx(
        f1_score(truth, answers, average="macro", zero_division=0)
    )
    ours = [[s.precision, s.recall, s.f1, s.support] for s in scores.per_label]
    theirs = precision_recall_fscore_support(truth, answers, labels=known, zero_division=0)
    np.testing.assert_allclose(np.transpose(ours), theirs)
    np.testing.assert_array_equal(
        scores.confusion, confusion_matrix(truth, answers, labels=known)
    )


def test_one_label_that_is_always_right() -> None:
    scores = score_labels(["a", "a"], ["a", "a"], ["a", "never"])
    assert (scores.accuracy, scores.macro_f1, scores.per_label[1].f1) == (1, 1, 0)


def test_labels_outside_the_set_are_an_error() -> None:
    with pytest.raises(DataError, match="label 'c' is unknown; expected one of 'a', 'b'"):
        score_labels(["a", "c"], ["a", "b"], ["a", "b"])
    with pytest.raises(DataError, match="no rows to score"):
        score_labels([], [])


def test_mistakes_come_commonest_first() -> None:
    scores = score_labels([*"aaabbc"], [*"abbacc"])
    assert scores.mistakes() == [("a", "b", 2), ("b", "a", 1), ("b", "c", 1)]


def test_to_dict_is_json() -> None:
    value = score_labels(["긍정", "부정"], ["긍정", "긍정"]).to_dict()
    assert json.loads(json.dumps(value)) == value
    assert value["labels"] == ["긍정", "부정"] and value["confusion"] == [[1, 0], [1, 0]]


def test_columns_line_up_with_wide_letters() -> None:
    scores = score_labels(["긍정", "부정", "ok", "x" * 99], ["긍정", "긍정", "ok", "ok"])
    head, by_label, matrix = scores.table().split("\n\n")
    assert head == "accuracy 50.0% (2 of 4), macro-F1 0.333"
    for table, rows in ((by_label, 5), (matrix, 5)):
        widths = [cell_len(line) for line in table.splitlines()]
        assert len(widths) == rows and len(set(widths)) == 1


def test_many_labels_list_mistakes_in_place_of_a_matrix() -> None:
    truth = [f"label {i}" for i in range(20)]
    table = score_labels(truth, [*truth[1:], "label 19"]).table()
    assert "truth \\ answer" not in table
    assert len(table.split("\n\n")[2].splitlines()) == 13
