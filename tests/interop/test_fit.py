"""Training as others train: KerasHub's `fit` step by step, and PyTorch's gradients under PEFT."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch
from interop import test_parity
from interop.test_keras import CONFIGS, TASKS, weights
from interop.test_parity import LORA, read_adapter, with_adapter

from gemkit.adapt.lora import Adapter, Lora, attach, count_adapter, init_adapter, plain
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import flatten
from gemkit.train.loop import FitSettings, Row, fit
from gemkit.train.optimizer import OptimizerSettings
from gemkit.train.packing import Example, epoch_batches
from gemkit.train.padded import Padding, epoch_means
from gemkit.train.step import loss_sums

pytestmark = pytest.mark.filterwarnings("default")

KERAS_LORA = Lora(3, targets=("q", "v"), form="keras")
LENGTH, BATCH, EPOCHS = 14, 2, 2
LENGTHS = (9, 15, 6, 11, 5)  # 15 fills a row: 14 inputs, 14 answers; the last batch has one row


@functools.cache
def sequences() -> list[list[int]]:
    draw = np.random.default_rng(8)
    return [[2, *draw.integers(4, 320, n - 2).tolist(), 1] for n in LENGTHS]


def padded() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """What KerasHub's preprocessor makes of them: inputs, answers, sample weights."""
    ids, mask = np.zeros((2, len(LENGTHS), LENGTH + 1), np.int32)
    for row, sequence in enumerate(sequences()):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
    return {"token_ids": ids[:, :-1], "padding_mask": mask[:, :-1]}, ids[:, 1:], mask[:, 1:]


class Logs(keras.callbacks.Callback):
    """What the progress bar shows after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.rows.append({name: float(value) for name, value in logs.items()})


def their_fit(task: Any, rate: float) -> list[dict[str, float]]:
    """As the tutorials train: AdamW, decay 0.01 but for biases and scales."""
    optimizer = keras.optimizers.AdamW(learning_rate=rate, weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale"])
    task.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), optimizer=optimizer,
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )  # fmt: skip
    inputs, answers, mask = padded()
    logs = Logs()
    task.fit(
        inputs, answers, sample_weight=mask, batch_size=BATCH, epochs=EPOCHS, shuffle=False,
        callbacks=[logs], verbose=0,
    )  # fmt: skip
    return logs.rows


def their_adapter(backbone: Any, config: GemmaConfig) -> Adapter:
    """What `enable_lora` made, in our tree of Keras's form."""
    found: Adapter = {}
    for number in range(config.num_layers):
        attention = backbone.transformer_layers[number].attention
        for name, dense in (("q", attention.query_dense), ("v", attention.value_dense)):
            a = dense.lora_kernel_a.numpy().transpose(0, 2, 1)
            pair = {"a": jnp.asarray(a), "b": jnp.asarray(dense.lora_kernel_b.numpy())}
            found[f"layers.{number}.attn.{name}"] = pair
    return found


def our_fit(
    config: GemmaConfig, lora: Lora | None, trained: Any, rate: float
) -> tuple[list[Row], Any]:
    examples = [Example(row, [False] + [True] * (len(row) - 1)) for row in sequences()]
    result = fit(
        weights(config) if lora else {}, config, lora, trained, examples,
        FitSettings(epochs=EPOCHS, padding=Padding(LENGTH, BATCH)),
        OptimizerSettings(
            "keras_adamw", rate, "constant", 0, 0.01, no_decay=("norm",), clip_norm=None
        ),
    )  # fmt: skip
    return result.history, result.trained


def shown(history: list[Row]) -> list[dict[str, float]]:
    """As Keras shows it: the mean of the epoch so far, after every step."""
    steps = len(history) // EPOCHS
    return [
        epoch_means(history[epoch * steps : epoch * steps + step + 1], epoch + 1)
        for epoch in range(EPOCHS)
        for step in range(steps)
    ]


