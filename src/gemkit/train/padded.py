"""KerasHub's `fit`, step by step: its padding, its loss and its order of rows.

Keras's `GemmaCausalLM.fit` pads every row to `sequence_length`, learns every token after the
first, prompt and all, and divides the sum of the losses by all slots of the batch, padding
included (`sum_over_batch_size` of a loss whose sample weights are the padding mask). With a
long sequence and short rows its figure is therefore small. Rows are taken in file order, the
last batch may be smaller. Source: keras-hub `models/causal_lm_preprocessor.py`, keras
`losses/loss.py`. With `OptimizerSettings("keras_adamw")` and `Lora(form="keras")` three steps or
three hundred give the losses and accuracies that a tutorial prints.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gemkit.errors import UsageError
from gemkit.rows import bucket
from gemkit.train.packing import Batch, Batches


@dataclasses.dataclass(frozen=True)
class Padding:
    """Rows as Keras makes them.

    Attributes:
      length: T, Keras's `sequence_length`; what a row has beyond T + 1 tokens is cut off, as
        there.
      rows: B, Keras's `batch_size`.
    """

    length: int
    rows: int = 1

    def __post_init__(self) -> None:
        for name in ("length", "rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"padding {name} is {getattr(self, name)}", "at least 1")


class PaddedBatches(Batches):
    """The batches of an epoch, one sequence a row, each built when it is asked for.

    What would be padding in every row is never computed: rows are as long as the longest needs,
    and only `Batch.divisor`, the slots of the rows there are, counts it. A last batch with fewer
    rows has the shape of the others, its empty rows count for nothing.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], padding: Padding) -> None:
        if not sequences:
            raise UsageError("there are no rows to train on", "at least one")
        self._padding = padding
        self._sequences = [np.asarray(ids[: padding.length + 1], np.int32) for ids in sequences]
        sizes = [len(ids) for ids in self._sequences]
        self._width = min(padding.length, bucket(max(sizes) - 1))
        firsts = range(0, len(sizes), padding.rows)
        self._slots = bucket(max(sum(sizes[i : i + padding.rows]) for i in firsts))

    def __len__(self) -> int:
        return -(-len(self._sequences) // self._padding.rows)

    def _at(self, index: int) -> Batch:
        first = index * self._padding.rows
        return self._build(first, self._sequences[first : first + self._padding.rows])

    def _build(self, first: int, sequences: Sequence[np.ndarray]) -> Batch:
        rows, width = self._padding.rows, self._width
        tokens, positions, segments = np.zeros((3, rows, width), np.int32)
        target_index, target_ids = np.zeros((2, self._slots), np.int32)
        weights = np.zeros(self._slots, np.float32)
        made = 0
        for row, ids in enumerate(sequences):
            read, learnt = min(len(ids), width), len(ids) - 1
            tokens[row, :read], segments[row, :read] = ids[:read], 1
            positions[row, :read] = np.arange(read)
            place = slice(made, made + learnt)
            target_index[place] = row * width + np.arange(learnt)
            target_ids[place], weights[place] = ids[1:], 1
            made += learnt
        held = len(sequences)
        examples = tuple((first + row,) if row < held else () for row in range(rows))
        divisor = np.asarray(held * self._padding.length, np.float32)
        return Batch(
            tokens, positions, segments, target_index, target_ids, weights, examples, divisor
        )  # fmt: skip


def padded_batches(sequences: Sequence[Sequence[int]], length: int, rows: int) -> PaddedBatches:
    """The batches that Keras's `fit` makes of token ids, each `[bos, …, eos]`, in their order.

    >>> batch = padded_batches([[2, 7, 8, 1]], length=6, rows=1)[0]
    >>> batch.tokens[0].tolist(), batch.target_ids[:3].tolist(), float(batch.divisor)
    ([2, 7, 8, 1, 0, 0], [7, 8, 1], 6.0)
    """
    return PaddedBatches(sequences, Padding(length, rows))


def epoch_means(history: Iterable[Mapping[str, float]], epoch: int) -> dict[str, float]:
    """Loss and accuracy that Keras prints at the end of an epoch (counted from 1).

    Its loss is the mean of the batches' losses weighted by their rows, its accuracy that of all
    targets of the epoch.
    """
    steps = [row for row in history if "loss" in row and epoch - 1 < row["epoch"] <= epoch]
    rows = sum(row["rows"] for row in steps)
    targets = sum(row["targets"] for row in steps)
    return {
        "loss": sum(row["loss"] * row["rows"] for row in steps) / max(rows, 1),
        "accuracy": sum(row["accuracy"] * row["targets"] for row in steps) / max(targets, 1),
    }
