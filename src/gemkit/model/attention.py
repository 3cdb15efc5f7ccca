"""Masks and grouped-query attention.

A query sees a key of its own sequence that is not in its future and, in a local layer, not
farther back than the window. Positions decide, not places in the array, so packed rows, padded
rows and caches of any order share one rule.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gemkit.kernels.dot import available, product, transposed_product
from gemkit.model.cache import Buffer, Quantised, vectors
from gemkit.model.layers import soft_cap

# The most negative value upstream uses; a row without any key becomes uniform instead of NaN.
MASKED = -2.3819763e38

FEW_QUERIES = 256
"""Up to this many rows of them, float32 ones are multiplied natively too."""

Product = Callable[[jax.Array, jax.Array], jax.Array]


def causal_mask(
    query_positions: jax.Array, key_positions: jax.Array, window: int | None
) -> jax.Array:
    """[B, T] and [B, S] positions → bool [B, T, S]; keys at negative positions are empty slots."""
    distance = query_positions[:, :, None] - key_positions[:, None, :]
    seen = (distance >= 0) & (key_positions >= 0)[:, None, :]
    return seen if window is None else seen & (distance < window)


def segment_mask(segments: jax.Array, branches: jax.Array | None = None) -> jax.Array:
    """Who may look at whom by sequence: bool [B, T, T].

    Segments [B, T] number the sequences packed into a row, 0 is padding. Branches [B, T], if
    given, number alternative continuations of one sequence: branch 0 is the common start that
    all see, any other is seen by itself only.
    """
    same = (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, None, :]
    if branches is None:
        return same
    own = branches[:, :, None] == branches[:, None, :]
    return same & (own | (branches == 0)[:, None, :])


def attend(q: jax.Array, k: Buffer, v: Buffer, mask: jax.Array, cap: float | None) -> jax.Array:
    """Softmax attention: q [B, T, N, H], k and v [B, S, K, H], mask [B, T, S] → [B, T, N*H].

    Query head n reads key/value head n // (N/K). Scores and softmax are float32. Scales of
    quantised keys and values are multiplied to the scores and weights, never to the vectors.
    """
    return _attend(q, k, v, mask, cap, _scores, _mixed)


def attend_cached(
    q: jax.Array, k: Buffer, v: Buffer, mask: jax.Array, cap: float | None
) -> jax.Array:
    """`attend` for keys and values of a cache, natively where one matrix of each is all there is.

    Training should not: its gradients would keep all scores.
    """
    batch, length, heads, _ = q.shape
    single = batch * (k.values if isinstance(k, Quantised) else k).shape[2] == 1
    few = q.dtype == jnp.bfloat16 or (q.dtype == jnp.float32 and length * heads <= FEW_QUERIES)
    if single and few and available():
        return _attend(q, k, v, mask, cap, _native_scores, _native_mixed)
    return attend(q, k, v, mask, cap)


def _attend(
    q: jax.Array, k: Buffer, v: Buffer, mask: jax.Array, cap: float | None,
    scored: Product, mixed_by: Product,
) -> jax.Array:  # fmt: skip
    (k, key_scales), (v, value_scales) = _unpacked(k, q.dtype), _unpacked(v, q.dtype)
    batch, length, heads, size = q.shape
    keys, shared = k.shape[1:3]
    group = heads // shared
    # The queries of a group are stacked into rows: one plain matrix product per key/value head.
    rows = q.reshape(batch, length, shared, group, size).transpose(0, 2, 1, 3, 4)
    scores = scored(rows.reshape(batch, shared, length * group, size), k)
    scores = scores if key_scales is None else scores * key_scales
    scores = soft_cap(scores.reshape(batch, shared, length, group, keys), cap)
    weights = jax.nn.softmax(jnp.where(mask[:, None, :, None], scores, MASKED), axis=-1)
    weights = weights.reshape(batch, shared, length * group, keys)
    weights = weights if value_scales is None else weights * value_scales
    mixed = mixed_by(weights.astype(v.dtype), v)
    mixed = mixed.reshape(batch, shared, length, group, size).transpose(0, 2, 1, 3, 4)
    return mixed.reshape(batch, length, heads * size)


def _scores(rows: jax.Array, k: jax.Array) -> jax.Array:
    """Queries [B, K, Q, H] and keys [B, S, K, H] → float32 [B, K, Q, S]."""
    return jnp.einsum("BKQH,BSKH->BKQS", rows, k, preferred_element_type=jnp.float32)


def _mixed(weights: jax.Array, v: jax.Array) -> jax.Array:
    """Weights [B, K, Q, S] and values [B, S, K, H] → [B, K, Q, H]."""
    return jnp.einsum("BKQS,BSKH->BKQH", weights, v)


def _native_scores(rows: jax.Array, k: jax.Array) -> jax.Array:
    return product(rows[0, 0], k[0, :, 0], jnp.float32)[None, None]


def _native_mixed(weights: jax.Array, v: jax.Array) -> jax.Array:
    return transposed_product(weights[0, 0], v[0, :, 0])[None, None]


def _unpacked(buffer: Buffer, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array | None]:
    """Vectors [B, S, K, H] for a product, and their scales [B, K, 1, S] if they have any."""
    if isinstance(buffer, Quantised):
        return buffer.values.astype(dtype), buffer.scales.transpose(0, 2, 1)[:, :, None]
    return vectors(buffer).astype(dtype), None
