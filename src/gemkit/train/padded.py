"""KerasHub's `fit`, step by step: its padding, its loss and its order of rows.

Keras's `GemmaCausalLM.fit` pads every row to `sequence_length`, learns every token of a text
after the first, prompt and all, and divides the sum of the losses by all slots of the batch,
padding included (`sum_over_batch_size` of a loss whose sample weights are the padding mask). With
a long sequence and short rows its figure is therefore small. Rows are taken in file order, the
last batch may be smaller. Source: keras-hub `models/causal_lm_preprocessor.py`, keras
`losses/loss.py`. With `OptimizerSettings("keras_adamw")` and `Lora(form="keras")` three steps or
three hundred give the losses and accuracies that a tutorial prints.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gemkit.adapt.lora import Lora
from gemkit.errors import UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.rows import bucket
from gemkit.train.packing import Batch, Batches, Example
from gemkit.train.step import make_valid_step


@dataclasses.dataclass(frozen=True)
class Padding:
    """Rows as Keras makes them.

    Attributes:
      length: T, Keras's `sequence_length`; what a row has beyond T + 1 tokens is cut off, as
        there.
      rows: B, Keras's `batch_size`.
      prompts: learn every token, as of a text there, whatever the examples mark; else what they
        mark, as of prompts with responses.
    """

    length: int
    rows: int = 1
    prompts: bool = True

    def __post_init__(self) -> None:
        for name in ("length", "rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"padding {name} is {getattr(self, name)}", "at least 1")


class PaddedBatches(Batches):
    """The batches of an epoch, one example a row, each built when it is asked for.

    What would be padding in every row is never computed: rows are as long as the longest needs,
    and only `Batch.divisor`, the slots of the rows there are, counts it. A last batch with fewer
    rows has the shape of the others, its empty rows count for nothing.

    >>> row = Example([2, 7, 8, 1], [False, False, True, True])
    >>> batch = PaddedBatches([row], Padding(length=6))[0]
    >>> batch.tokens[0].tolist(), batch.target_ids[:3].tolist(), float(batch.divisor)
    ([2, 7, 8, 1, 0, 0], [7, 8, 1], 6.0)
    """

    def __init__(self, examples: Sequence[Example], padding: Padding) -> None:
        if not examples:
            raise UsageError("there are no rows to train on", "at least one")
        self._length, self._rows = padding.length, min(padding.rows, len(examples))
        most = padding.length + 1
        self._ids = [np.asarray(example.ids[:most], np.int32) for example in examples]
        marks = [np.asarray(example.target[:most], bool) for example in examples]
        # Places whose next token is learnt.
        self._learnt = [np.flatnonzero(mark[1:] | padding.prompts) for mark in marks]
        self._width = min(padding.length, bucket(max(len(ids) for ids in self._ids) - 1))
        counts = [len(places) for places in self._learnt]
        firsts = range(0, len(counts), self._rows)
        self._slots = bucket(max(sum(counts[i : i + self._rows]) for i in firsts))

    def __len__(self) -> int:
        return -(-len(self._ids) // self._rows)

    def _at(self, index: int) -> Batch:
        rows, width = self._rows, self._width
        first = index * rows
        chosen = range(first, min(first + rows, len(self._ids)))
        tokens, positions, segments = np.zeros((3, rows, width), np.int32)
        target_index, target_ids = np.zeros((2, self._slots), np.int32)
        weights = np.zeros(self._slots, np.float32)
        made = 0
        for row, number in enumerate(chosen):
            ids, learnt = self._ids[number], self._learnt[number]
            read = min(len(ids), width)
            tokens[row, :read], segments[row, :read] = ids[:read], 1
            positions[row, :read] = np.arange(read)
            place = slice(made, made + len(learnt))
            target_index[place] = row * width + learnt
            target_ids[place], weights[place] = ids[learnt + 1], 1
            made += len(learnt)
        examples = tuple((number,) for number in chosen) + ((),) * (rows - len(chosen))
        divisor = np.asarray(len(chosen) * self._length, np.float32)
        return Batch(
            tokens, positions, segments, target_index, target_ids, weights, examples, divisor
        )  # fmt: skip


@dataclasses.dataclass
class Means:
    """Loss and accuracy as Keras prints them, of what was added so far.

    Its loss is the mean of the batches' losses weighted by their rows, its accuracy that of all
    targets.
    """

    _rows: float = 0
    _loss: float = 0
    _targets: float = 0
    _right: float = 0

    def add(self, row: Mapping[str, float]) -> None:
        """A batch: loss, accuracy, rows, targets, as a row of a run's history has them."""
        self._rows += row["rows"]
        self._loss += row["loss"] * row["rows"]
        self._targets += row["targets"]
        self._right += row["accuracy"] * row["targets"]

    @property
    def loss(self) -> float:
        """Per slot, padding included."""
        return self._loss / max(self._rows, 1)

    @property
    def accuracy(self) -> float:
        """Share of the targets that were likeliest."""
        return self._right / max(self._targets, 1)


def epoch_means(history: Iterable[Mapping[str, float]], epoch: int) -> dict[str, float]:
    """Loss and accuracy that Keras prints at the end of an epoch (counted from 1)."""
    means = Means()
    for row in history:
        if "loss" in row and epoch - 1 < row["epoch"] <= epoch:
            means.add(row)
    return {"loss": means.loss, "accuracy": means.accuracy}


def make_padded_measure(
    params: Params, config: GemmaConfig, lora: Lora | None, examples: Sequence[Example],
    padding: Padding,
) -> Callable[[Any], dict[str, float]]:  # fmt: skip
    """A validation with Keras's figures: trained tree → {"valid_loss": …, "valid_accuracy": …}."""
    batches = PaddedBatches(examples, padding)
    step = make_valid_step(config, lora)

    def measure(trained: Any) -> dict[str, float]:
        means = Means()
        for batch in batches:
            arrays = batch.arrays()
            found = jax.device_get(step(trained, params, arrays))
            loss, targets, right = map(float, found)
            means.add({
                "loss": loss / float(arrays["divisor"]), "targets": targets,
                "accuracy": right / max(targets, 1), "rows": sum(map(len, batch.examples)),
            })  # fmt: skip
        return {"valid_loss": means.loss, "valid_accuracy": means.accuracy}

    return measure
