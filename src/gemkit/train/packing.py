"""Best-fit packing: examples of any length to batches of one fixed shape.

Several examples share a row of T tokens. Segment numbers keep them apart in attention and each
counts its own positions, so that a packed example gives the numbers it gives alone. Nothing is
cropped.

Why rows are kept short: attention inside a row costs T², across the examples too, and what lies
between them is thrown away. A row that is long enough for a few examples packs nearly as well as
one for hundreds (Krell et al., "Efficient Sequence Packing without Cross-contamination", 2021).
"""

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import overload

import numpy as np

from gemkit.errors import DataError, UsageError
from gemkit.rows import bucket, pack_rows

# Row lengths tried: 64, 96, 128, 192, 256, … up to far beyond any model's context.
ROW_LENGTHS = tuple(sorted(base << k for base in (64, 96) for k in range(16)))
# At this length attention is taken to cost as much as all the rest. By its FLOPs alone it does at
# 8,000 tokens in a model 768 wide and 25,000 in Gemma 2B; softmax and masks add to that on a CPU.
EVEN_LENGTH = 2048
# Lengths looked at when a shape is chosen; evenly spaced ones of the sorted list stand for all.
SHAPE_SAMPLE = 8192


@dataclass(frozen=True)
class Example:
    """Token ids, and which of them are learnt: target[t] says that ids[t] is predicted from what
    stands before it. The first token has nothing before it, so target[0] must be False.
    """

    ids: Sequence[int]
    target: Sequence[bool]

    def __post_init__(self) -> None:
        if not len(self.ids) or len(self.ids) != len(self.target) or self.target[0]:
            raise ValueError(
                f"{len(self.ids)} ids, {len(self.target)} marks; expected equally many, at least "
                "one, the first not a target"
            )


@dataclass(frozen=True)
class Batch:
    """Arrays of one training step, all shapes the same in every batch of a run.

    tokens     [B, T] int32, 0 in padding
    positions  [B, T] int32, from 0 in each example
    segments   [B, T] int32, 1, 2, … for the examples of a row, 0 in padding
    target_index    [M] int32, flat places b*T + t whose next token is a target
    target_ids      [M] int32, that next token
    target_weights  [M] float32, 1, or 0 in the padding of M
    examples   per row the numbers of its examples: segment s of row b is examples[b][s - 1]
    divisor    float32, what the sum of the losses is divided by, if not by the sum of the weights
    """

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    target_index: np.ndarray
    target_ids: np.ndarray
    target_weights: np.ndarray
    examples: tuple[tuple[int, ...], ...]
    divisor: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as a step takes them."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "examples"}
        return {name: array for name, array in named.items() if array is not None}


@dataclass(frozen=True)
class PackingStats:
    """Counts over batches. slots: B*T of all of them; text: those that hold a token."""

    batches: int
    slots: int
    text: int
    targets: int

    @property
    def padding(self) -> float:
        """Share of the slots that hold nothing."""
        return 1 - self.text / self.slots if self.slots else 0.0


class Batches(Sequence[Batch]):
    """The batches of an epoch, each built when it is asked for."""

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._at(index % len(self))

    @abc.abstractmethod
    def _at(self, index: int) -> Batch:
        """Builds the batch of a place from 0 on."""


