"""Beam search: the likeliest whole answers, found by keeping the likeliest starts.

`search` is plain NumPy over any step function; `beam_search` gives it a model with a cache.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.errors import UsageError
from gemkit.generate.decode import check_prompts, pad_right, power, prefill
from gemkit.model import cache as kv
from gemkit.model import transformer
from gemkit.model.cache import KVCache
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params

ALPHA = 0.6

State = TypeVar("State")
Step = Callable[[State, np.ndarray, np.ndarray], tuple[np.ndarray, State]]
"""(state of R rows, parents [W], tokens [W]) → (log-probabilities [W, V], state of W rows).

Row w goes on from row parents[w] with tokens[w]; the log-probabilities are of what follows.
"""


@dataclasses.dataclass(frozen=True)
class Beam:
    """An answer.

    Attributes:
      tokens: without the end.
      log_prob: natural log-probability of the tokens and, if there is one, the end.
      score: what it was ranked by.
      ended: False if it was cut at the limit.
    """

    tokens: tuple[int, ...]
    log_prob: float
    score: float
    ended: bool


def length_penalty(length: int, alpha: float) -> float:
    """What log-probabilities are divided by: ((5 + length) / 6) ** alpha.

    Wu et al. 2016, arXiv:1609.08144, equation 14; the end counts as a token. 0 prefers short
    answers as the bare product of probabilities does, 1 nearly ranks by the mean per token.

    >>> length_penalty(1, 0.6), length_penalty(7, 1.0)
    (1.0, 2.0)
    """
    return float(((5 + length) / 6) ** alpha)


def search(
    first: np.ndarray, state: State, step: Step[State], width: int, limit: int,
    ends: Sequence[int], alpha: float = ALPHA,
) -> list[Beam]:  # fmt: skip
    """The best answers, at most `width`, the best first.

    Each step keeps the `width` likeliest starts that have not ended; ended ones compete by score.
    It stops early when no start can still become better than the `width` best answers. Of equal
    ones, earlier starts and lower ids come first, so the same input gives the same answers.

    Args:
      first: [V] log-probabilities of the first token.
      state: one row, for the empty answer.
      step: see `Step`; always called with `width` rows, of which the last may be idle.
      width: of the beam.
      limit: most tokens of an answer, the end included.
      ends: tokens that end it.
      alpha: see `length_penalty`.

    Raises:
      UsageError: a value out of range.
    """
    _check(width, limit, alpha)
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    scores, best = np.asarray(first, np.float64)[None], list[Beam]()
    for length in range(1, limit + 1):
        penalty = length_penalty(length, alpha)
        for row, (tokens, _) in enumerate(live):
            for end in ends:
                log_prob = float(scores[row, end])
                best.append(Beam(tokens, log_prob, log_prob / penalty, True))
        scores[:, list(ends)] = -np.inf
        chosen = _highest(scores, width)
        live = [((*live[row][0], token), float(scores[row, token])) for row, token in chosen]
        if length == limit:
            best += [Beam(tokens, p, p / penalty, False) for tokens, p in live]
        best = sorted((b for b in best if b.log_prob > -np.inf), key=lambda b: -b.score)[:width]
        # Log-probabilities only fall, so this is the most that a start can still reach.
        reachable = max((p for _, p in live), default=-np.inf) / length_penalty(limit, alpha)
        if length == limit or not live or (len(best) == width and best[-1].score >= reachable):
            break
        parents, tokens_ = np.zeros((2, width), np.int32)
        parents[: len(chosen)], tokens_[: len(chosen)] = np.transpose(chosen)
        following, state = step(state, parents, tokens_)
        before = np.asarray([p for _, p in live])[:, None]
        scores = before + np.asarray(following, np.float64)[: len(live)]
    return best


def beam_search(
    params: Params, config: GemmaConfig, prompt: Sequence[int], width: int, limit: int,
    ends: Sequence[int], alpha: float = ALPHA, dtype: Any = None,
) -> list[Beam]:  # fmt: skip
    """`search` for the continuations of a prompt; each step is one cached pass over `width` rows.

    Keys and values are kept in `dtype`, by default that of the weights.

    Raises:
      GenerationError: a prompt without tokens, or longer than the model's context.
      UsageError: a value out of range.
    """
    check_prompts(config, [prompt])
    _check(width, limit, alpha)
    limit = min(limit, max(1, config.max_positions - len(prompt)))
    dtype = params["embed"].dtype if dtype is None else dtype
    cache = kv.init_cache(config, 1, power(len(prompt) + limit), dtype)
    row = np.zeros(1, np.int32)
    for start in range(0, len(prompt), kv.PIECE):
        tokens, counts = pad_right([prompt[start : start + kv.PIECE]], 1)
        states, cache = prefill(params, config, cache, row, tokens, counts, True)
    assert states is not None
    first = _log_probs(params, config, states[:, counts[0] - 1])[0]

    def step(
        cache: KVCache, parents: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, KVCache]:
        found, cache = _step(params, config, cache, parents, tokens)
        return np.asarray(found), cache

    wide = kv.take_rows(cache, jnp.zeros(width, jnp.int32))
    return search(np.asarray(first), wide, step, width, limit, ends, alpha)


@functools.partial(jax.jit, static_argnames="config")
def _step(
    params: Params, config: GemmaConfig, cache: KVCache, parents: jax.Array, tokens: jax.Array
) -> tuple[jax.Array, KVCache]:
    cache = kv.take_rows(cache, parents)
    ones = jnp.ones(len(tokens), jnp.int32)
    states, cache = transformer.hidden_cached(params, config, tokens[:, None], ones, cache)
    return jax.nn.log_softmax(transformer.logits(params, config, states[:, 0]), axis=-1), cache


@functools.partial(jax.jit, static_argnames="config")
def _log_probs(params: Params, config: GemmaConfig, states: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(transformer.logits(params, config, states), axis=-1)


def _highest(scores: np.ndarray, count: int) -> list[tuple[int, int]]:
    """(row, column) of the highest finite scores, the highest first; equal ones in order."""
    flat = scores.ravel()
    count = min(count, flat.size)
    least = np.partition(flat, flat.size - count)[flat.size - count]
    places = np.flatnonzero((flat >= least) & (flat > -np.inf))
    places = places[np.argsort(-flat[places], kind="stable")][:count]
    return [divmod(int(place), scores.shape[1]) for place in places]


def _check(width: int, limit: int, alpha: float) -> None:
    checks = {"the beam's width": (width, 1), "the limit": (limit, 1), "alpha": (alpha, 0)}
    for name, (value, least) in checks.items():
        if not least <= value < np.inf:
            raise UsageError(f"{name} is {value}", f"at least {least}")
