"""The input of a run by step number: which batches a step reads, built ahead on a thread.

A step's input depends on the examples, the settings and its number alone, so a run that goes on
from any step reads what it would have read.
"""

import contextlib
import dataclasses
import math
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from gemkit.train.packing import Batch, Example, choose_shape, epoch_batches
from gemkit.train.padded import PaddedBatches, Padding

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Portion:
    """What one optimizer step reads.

    Attributes:
      arrays: as `train.step` takes them, with a leading axis if batches are accumulated.
      tokens: that carry text.
      slots: in all, padding too.
      rows: examples.
    """

    arrays: dict[str, Any]
    tokens: int
    slots: int
    rows: int


class Feed:
    """The portions of a run.

    Args:
      examples: what to learn.
      batch_tokens: token slots of a batch.
      accumulate: batches a step.
      seed: of the order.
      epochs: passes in all, for the one shape that fits them.
      padding: rows in file order as Keras makes them, instead of packed ones.

    Raises:
      DataError: there are no examples.
    """

    def __init__(
        self, examples: Sequence[Example], batch_tokens: int, accumulate: int = 1, seed: int = 0,
        epochs: float = 1, padding: Padding | None = None,
    ) -> None:  # fmt: skip
        self._examples, self._accumulate, self._seed = examples, accumulate, seed
        self._padded: PaddedBatches | None = None
        if padding is not None:
            self._padded = PaddedBatches(examples, padding)
        else:
            lengths = [len(example.ids) for example in examples]
            self._shape = choose_shape(lengths, batch_tokens)
            self._slots = 0
            counts = (self._pack(n).target_slots for n in range(math.ceil(epochs)))
            self._slots = max(counts)
        self._epoch, self._batches = 0, self._of(0)
        self.per_epoch = -(-len(self._batches) // accumulate)

    def _pack(self, epoch: int) -> Any:
        rows, length = self._shape
        return epoch_batches(
            self._examples, length, rows, self._seed, epoch, target_slots=self._slots
        )

    def _of(self, epoch: int) -> Sequence[Batch]:
        return self._pack(epoch) if self._padded is None else self._padded

    def portion(self, step: int) -> Portion:
        """The input of a step, counted from 0."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._of(epoch)
        first = place * self._accumulate
        batches = self._batches[first : first + self._accumulate]
        tokens = sum(int((batch.segments > 0).sum()) for batch in batches)
        slots = sum(batch.tokens.size for batch in batches)
        rows = sum(len(row) for batch in batches for row in batch.examples)
        return Portion(self._joined(batches), tokens, slots, rows)

    def _joined(self, batches: Sequence[Batch]) -> dict[str, Any]:
        if self._accumulate == 1:
            return batches[0].arrays()
        named = [batch.arrays() for batch in batches]
        # The last step of an epoch may have fewer; empty batches keep the shape.
        empty = {name: np.zeros_like(array) for name, array in named[0].items()}
        named += [empty] * (self._accumulate - len(named))
        return {name: np.stack([arrays[name] for arrays in named]) for name in empty}

    def portions(self, first: int, end: int) -> Iterator[Portion]:
        """The inputs of steps `first` up to `end`, in order."""
        return (self.portion(step) for step in range(first, end))


@contextlib.contextmanager
def prefetched(items: Iterable[Item], ahead: int = 2) -> Iterator[Iterator[Item]]:
    """The same items in the same order, made by a thread that is up to `ahead` of them.

    What the thread raises is raised where its item would come. Leaving the block ends the
    thread, whether all was read or not.
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=ahead)
    leaving = threading.Event()

    def put(kind: str, value: Any = None) -> None:
        while not leaving.is_set():
            with contextlib.suppress(queue.Full):
                made.put((kind, value), timeout=0.05)
                return

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if leaving.is_set():
                    return
            put("end")
        except BaseException as error:  # to be raised in the other thread
            put("error", error)

    def read() -> Iterator[Item]:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value

    thread = threading.Thread(target=work, name="input", daemon=True)
    thread.start()
    try:
        yield read()
    finally:
        leaving.set()
        thread.join()
