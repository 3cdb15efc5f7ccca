"""From logits to the next token: greedy or drawn, pure and keyed, each row by its own settings.

A token depends on its row's logits, settings, seed and position only, so an answer is the same
whatever else runs beside it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.errors import UsageError

CANDIDATES = 512
"""Tokens the filters look at first; only rows that let more pass need the whole vocabulary."""
BLOCK = 512
"""Tokens whose probabilities are summed before the draw chooses among such sums."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    top-k, top-p and min-p each look at the probabilities after temperature; a token must pass all
    of them. Tokens as likely as the last one that passes do too.

    Attributes:
      temperature: logits are divided by it; 0 takes the likeliest token (the lowest id of several).
      top_k: only the k likeliest tokens; None for all.
      top_p: only the likeliest tokens that together reach this probability (Holtzman et al.
        2020, arXiv:1904.09751); None for all.
      min_p: only tokens at least this share as likely as the likeliest; None for all.
      repetition_penalty: logits of tokens already seen, prompt included, are divided by it if
        positive and multiplied if negative (Keskar et al. 2019, arXiv:1909.05858); 1 for none.
      seed: of the random draws.
      presence_penalty: taken from the logits of tokens that the answer holds; 0 for none.
      frequency_penalty: taken from them once for each time the answer holds them; 0 for none.
      logit_bias: token → what is added to its logit; kept as sorted pairs.
      banned: tokens that are never chosen.
      forced: tokens the answer starts with. Whoever drives the decoding reads them like a part of
        the prompt and counts them as answer; `next_tokens` does not know them.

    Raises:
      UsageError: a value out of range, or settings that contradict each other.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] | None = None
    banned: tuple[int, ...] = ()
    forced: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        bias = dict(self.logit_bias or ())
        # Kept hashable, whatever sequence or mapping the caller has.
        hashable = {
            "logit_bias": tuple(sorted(bias.items())) or None,
            "banned": tuple(sorted(set(self.banned))),
            "forced": tuple(self.forced),
        }
        for name, kept in hashable.items():
            object.__setattr__(self, name, kept)
        checks = {
            "temperature": (0 <= self.temperature < math.inf, "a number of at least 0"),
            "top_k": (self.top_k is None or self.top_k >= 1, "at least 1"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "a share above 0, up to 1"),
            "min_p": (self.min_p is None or 0 <= self.min_p <= 1, "a share from 0 to 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "a positive number"),
            "seed": (0 <= self.seed < 2**32, "an integer from 0 to 2**32 - 1"),
            "presence_penalty": (math.isfinite(self.presence_penalty), "a finite number"),
            "frequency_penalty": (math.isfinite(self.frequency_penalty), "a finite number"),
        }
        for name, (fine, wanted) in checks.items():
            if not fine:
                raise UsageError(f"{name} is {getattr(self, name)}", wanted)
        for token, value in bias.items():
            if not math.isfinite(value):
                raise UsageError(
                    f"logit_bias of token {token} is {value}", "a finite number",
                    "ban a token that must not come",
                )  # fmt: skip
        for name, tokens in (("forced", self.forced), ("in logit_bias", bias)):
            both = sorted(set(self.banned) & set(tokens))
            if both:
                raise UsageError(f"token {both[0]} is banned and {name}", "one of the two")

    @property
    def filtered(self) -> bool:
        """Draws among some of the tokens only."""
        limits = (self.top_k, self.top_p, self.min_p)
        return self.temperature > 0 and any(limit is not None for limit in limits)

    @property
    def penalised(self) -> bool:
        """Needs `counts`."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return penalties != (1.0, 0.0, 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draws:
    """The `Sampling` of each row for compiled code; `jax.tree.map` with an index picks rows.

    Attributes:
      temperature, top_p, min_p: [B] float32; neutral values where the setting is None.
      top_k: [B] int32.
      repetition, presence, frequency: [B] float32, the penalties.
      seeds: [B] uint32.
      sampled: some row has a temperature. These three are static: without them a program is
        compiled that leaves the work out; a row's token is the same either way.
      filtered: some row uses top-k, top-p or min-p.
      penalised: some row uses a penalty.
    """

    temperature: Any
    top_k: Any
    top_p: Any
    min_p: Any
    repetition: Any
    presence: Any
    frequency: Any
    seeds: Any
    sampled: bool = dataclasses.field(metadata={"static": True})
    filtered: bool = dataclasses.field(metadata={"static": True})
    penalised: bool = dataclasses.field(metadata={"static": True})


def make_draws(rows: Sequence[Sampling], vocabulary: int) -> Draws:
    """The settings of a batch as NumPy arrays.

    Raises:
      UsageError: a banned, forced or biased token outside the vocabulary.
    """
    for row in rows:
        _check_tokens(row, vocabulary)

    def column(values: Sequence[float | int], dtype: type) -> np.ndarray:
        return np.asarray(values, dtype)

    return Draws(
        temperature=column([row.temperature for row in rows], np.float32),
        top_k=column([min(row.top_k or vocabulary, vocabulary) for row in rows], np.int32),
        top_p=column([1.0 if row.top_p is None else row.top_p for row in rows], np.float32),
        min_p=column([row.min_p or 0.0 for row in rows], np.float32),
        repetition=column([row.repetition_penalty for row in rows], np.float32),
        presence=column([row.presence_penalty for row in rows], np.float32),
        frequency=column([row.frequency_penalty for row in rows], np.float32),
        seeds=column([row.seed for row in rows], np.uint32),
        sampled=any(row.temperature > 0 for row in rows),
        filtered=any(row.filtered for row in rows),
        penalised=any(row.penalised for row in rows),
    )


def bias_row(sampling: Sampling, vocabulary: int) -> np.ndarray | None:
    """What `logit_bias` and `banned` add to the logits, float32 [V]; None for nothing.

    Raises:
      UsageError: a token outside the vocabulary.

    >>> bias_row(Sampling(logit_bias={0: 2.5}, banned=(2,)), 3)
    array([ 2.5,  0. , -inf], dtype=float32)
    """
    _check_tokens(sampling, vocabulary)
    if not sampling.logit_bias and not sampling.banned:
        return None
    row = np.zeros(vocabulary, np.float32)
    for token, value in dict(sampling.logit_bias or ()).items():
        row[token] = value
    row[list(sampling.banned)] = -np.inf
    return row


def _check_tokens(sampling: Sampling, vocabulary: int) -> None:
    named = {
        "banned": sampling.banned,
        "forced": sampling.forced,
        "logit_bias": dict(sampling.logit_bias or ()),
    }
    for name, tokens in named.items():
        for token in tokens:
            if not 0 <= token < vocabulary:
                raise UsageError(f"{name} holds token {token}", f"0 to {vocabulary - 1}")


def seeds(seed: int, n: int) -> list[int]:
    """Seeds for `n` answers to one prompt: the first is `seed` itself, the others are hashes.

    The first answer of many is thus the only one of `n=1`, and the first few of more are the same.

    >>> seeds(7, 1), seeds(7, 3) == seeds(7, 5)[:3]
    ([7], True)
    """
    drawn = (np.random.SeedSequence([seed, copy]).generate_state(1)[0] for copy in range(1, n))
    return [seed, *(int(value) for value in drawn)]


def best_first(log_probs: Sequence[Sequence[float]]) -> list[int]:
    """Answers ranked by the mean log-probability of their tokens, the likeliest first.

    Ties keep their order; an answer without tokens comes last.

    >>> best_first([[-2.0, -2.0], [-1.0], [], [-0.5, -0.6]])
    [3, 1, 0, 2]
    """
    means = [sum(row) / len(row) if row else -math.inf for row in log_probs]
    return sorted(range(len(means)), key=lambda answer: -means[answer])


def prompt_counts(prompt: Sequence[int], vocabulary: int) -> np.ndarray:
    """`counts` [V] before the first new token: 1 for each token that the prompt holds.

    The lowest bit says whether the prompt holds a token, the others how often the answer does, so
    that one array serves the penalty that looks at both and those that look at the answer.
    """
    counts = np.zeros(vocabulary, np.int32)
    counts[np.asarray(prompt, np.int32)] = 1
    return counts


def count(counts: jax.Array, tokens: jax.Array) -> jax.Array:
    """`counts` [B, V] after each row's answer has grown by one of `tokens` [B]; -1 for none."""
    rows = jnp.arange(tokens.shape[0])
    return counts.at[rows, tokens].add(jnp.where(tokens < 0, 0, 2))


def next_tokens(
    logits: jax.Array, draws: Draws, positions: jax.Array, counts: jax.Array | None = None,
    allowed: jax.Array | None = None, bias: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """The token that follows in every row.

    Penalties change the model's logits first, then come bias and mask, temperature, filters.

    Args:
      logits: [B, V] float32.
      draws: the settings.
      positions: [B] int32, where each row's new token will stand.
      counts: [B, V] int32 from `prompt_counts` and `count`; needed with a penalty only.
      allowed: [B, V] bool, False for tokens that must not come.
      bias: [B, V] float32, from `bias_row`.

    Returns:
      The tokens [B] int32, -1 in a row where bias and mask leave none, and their natural
      log-probabilities [B] float32 under the softmax of `logits` as they were given.
    """
    raw = logits
    if draws.penalised:
        assert counts is not None, "penalties need counts"
        logits = _penalise(logits, draws, counts)
    if bias is not None:
        logits = logits + bias
    if allowed is not None:
        logits = jnp.where(allowed, logits, -jnp.inf)
    highest = logits.max(-1, keepdims=True)
    tokens = _first(logits == highest)
    if draws.sampled:
        scale = jnp.where(draws.temperature > 0, draws.temperature, 1.0)[:, None]
        logits = (logits - highest) / scale
        weights = jnp.exp(logits)
        if draws.filtered:
            weights = jnp.where(logits >= _threshold(logits, weights, draws), weights, 0.0)
        keys = jax.vmap(jax.random.fold_in)(jax.vmap(jax.random.key)(draws.seeds), positions)
        shares = jax.vmap(jax.random.uniform)(keys)
        tokens = jnp.where(draws.temperature > 0, _drawn(weights, shares), tokens)
    tokens = jnp.where(highest[:, 0] > -jnp.inf, tokens, -1)
    return tokens, _log_probs(raw, tokens)


def _penalise(logits: jax.Array, draws: Draws, counts: jax.Array) -> jax.Array:
    factor, answer = draws.repetition[:, None], counts >> 1
    repeated = jnp.where(logits > 0, logits / factor, logits * factor)
    logits = jnp.where(counts > 0, repeated, logits)
    logits -= jnp.where(answer > 0, draws.presence[:, None], 0.0)
    return logits - draws.frequency[:, None] * answer.astype(jnp.float32)


def _log_probs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    chosen = jnp.take_along_axis(logits, jnp.maximum(tokens, 0)[:, None], axis=-1)[:, 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def _first(marked: jax.Array) -> jax.Array:
    """The lowest marked index [B] of [B, M], M without a mark; XLA:CPU's argmax is slow."""
    index = jax.lax.broadcasted_iota(jnp.int32, marked.shape, 1)
    return jnp.where(marked, index, marked.shape[-1]).min(-1)


def _drawn(weights: jax.Array, shares: jax.Array) -> jax.Array:
    """The index [B] at which the running sum of weights [B, V] passes a share [B] of the whole.

    First the block, then the index within, since a running sum over V is slow. An index without
    weight is never drawn, whatever the sums' rounding.
    """
    padded = jnp.pad(weights, ((0, 0), (0, -weights.shape[-1] % BLOCK)))
    blocks = padded.reshape(len(weights), -1, BLOCK)
    sums = blocks.sum(-1)
    block, rest = _passing(sums, shares * sums.sum(-1))
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    return block * BLOCK + _passing(inside, rest)[0]


def _passing(weights: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the running sum of weights [B, M] passes a target [B], and what is left before it."""
    sums = jnp.cumsum(weights, axis=-1)
    last = weights.shape[-1] - 1 - _first(weights[:, ::-1] > 0)
    found = jnp.minimum(_first((sums > target[:, None]) & (weights > 0)), last)
    found = jnp.maximum(found, 0)
    before = jnp.take_along_axis(sums - weights, found[:, None], axis=-1)[:, 0]
    return found, target - before


def _threshold(logits: jax.Array, weights: jax.Array, draws: Draws) -> jax.Array:
    """The smallest logit [B, 1] that top-k, top-p and min-p all let pass.

    Args:
      logits: [B, V], the highest of a row 0.
      weights: their exponentials.
    """
    top_k, top_p, least = (x[:, None] for x in (draws.top_k, draws.top_p, jnp.log(draws.min_p)))
    # Rounding must not let a running sum reach the whole before its end.
    mass = jnp.where(top_p < 1, top_p * weights.sum(-1, keepdims=True), jnp.inf)
    candidates = min(CANDIDATES, logits.shape[-1])
    ordered = jax.lax.top_k(logits, candidates)[0]
    before = jnp.cumsum(jnp.exp(ordered), axis=-1) - jnp.exp(ordered)
    passes = (jnp.arange(candidates) < top_k) & (before < mass) & (ordered >= least)
    # The likeliest token always passes.
    last = jnp.maximum(passes.sum(-1, keepdims=True) - 1, 0)
    found = jnp.take_along_axis(ordered, last, axis=-1)
    if candidates == logits.shape[-1]:
        return found
    found = jnp.where((top_k >= logits.shape[-1]) & (mass == jnp.inf), least, found)
    more = passes[:, -1:] & (top_k > candidates) & (found > least)
    slow = jax.lax.cond(
        more.any(), lambda: _bisected(logits, weights, top_k, mass, least, found), lambda: found
    )
    return jnp.where(more, slow, found)


def _bisected(
    logits: jax.Array, weights: jax.Array, top_k: jax.Array, mass: jax.Array, least: jax.Array,
    highest: jax.Array,
) -> jax.Array:  # fmt: skip
    """`_threshold` by bisection over the float32 values: at most 32 sums instead of a sort.

    Args:
      highest: [B, 1], what the threshold is known not to exceed.
    """
    lowest = jnp.maximum(logits.min(-1, keepdims=True), least)

    def step(bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        # Half way rounded up; a plain sum could overflow.
        middle = (low >> 1) + (high >> 1) + ((low | high) & 1)
        value = _ordered_float(middle)
        kept = logits >= value
        enough = kept.sum(-1, keepdims=True) >= top_k
        enough |= jnp.where(kept, weights, 0.0).sum(-1, keepdims=True) >= mass
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    bounds = (_ordered_int(lowest), _ordered_int(highest))
    return _ordered_float(jax.lax.while_loop(lambda x: (x[0] < x[1]).any(), step, bounds)[0])


def _ordered_int(value: jax.Array) -> jax.Array:
    """float32 → int32 in the same order (both zeros apart)."""
    bits = jax.lax.bitcast_convert_type(value, jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _ordered_float(value: jax.Array) -> jax.Array:
    """The inverse of `_ordered_int`."""
    bits = jnp.where(value < 0, value ^ 0x7FFFFFFF, value)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
