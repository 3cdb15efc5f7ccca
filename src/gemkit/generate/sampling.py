"""From logits to the next token: greedy or sampled, pure and keyed.

A token depends on its row's logits, the seed and its position only, so an answer is the same
whatever else runs beside it.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from gemkit.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
      temperature: logits are divided by it; 0 takes the likeliest token.
      top_k: only the k likeliest tokens; None for all.
      top_p: only the likeliest tokens that together reach this probability (Holtzman et al.
        2020, arXiv:1904.09751); None for all.
      min_p: only tokens at least this share as likely as the likeliest; None for all.
      repetition_penalty: logits of tokens already seen, prompt included, are divided by it if
        positive and multiplied if negative (Keskar et al. 2019, arXiv:1909.05858); 1 for none.
      seed: of the random draws.

    Raises:
      UsageError: a value out of range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "temperature": (0 <= self.temperature < math.inf, "a number of at least 0"),
            "top_k": (self.top_k is None or self.top_k >= 1, "at least 1"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "a share above 0, up to 1"),
            "min_p": (self.min_p is None or 0 <= self.min_p <= 1, "a share from 0 to 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "a positive number"),
            "seed": (0 <= self.seed < 2**32, "an integer from 0 to 2**32 - 1"),
        }
        for name, (fine, wanted) in checks.items():
            if not fine:
                raise UsageError(f"{name} is {getattr(self, name)}", wanted)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draw:
    """`Sampling` for compiled code: what changes the program is static, numbers are not.

    Attributes:
      temperature, top_p, min_p, penalty: float32 scalars.
      top_k: int32 scalar.
      key: of the seed.
      greedy: no randomness.
      filtered: some of top-k, top-p, min-p is in use.
      penalised: the repetition penalty is in use.
    """

    temperature: jax.Array
    top_k: jax.Array
    top_p: jax.Array
    min_p: jax.Array
    penalty: jax.Array
    key: jax.Array
    greedy: bool = dataclasses.field(metadata={"static": True})
    filtered: bool = dataclasses.field(metadata={"static": True})
    penalised: bool = dataclasses.field(metadata={"static": True})


def make_draw(sampling: Sampling, vocabulary: int) -> Draw:
    """The settings as arrays, neutral values where one is None."""
    limits = (sampling.top_k, sampling.top_p, sampling.min_p)
    return Draw(
        temperature=jnp.float32(sampling.temperature or 1.0),
        top_k=jnp.int32(min(sampling.top_k or vocabulary, vocabulary)),
        top_p=jnp.float32(1.0 if sampling.top_p is None else sampling.top_p),
        min_p=jnp.float32(sampling.min_p or 0.0),
        penalty=jnp.float32(sampling.repetition_penalty),
        key=jax.random.key(sampling.seed),
        greedy=sampling.temperature == 0,
        filtered=any(limit is not None for limit in limits),
        penalised=sampling.repetition_penalty != 1.0,
    )


def next_tokens(
    logits: jax.Array, draw: Draw, positions: jax.Array, seen: jax.Array | None
) -> jax.Array:
    """The token that follows in every row.

    Args:
      logits: [B, V] float32.
      draw: the settings.
      positions: [B] int32, where each row's new token will stand.
      seen: [B, V] bool, tokens the penalty is for; unused without a penalty.

    Returns:
      [B] int32.
    """
    if draw.penalised and seen is not None:
        penalised = jnp.where(logits > 0, logits / draw.penalty, logits * draw.penalty)
        logits = jnp.where(seen, penalised, logits)
    if draw.greedy:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / draw.temperature
    if draw.filtered:
        logits = jnp.where(logits >= _threshold(logits, draw), logits, -jnp.inf)

    def noise(position: jax.Array) -> jax.Array:
        return jax.random.gumbel(jax.random.fold_in(draw.key, position), logits.shape[1:])

    return jnp.argmax(logits + jax.vmap(noise)(positions), axis=-1).astype(jnp.int32)


def _threshold(logits: jax.Array, draw: Draw) -> jax.Array:
    """The smallest logit [B, 1] that top-k, top-p and min-p all let pass."""
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probabilities = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    rank = jnp.arange(logits.shape[-1])
    passes = (rank < draw.top_k) & (before < draw.top_p)
    passes &= probabilities >= draw.min_p * probabilities[:, :1]
    # The likeliest token always passes.
    last = jnp.maximum(passes.sum(-1, keepdims=True) - 1, 0)
    return jnp.take_along_axis(ordered, last, axis=-1)
