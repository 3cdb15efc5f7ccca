"""fit, evaluate, callbacks and the lines of progress; the figures are proved in tests/interop."""

import re
from typing import Any

import numpy as np
import pytest

from gemkit.compat import keras
from gemkit.compat.keras_nlp.progress import ProgressLines
from gemkit.errors import TrainingError, UsageError

TEXTS = ["the soup was warm", "bread", "again and again the soup was cold", "tea", "cold tea"]


def compiled(lm: Any, **optimizer: Any) -> Any:
    lm.backbone.enable_lora(rank=2)
    lm.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.Adam(**{"learning_rate": 0.05, **optimizer}),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return lm


def by_hand(lm: Any, texts: list[str], length: int) -> tuple[float, float]:
    """Loss over all slots of padded rows, and the share of right tokens."""
    x, labels, counted = lm.preprocessor(texts, sequence_length=length)
    losses = lm.score(x["token_ids"], scoring_mode="loss", target_ids=labels)
    right = lm.score(x["token_ids"]).argmax(-1) == labels
    return float((losses * counted).sum() / counted.size), float(right[counted].mean())


def test_history_and_lines(lm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    compiled(lm)
    before = lm.evaluate(TEXTS, batch_size=2, return_dict=True)
    loss, accuracy = by_hand(lm, TEXTS, 16)
    assert before == {
        "loss": pytest.approx(loss, rel=1e-4),
        "sparse_categorical_accuracy": pytest.approx(accuracy),
    }
    history = lm.fit(TEXTS, epochs=3, batch_size=2)
    assert history.epoch == [0, 1, 2] and history.params["steps"] == 3
    losses = history.history["loss"]
    assert list(history.history) == ["loss", "sparse_categorical_accuracy"]
    assert losses[2] < losses[1] < losses[0] and losses[2] < before["loss"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0::2] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    for line, loss in zip(lines[1::2], losses, strict=True):
        assert re.fullmatch(
            rf"3/3 ━{{20}} \d+s \d+[mu]?s/step - loss: {loss:.4f} - "
            r"sparse_categorical_accuracy: \d\.\d{4}(e[+-]\d\d)?", line,
        )  # fmt: skip
    # A second call goes on, with what the optimizer remembers.
    lm.fit(TEXTS, epochs=1, batch_size=2, verbose=0)
    assert lm.memory.steps == 12 and capsys.readouterr().out == ""
    summary: list[str] = []
    lm.summary(print_fn=summary.append)
    trained = sum(w.size for w in lm.get_weights())
    assert f" Optimizer params: {2 * trained + 2:,} (" in summary[-1]


def test_all_weights_and_validation(lm: Any) -> None:
    lm.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9), weighted_metrics=["accuracy"])
    history = lm.fit(TEXTS, epochs=2, batch_size=4, verbose=0, validation_split=0.4).history
    assert list(history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    held = lm.evaluate(TEXTS[3:], batch_size=4, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(held["loss"], rel=1e-5)


def test_only_responses_count(lm: Any) -> None:
    """A prompt's own tokens are not learnt: with the loss by hand."""
    compiled(lm)
    data = {"prompts": ["the soup was", "tea"], "responses": [" cold", " and bread"]}
    x, labels, counted = lm.preprocessor(data, sequence_length=16)
    starts = [1 + len(lm.preprocessor.tokenizer(p)) for p in data["prompts"]]
    assert (counted.argmax(1) == np.asarray(starts) - 1).all() and 0 < counted.mean() < 0.9
    losses = lm.score(x["token_ids"], scoring_mode="loss", target_ids=labels)
    wanted = float((losses * counted).sum() / counted.size)
    assert lm.evaluate(data, return_dict=True)["loss"] == pytest.approx(wanted, rel=1e-4)
    assert lm.fit(data, verbose=0).history["loss"] == [pytest.approx(wanted, rel=1e-4)]


class Watching(keras.callbacks.Callback):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.told.append("begin")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.told.append(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.told.append(sorted(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.told.append(f"epoch {epoch}")

    def on_train_end(self, logs: Any = None) -> None:
        self.told.append("end")


def test_callbacks(lm: Any) -> None:
    compiled(lm, learning_rate=0.0)
    watching, measures = Watching(), ["loss", "sparse_categorical_accuracy"]
    stopping = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    data = np.asarray(TEXTS[:2])
    history = lm.fit(data, epochs=5, batch_size=1, verbose=0, callbacks=[stopping, watching])
    epoch = [0, measures, 1, measures]
    assert watching.told == ["begin", *epoch, "epoch 0", *epoch, "epoch 1", "end"]
    assert history.epoch == [0, 1] and watching.model is lm
    at_once = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(lm, "stop_training", True)
    )
    lm.fit(data, epochs=5, batch_size=1, verbose=0, callbacks=at_once)
    assert lm.memory.steps == 5

    def faster(epoch: int, logs: Any) -> None:
        lm.optimizer.learning_rate = 0.1

    with pytest.raises(UsageError, match="a schedule as learning_rate"):
        lm.fit(data, epochs=2, batch_size=1, verbose=0,
               callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=faster)])  # fmt: skip


def test_a_loss_that_is_not_a_number_ends_the_run(lm: Any) -> None:
    """The weights stay those of the last whole epoch, and training can begin anew."""
    compiled(lm)
    before = lm.get_weights()
    lm.compile(optimizer=keras.optimizers.SGD(float("inf")))
    with pytest.raises(TrainingError, match="expected a finite number"):
        lm.fit(TEXTS, batch_size=1, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, lm.get_weights(), strict=True))
    lm.compile(optimizer=keras.optimizers.SGD(1e-3))
    assert np.isfinite(lm.fit(TEXTS, batch_size=5, verbose=0).history["loss"][0])


@pytest.mark.parametrize("given, hint", [
    ({"x": "a text"}, "wrap a single text"),
    ({"x": []}, "at least one"),
    ({"x": [3]}, "strings"),
    ({"x": {"texts": ["a"]}}, "'prompts' and 'responses'"),
    ({"x": {"prompts": ["a"], "responses": []}}, "1 prompts and 0 responses"),
    ({"x": TEXTS, "batch_size": 0}, "batch_size is 0"),
    ({"x": TEXTS, "epochs": 0}, "epochs is 0"),
    ({"x": TEXTS, "steps_per_epoch": 2}, "steps_per_epoch=2"),
    ({"x": TEXTS, "class_weight": {0: 1}}, "gemkit.tune"),
    ({"x": TEXTS, "validation_split": 1.0}, "some on each side"),
])  # fmt: skip
def test_errors(lm: Any, given: dict[str, Any], hint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(hint)):
        lm.fit(**given)


def test_lines_without_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ProgressLines(2, 1, 4)
    lines.begin(0)
    lines.step(4, {})
    lines.end({"loss": 0.00012})
    out = capsys.readouterr().out
    assert re.fullmatch(r"4/4 - 0s - \d+[mu]s/step - loss: 1\.2000e-04\n", out)
