"""Rows as Keras's `fit` makes them. What it comes to there is in tests/interop/test_fit.py."""

import jax
import numpy as np
import pytest
from tiny import GEMMA1, ids, weights

from gemkit.adapt.lora import Lora, init_adapter
from gemkit.errors import UsageError
from gemkit.language_model import LanguageModel
from gemkit.train.loop import FitSettings, fit
from gemkit.train.optimizer import OptimizerSettings
from gemkit.train.packing import Example
from gemkit.train.padded import PaddedBatches, Padding, epoch_means, make_padded_measure

ROWS = [[2, 7, 8, 9, 1], [2, 5, 1], [2, 4, 6, 8, 10, 12, 14, 16, 1]]
# What is marked of a row: its last token only.
EXAMPLES = [Example(row, [False] * (len(row) - 1) + [True]) for row in ROWS]


def test_inputs_and_answers_are_one_apart() -> None:
    first, second = PaddedBatches(EXAMPLES, Padding(32, 2))
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
    batch = PaddedBatches(EXAMPLES, Padding(length, 3))[0]
    kept = [row[: length + 1] for row in ROWS]
    answers = [token for row in kept for token in row[1:]]
    count = int(batch.target_weights.sum())
    assert batch.target_ids[:count].tolist() == answers
    assert batch.tokens.shape[1] <= length
    read = batch.tokens.reshape(-1)[batch.target_index[:count]]
    assert read.tolist() == [token for row in kept for token in row[:-1]]
    width = batch.tokens.shape[1]
    assert (batch.segments > 0).sum(1).tolist() == [min(len(row), width) for row in ROWS]


def test_prompts_are_read_and_not_learnt() -> None:
    plain, marked = (PaddedBatches(EXAMPLES, Padding(6, 3, prompts=p))[0] for p in (True, False))
    for name in ("tokens", "positions", "segments", "divisor"):
        assert np.array_equal(plain.arrays()[name], marked.arrays()[name]), name
    # The mark of the third row lies beyond its cut.
    count = int(marked.target_weights.sum())
    assert count == 2 and marked.target_ids[:2].tolist() == [1, 1]
    width = marked.tokens.shape[1]
    assert marked.target_index[:2].tolist() == [3, width + 1]


def test_few_rows_make_a_small_batch() -> None:
    (batch,) = PaddedBatches(EXAMPLES, Padding(8, 32))
    assert batch.tokens.shape[0] == 3 and batch.examples == ((0,), (1,), (2,))
    assert float(batch.arrays()["divisor"]) == 24.0


def test_measure_is_what_a_step_reports() -> None:
    """The figures before the first step, and by hand from the logits."""
    lora, padding = Lora(2), Padding(24, 2, prompts=False)
    examples = [Example(ids(n, n), [False] * 3 + [True] * (n - 3)) for n in (9, 14, 6)]
    adapter = init_adapter(GEMMA1, lora, 0)
    measure = make_padded_measure(weights(GEMMA1), GEMMA1, lora, examples, padding)
    found = measure(adapter)
    loss, right, targets = 0.0, 0, 0
    for example in examples:
        tokens = list(example.ids)
        logits = np.asarray(LanguageModel("", GEMMA1, weights(GEMMA1), None).logits(tokens))
        log_p = np.asarray(jax.nn.log_softmax(logits.reshape(len(tokens), -1)))
        for place in range(3, len(tokens)):
            loss -= float(log_p[place - 1, tokens[place]])
            right += int(log_p[place - 1].argmax() == tokens[place])
            targets += 1
    assert found["valid_loss"] == pytest.approx(loss / (3 * 24), rel=1e-4)
    assert found["valid_accuracy"] == pytest.approx(right / targets)
    still = OptimizerSettings("sgd", 1e-12, "constant", 0)
    settings = FitSettings(epochs=1, padding=padding)
    result = fit(weights(GEMMA1), GEMMA1, lora, adapter, examples, settings, still)
    means = epoch_means(result.history, 1)
    assert means["loss"] == pytest.approx(found["valid_loss"], rel=1e-5)
    assert means["accuracy"] == pytest.approx(found["valid_accuracy"])


def test_means_of_an_epoch() -> None:
    history: list[dict[str, float]] = [
        {"epoch": 0.5, "loss": 1.0, "accuracy": 0.5, "rows": 2, "targets": 10},
        {"epoch": 1.0, "loss": 4.0, "accuracy": 1.0, "rows": 1, "targets": 30},
        {"epoch": 1.0, "valid_loss": 9.0},
        {"epoch": 1.5, "loss": 9.0, "accuracy": 0.0, "rows": 2, "targets": 1},
    ]
    assert epoch_means(history, 1) == {"loss": 2.0, "accuracy": pytest.approx(0.875)}


def test_every_index() -> None:
    batches = PaddedBatches(EXAMPLES, Padding(8, 2))
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
        PaddedBatches([], Padding(8))
