"""What `fit` is given, as rows of ids and what counts in them."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gemkit.compat.keras_nlp.preprocessor import GemmaCausalLMPreprocessor
from gemkit.errors import UsageError
from gemkit.train.packing import Example

BATCH_SIZE = 32
"""KerasHub's default."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows in their order.

    Attributes:
      examples: ids, and which of them are learnt.
      length: T, slots of a row that the loss is divided by.
      batch_size: rows of a step.
    """

    examples: Sequence[Example]
    length: int
    batch_size: int

    def split(self, share: float) -> tuple["Rows", "Rows | None"]:
        """These without the last ones, and those: `share` of all."""
        if not share:
            return self, None
        kept = int(len(self.examples) * (1 - share))
        if not 0 < kept < len(self.examples):
            raise UsageError(
                f"validation_split is {share} of {len(self.examples)} rows", "some on each side"
            )
        return (
            dataclasses.replace(self, examples=self.examples[:kept]),
            dataclasses.replace(self, examples=self.examples[kept:]),
        )


def to_rows(
    preprocessor: GemmaCausalLMPreprocessor | None, x: Any, y: Any = None,
    sample_weight: Any = None, batch_size: int | None = None,
) -> Rows:  # fmt: skip
    """Rows of texts, or without a preprocessor of arrays.

    Args:
      x: as `fit` takes it; a data set with `as_numpy_iterator` gives batches of that.
      y, sample_weight: labels and weights, without a preprocessor only.
      batch_size: None for 32, or for that of a data set.

    Raises:
      UsageError: none, or data of another kind.
    """
    if hasattr(x, "as_numpy_iterator"):
        batches = [_of_batch(preprocessor, batch) for batch in x.as_numpy_iterator()]
        if not batches:
            raise UsageError("there are no rows to train on", "at least one")
        examples = [example for rows in batches for example in rows.examples]
        return Rows(examples, batches[0].length, len(batches[0].examples))
    size = BATCH_SIZE if batch_size is None else batch_size
    if size < 1:
        raise UsageError(f"batch_size is {batch_size}", "at least 1")
    if preprocessor is None:
        examples, length = _of_arrays(x, y, sample_weight)
    else:
        examples, length = _of_texts(preprocessor, x), preprocessor.sequence_length
    if not examples:
        raise UsageError("there are no rows to train on", "at least one")
    return Rows(examples, length, size)


def _of_batch(preprocessor: GemmaCausalLMPreprocessor | None, batch: Any) -> Rows:
    given = batch if isinstance(batch, tuple) else (batch,)
    return to_rows(preprocessor, *given)


def _of_texts(preprocessor: GemmaCausalLMPreprocessor, x: Any) -> list[Example]:
    if not isinstance(x, Iterable) or isinstance(x, str | bytes):
        raise UsageError(
            f"the data is a {type(x).__name__}", "a list of texts", "wrap a single text in a list"
        )
    return [
        Example(ids, [place >= max(begins, 1) for place in range(len(ids))])
        for ids, begins in preprocessor.sequences(x, preprocessor.sequence_length + 1)
    ]


def _of_arrays(x: Any, y: Any, sample_weight: Any) -> tuple[list[Example], int]:
    if not isinstance(x, Mapping) or "token_ids" not in x or y is None:
        raise UsageError(
            "there is no preprocessor", "x with 'token_ids' and 'padding_mask', and y",
            "load the model with its preprocessor to pass texts",
        )  # fmt: skip
    tokens, labels = np.asarray(x["token_ids"]), np.asarray(y)
    seen = np.asarray(x.get("padding_mask", np.ones_like(tokens)), bool)
    weights = np.asarray(seen if sample_weight is None else sample_weight)
    if not (tokens.shape == labels.shape == seen.shape == weights.shape and tokens.ndim == 2):
        raise UsageError(
            f"the arrays are {tokens.shape}, {labels.shape}, {weights.shape}", "one shape [N, T]"
        )
    counted = weights.astype(bool)
    # What is learnt at a place must be what is read at the next, and nothing may be hidden.
    shifted = (labels[:, :-1] == tokens[:, 1:]) | ~counted[:, 1:]
    prefix = np.logical_and.accumulate(seen, axis=1)
    if not (np.isin(weights, (0, 1)).all() and shifted.all() and (prefix == seen).all()):
        raise UsageError(
            "labels, weights or padding are of another kind",
            "labels that are the next ids, weights of 0 or 1, padding on the right",
        )  # fmt: skip
    examples = []
    for row, label, count in zip(tokens, labels, counted, strict=True):
        last = int(np.flatnonzero(count).max(initial=-1)) + 1
        ids = [int(row[0]), *label[:last].tolist()]
        examples.append(Example(ids, [False, *count[:last].tolist()]))
    return examples, tokens.shape[1]
