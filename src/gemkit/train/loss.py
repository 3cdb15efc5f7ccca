"""Cross-entropy over a large vocabulary, in chunks of positions.

Logits exist for one chunk at a time and only at positions that carry loss, so the memory of the
loss does not grow with the number of positions; under a native kernel they never leave a core's
cache. Sums are returned, never means: only the outermost caller divides.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gemkit.kernels.loss import losses, takes
from gemkit.model.config import GemmaConfig
from gemkit.model.layers import soft_cap
from gemkit.model.linear import tied_logits, untied

CHUNK_ELEMENTS = 2**25
"""Logits held at once: 128 MiB in float32."""


class Sums(NamedTuple):
    """Weighted sums over positions, float32 scalars."""

    loss: jax.Array
    weight: jax.Array
    correct: jax.Array


class _Chunk(NamedTuple):
    states: jax.Array
    targets: jax.Array
    weights: jax.Array


_Carry = tuple[Sums, jax.Array | None]
_Slopes = tuple[jax.Array, jax.Array | None]


def cross_entropy(
    table: jax.Array, config: GemmaConfig, states: jax.Array, targets: jax.Array,
    weights: jax.Array, *, frozen_head: bool,
) -> Sums:  # fmt: skip
    """Sums of -log p(target); only the loss has a gradient.

    Args:
      table: [V, D], the tied embedding.
      config: for the final soft cap.
      states: [M, D] final hidden states at the positions that predict.
      targets: [M] int32.
      weights: [M] float32, 0 for padding.
      frozen_head: the table gets no gradient, which saves a third of the head's work.
    """
    return _cross_entropy(config, frozen_head, table, _Chunk(states, targets, weights))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cross_entropy(
    config: GemmaConfig, frozen_head: bool, table: jax.Array, positions: _Chunk
) -> Sums:
    if takes(positions.states, table):
        return _natively(config, table, positions, slopes=False)[0]

    def add(sums: Sums, chunk: _Chunk) -> tuple[Sums, None]:
        loss, rest = _weighed(config, tied_logits(chunk.states, table), chunk)
        return _plus(sums, Sums(loss, *rest)), None

    return jax.lax.scan(add, _zero(), _chunks(table.shape[0], positions))[0]


def _forward(
    config: GemmaConfig, frozen_head: bool, table: jax.Array, positions: _Chunk
) -> tuple[Sums, _Slopes]:
    """Loss and gradients in one pass, so that no chunk's logits are computed twice."""
    if frozen_head and takes(positions.states, table):
        sums, slopes = _natively(config, table, positions, slopes=True)
        return sums, (slopes, None)
    carry = None if frozen_head else jnp.zeros(table.shape, jnp.float32)

    def add(carried: _Carry, chunk: _Chunk) -> tuple[_Carry, jax.Array]:
        sums, table_slope = carried
        raw = tied_logits(chunk.states, table)
        loss, pull, rest = jax.vjp(lambda raw: _weighed(config, raw, chunk), raw, has_aux=True)
        slope = pull(jnp.ones_like(loss))[0].astype(table.dtype)
        if table_slope is not None:
            rows = (((0,), (0,)), ((), ()))
            table_slope += jax.lax.dot_general(
                slope, chunk.states, rows, preferred_element_type=jnp.float32
            )
        return (_plus(sums, Sums(loss, *rest)), table_slope), untied(slope, table)

    chunks = _chunks(table.shape[0], positions)
    (sums, table_slope), slopes = jax.lax.scan(add, (_zero(), carry), chunks)
    count, width = positions.states.shape
    return sums, (slopes.reshape(-1, width)[:count], table_slope)


def _backward(
    config: GemmaConfig, frozen_head: bool, slopes: _Slopes, cotangents: Sums
) -> tuple[jax.Array | None, _Chunk]:
    states_slope, table_slope = slopes
    factor = cotangents.loss
    if table_slope is not None:
        table_slope = (table_slope * factor).astype(states_slope.dtype)
    states_slope = states_slope * factor.astype(states_slope.dtype)
    return table_slope, _Chunk(states_slope, None, None)  # type: ignore[arg-type]


_cross_entropy.defvjp(_forward, _backward)


def _natively(
    config: GemmaConfig, table: jax.Array, positions: _Chunk, *, slopes: bool
) -> tuple[Sums, jax.Array]:
    states, targets, weights = positions
    found, right, slope = losses(
        states, table, targets, weights, config.final_logit_softcap, slopes=slopes
    )
    return Sums(jnp.sum(found * weights), jnp.sum(weights), jnp.sum(right * weights)), slope


def _weighed(
    config: GemmaConfig, raw: jax.Array, chunk: _Chunk
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    logits = soft_cap(raw, config.final_logit_softcap)
    picked = jnp.take_along_axis(logits, chunk.targets[:, None], axis=1)[:, 0]
    # A maximum instead of an argmax, which XLA:CPU does not vectorise; ties count as right.
    right = (picked >= logits.max(axis=1)).astype(jnp.float32)
    losses = jax.nn.logsumexp(logits, axis=1) - picked
    weights = chunk.weights
    return jnp.sum(losses * weights), (jnp.sum(weights), jnp.sum(right * weights))


def _chunks(vocabulary: int, positions: _Chunk) -> _Chunk:
    """The positions in as few equal chunks as `CHUNK_ELEMENTS` allows, padded with weight 0."""
    count = positions.states.shape[0]
    number = -(-count // max(1, CHUNK_ELEMENTS // vocabulary))
    size = -(-count // number)

    def cut(array: jax.Array) -> jax.Array:
        padded = jnp.pad(array, [(0, number * size - count)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(number, size, *array.shape[1:])

    return _Chunk(*(cut(array) for array in positions))


def _plus(a: Sums, b: Sums) -> Sums:
    return Sums(*(x + y for x, y in zip(a, b, strict=True)))


def _zero() -> Sums:
    return Sums(*(jnp.zeros((), jnp.float32) for _ in range(3)))
