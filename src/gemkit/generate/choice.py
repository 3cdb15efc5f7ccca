"""From the scores of continuations to a choice among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from gemkit.errors import UsageError

Normalize = Literal["sum", "mean"]


@dataclass(frozen=True)
class Choice:
    """Scored choices for one prompt, in the order they were given.

    Attributes:
      choice: the likeliest.
      probabilities: of each choice among the choices; they sum to 1.
      log_probs: natural log-likelihood of each as a continuation, neither normalised nor
        calibrated.
    """

    choice: str
    probabilities: list[float]
    log_probs: list[float]


def make_choices(
    choices: Sequence[str], log_probs: np.ndarray, lengths: Sequence[int],
    normalize: Normalize = "sum", content_free: np.ndarray | None = None,
) -> list[Choice]:  # fmt: skip
    """A choice for each row of scores.

    Args:
      choices: C texts.
      log_probs: [rows, C] natural log-likelihoods.
      lengths: C numbers of tokens.
      normalize: "sum" takes the log-likelihoods as they are; "mean" divides them by the number of
        tokens, so that longer choices have no disadvantage.
      content_free: [C] natural log-likelihoods under a prompt that speaks for none of them. The
        probabilities are divided by theirs, which takes out what the model prefers whatever it
        reads (Zhao et al. 2021, arXiv:2102.09690).

    Raises:
      UsageError: another `normalize`.

    >>> make_choices(["a", "b"], np.log([[0.6, 0.4]]), [1, 1],
    ...              content_free=np.log([0.8, 0.2]))[0].choice
    'b'
    """
    if normalize not in get_args(Normalize):
        raise UsageError(f"normalize is {normalize!r}", '"sum" or "mean"')
    divisor = np.asarray(lengths if normalize == "mean" else np.ones(len(lengths)), np.float64)
    scores = log_probs / divisor
    if content_free is not None:
        scores = scores - content_free / divisor
    best = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = best / best.sum(axis=1, keepdims=True)
    return [
        Choice(choices[int(row.argmax())], row.tolist(), logs.tolist())
        for row, logs in zip(shares, log_probs, strict=True)
    ]