# The tutorials' rate, and one at which the losses move.
@pytest.mark.parametrize("lora", [KERAS_LORA, None], ids=["lora", "all weights"])
@pytest.mark.parametrize("rate", [5e-5, 5e-3])
@pytest.mark.parametrize("name", ["gemma", "gemma2"])
def test_fit(tmp_path: Path, name: str, rate: float, lora: Lora | None) -> None:
    config = CONFIGS[name]
    save_checkpoint(tmp_path / "p", config, weights(config), None, "keras")
    task = TASKS[name].from_preset(str(tmp_path / "p"), preprocessor=None, dtype="float32")
    if lora is None:
        trained: Any = weights(config)
    else:
        task.backbone.enable_lora(lora.rank)
        trained = their_adapter(task.backbone, config)
        fresh = init_adapter(config, lora, 0)
        assert jax.tree.map(jnp.shape, trained) == jax.tree.map(jnp.shape, fresh)
        count = sum(int(np.prod(w.shape)) for w in task.backbone.trainable_weights)
        assert count == count_adapter(config, lora)
        for leaf, theirs in zip(*map(jax.tree.leaves, (fresh, trained)), strict=True):
            largest, expected = (float(jnp.abs(side).max()) for side in (leaf, theirs))
            assert largest == pytest.approx(expected, rel=0.1)
    logs = their_fit(task, rate)
    history, after = our_fit(config, lora, trained, rate)
    assert len(logs) == len(history) == 6
    for ours, there in zip(shown(history), logs, strict=True):
        assert ours["loss"] == pytest.approx(there["loss"], rel=1e-4)
        right = there["sparse_categorical_accuracy"]
        assert ours["accuracy"] == pytest.approx(right, abs=1e-4)
    if rate > 1e-3:
        assert history[-1]["loss"] < history[2]["loss"]
    if lora is not None:
        # The update is one of a usual adapter too.
        usual, expanded = plain(lora, after)
        for ours, same in zip(
            jax.tree.leaves(attach(weights(config), after, lora)),
            jax.tree.leaves(attach(weights(config), expanded, usual)), strict=True,
        ):  # fmt: skip
            assert np.array_equal(ours, same)


@pytest.mark.parametrize("name", ["gemma one shared head", "gemma2", "gemma3 1b"])
def test_loss_and_gradients_under_peft(tmp_path: Path, name: str) -> None:
    """Of the mean loss over the answers, for every matrix of the adapter; ours share rows."""
    model = test_parity.random_model(name)
    model.save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path)
    adapted = with_adapter(model, LORA)
    adapter = read_adapter(adapted)
    examples = test_parity.examples()
    total = 0.0
    for example in examples:
        tokens = torch.tensor([list(example.ids)])
        marks = torch.tensor([list(example.target)])
        log_p = adapted(tokens).logits.double().log_softmax(-1)[:, :-1]
        picked = log_p.gather(-1, tokens[:, 1:, None])[..., 0]
        total = total - (picked * marks[:, 1:]).sum()
    count = sum(sum(example.target) for example in examples)
    loss = total / count
    loss.backward()  # type: ignore[union-attr]
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.grad)
    expected = dict(flatten(read_adapter(adapted)))
    batch = epoch_batches(examples, row_length=40, rows=2, seed=0, epoch=0)[0].arrays()

    @jax.jit
    def ours(adapter: Adapter) -> Any:
        def mean(adapter: Adapter) -> jax.Array:
            params = attach(loaded.params, adapter, LORA)
            sums = loss_sums(params, loaded.config, batch, frozen_head=True)
            return sums.loss / sums.weight

        return jax.value_and_grad(mean)(adapter)

    value, slopes = ours(adapter)
    assert float(value) == pytest.approx(float(loss), rel=1e-5)
    for path, slope in flatten(slopes):
        size = np.abs(expected[path]).max()
        assert np.abs(np.asarray(slope) - expected[path]).max() <= 1e-3 * size, path
