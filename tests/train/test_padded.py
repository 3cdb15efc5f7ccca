"""Rows as Keras's `fit` makes them. What it comes to there is in tests/interop/test_fit.py."""

import numpy as np
import pytest

from gemkit.errors import UsageError
from gemkit.train.padded import Padding, epoch_means, padded_batches

ROWS = [[2, 7, 8, 9, 1], [2, 5, 1], [2, 4, 6, 8, 10, 12, 14, 16, 1]]


def test_inputs_and_answers_are_one_apart() -> None:
    first, second = padded_batches(ROWS, length=32, rows=2)
    assert first.tokens.tolist() == [[2, 7, 8, 9, 1, 0, 0, 0], [2, 5, 1, 0, 0, 0, 0, 0]]
    assert first.positions[0].tolist() == [0, 1, 2, 3, 4, 0, 0, 0]
    count = int(first.target_weights.sum())
    assert count == 6
    assert first.target_ids[:count].tolist() == [7, 8, 9, 1, 5, 1]
    assert first.target_index[:count].tolist() == [0, 1, 2, 3, 8, 9]
    assert not first.target_weights[count:].any()
    assert (first.examples, second.examples) == (((0,), (1,)), ((2,), ()))
    # All slots of the rows there are, the padding that is never computed included.
    assert (float(first.divisor), float(second.divisor)) == (64.0, 32.0)  # type: ignore[arg-type]
    assert first.tokens.shape == second.tokens.shape


@pytest.mark.parametrize("length", [1, 3, 8, 9])
def test_long_rows_are_cut(length: int) -> None:
    batch = padded_batches(ROWS, length, rows=3)[0]
    kept = [row[: length + 1] for row in ROWS]
    answers = [token for row in kept for token in row[1:]]
    count = int(batch.target_weights.sum())
    assert batch.target_ids[:count].tolist() == answers
    assert batch.tokens.shape[1] <= length
    read = batch.tokens.reshape(-1)[batch.target_index[:count]]
    assert read.tolist() == [token for row in kept for token in row[:-1]]
    width = batch.tokens.shape[1]
    assert (batch.segments > 0).sum(1).tolist() == [min(len(row), width) for row in ROWS]


def test_means_of_an_epoch() -> None:
    history: list[dict[str, float]] = [
        {"epoch": 0.5, "loss": 1.0, "accuracy": 0.5, "rows": 2, "targets": 10},
        {"epoch": 1.0, "loss": 4.0, "accuracy": 1.0, "rows": 1, "targets": 30},
        {"epoch": 1.0, "valid_loss": 9.0},
        {"epoch": 1.5, "loss": 9.0, "accuracy": 0.0, "rows": 2, "targets": 1},
    ]
    assert epoch_means(history, 1) == {"loss": 2.0, "accuracy": pytest.approx(0.875)}


def test_every_index() -> None:
    batches = padded_batches(ROWS, 8, 2)
    assert len(batches) == 2 and len(batches[:]) == 2
    assert np.array_equal(batches[-1].tokens, batches[1].tokens)
    with pytest.raises(IndexError):
        batches[2]


def test_settings_out_of_range() -> None:
    with pytest.raises(UsageError, match="padding length is 0"):
        Padding(0)
    with pytest.raises(UsageError, match="padding rows is -1"):
        Padding(8, -1)
    with pytest.raises(UsageError, match="no rows to train on"):
        padded_batches([], 8, 1)