class EpochBatches(Batches):
    """The batches of one epoch in order, each built when it is asked for.

    too_long: numbers of the examples left out because they exceed a row.
    target_slots: M, the same in every batch.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        packed: Sequence[Sequence[int]],
        shape: tuple[int, int],
        too_long: tuple[int, ...],
        target_slots: int,
    ) -> None:
        self.too_long = too_long
        self._rows, self._row_length = shape
        self._packed = packed
        lengths = [len(example.ids) for example in examples]
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        total = int(self._starts[-1])
        ids = (token for example in examples for token in example.ids)
        marks = (mark for example in examples for mark in example.target)
        self._ids = np.fromiter(ids, np.int32, total)
        self._targets = np.fromiter(marks, np.bool_, total)
        self.target_slots = max(bucket(self._most_targets()), target_slots)

    def __len__(self) -> int:
        return -(-len(self._packed) // self._rows)

    def _at(self, index: int) -> Batch:
        first = index * self._rows
        return self._build(self._packed[first : first + self._rows])

    def _most_targets(self) -> int:
        before = np.concatenate([[0], np.cumsum(self._targets, dtype=np.int64)])
        per_example = np.diff(before[self._starts])
        per_row = [int(per_example[list(row)].sum()) for row in self._packed]
        step = self._rows
        return max((sum(per_row[i : i + step]) for i in range(0, len(per_row), step)), default=0)

    def _build(self, packed: Sequence[Sequence[int]]) -> Batch:
        size, width = self._rows * self._row_length, self._row_length
        chosen = np.array([example for row in packed for example in row])
        per_row = [len(row) for row in packed]
        segment = np.concatenate([np.arange(1, count + 1) for count in per_row])
        lengths = self._starts[chosen + 1] - self._starts[chosen]
        row = np.repeat(np.arange(len(packed)), per_row)
        ends = np.cumsum(lengths)
        row_starts = np.concatenate([[0], ends[np.cumsum(per_row)[:-1] - 1]])
        place = row * width + (ends - lengths) - row_starts[row]

        position = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        source = np.repeat(self._starts[chosen], lengths) + position
        place = np.repeat(place, lengths) + position
        tokens, positions, segments = np.zeros((3, size), np.int32)
        tokens[place] = self._ids[source]
        positions[place] = position
        segments[place] = np.repeat(segment, lengths)

        learnt = self._targets[source]
        count = int(learnt.sum())
        target_index, target_ids = np.zeros((2, self.target_slots), np.int32)
        weights = np.zeros(self.target_slots, np.float32)
        target_index[:count] = place[learnt] - 1
        target_ids[:count] = self._ids[source[learnt]]
        weights[:count] = 1
        shape = (self._rows, width)
        examples = tuple(tuple(map(int, row)) for row in packed)
        examples += ((),) * (self._rows - len(packed))
        return Batch(
            tokens.reshape(shape), positions.reshape(shape), segments.reshape(shape),
            target_index, target_ids, weights, examples,
        )  # fmt: skip


def epoch_batches(
    examples: Sequence[Example],
    row_length: int,
    rows: int,
    seed: int,
    epoch: int,
    pack: bool = True,
    too_long: str = "error",
    target_slots: int = 0,
) -> EpochBatches:
    """The batches of one epoch, of `rows` rows of `row_length` tokens.

    The order depends on seed and epoch alone; the number of batches on neither. M is the bucket
    of the most targets a batch of this epoch has, and at least `target_slots`: a run passes the
    largest of its epochs' to all of them, so that its step compiles once.

    Args:
        pack: several examples a row, else one (the slow twin).
        too_long: what to do about examples longer than a row: "error", or "skip", which lists
            them in the result's `too_long`.

    Raises:
        DataError: an example is too long, or none is left.
    """
    lengths = [len(example.ids) for example in examples]
    long = tuple(i for i, length in enumerate(lengths) if length > row_length)
    if long and too_long != "skip":
        raise DataError(
            f"{len(long)} of {len(lengths)} examples are too long; the first, example {long[0]}, "
            f"has {lengths[long[0]]} tokens",
            f"at most {row_length}",
            "raise --max-length, shorten them, or skip them",
        )
    if len(long) == len(lengths):
        raise DataError(f"no example to train on ({len(long)} too long)", "at least one")
    left_out = set(long)
    random = np.random.default_rng((seed, epoch))
    order = [i for i in random.permutation(len(lengths)).tolist() if i not in left_out]
    packed = pack_rows(lengths, row_length, order) if pack else [[i] for i in order]
    packed = [packed[i] for i in random.permutation(len(packed))]
    return EpochBatches(examples, packed, (rows, row_length), long, target_slots)


def pad_batches(
    examples: Sequence[Example], rows: int, seed: int, epoch: int, row_length: int | None = None
) -> EpochBatches:
    """One example a row, rows as long as the bucket of the longest: what packing must equal."""
    longest = bucket(max((len(example.ids) for example in examples), default=0))
    return epoch_batches(examples, row_length or longest, rows, seed, epoch, pack=False)


def choose_shape(lengths: Sequence[int], batch_tokens: int) -> tuple[int, int]:
    """(rows, row_length) of at most `batch_tokens` slots in which these lengths train quickest.

    Each row length that holds the longest example is packed and priced: slots × (1 + T / 2048),
    padding against attention. Rows are shared out evenly among the batches, so a small data set
    makes one small batch and the last batch is not left nearly empty. An example longer than
    `batch_tokens` has its way: one row of its size.

    Raises UsageError for a budget below 1, DataError for no lengths.

    >>> choose_shape([40] * 300, batch_tokens=2048), choose_shape([40] * 6, batch_tokens=2048)
    ((15, 128), (2, 128))
    """
    if batch_tokens < 1:
        raise UsageError(f"--batch-tokens is {batch_tokens}", "at least 1", "such as 2048")
    if not len(lengths):
        raise DataError("no example to train on", "at least one")
    spaced = np.linspace(0, len(lengths) - 1, min(len(lengths), SHAPE_SAMPLE)).round()
    sample = np.sort(lengths)[spaced.astype(int)].tolist()
    longest = sample[-1]
    fitting = [length for length in ROW_LENGTHS if length >= longest] or [bucket(longest)]
    best, lowest = (1, fitting[0]), float("inf")
    for length in fitting:
        if length > max(batch_tokens, fitting[0]):
            break
        needed = -(-len(pack_rows(sample, length)) * len(lengths) // len(sample))
        batches = -(-needed // max(1, batch_tokens // length))
        rows = -(-needed // batches)
        price = batches * rows * length * (1 + length / EVEN_LENGTH)
        if price < lowest:
            best, lowest = (rows, length), price
    return best


def packing_stats(batches: Iterable[Batch]) -> PackingStats:
    """Counts what the batches hold."""
    counts = np.zeros(4, np.int64)
    for batch in batches:
        text, targets = (batch.segments > 0).sum(), (batch.target_weights > 0).sum()
        counts += (1, batch.tokens.size, text, targets)
    return PackingStats(*counts.tolist())
