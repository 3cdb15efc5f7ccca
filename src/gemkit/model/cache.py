"""The key/value cache: full buffers for global layers, rings for windowed ones.

All rows of a batch write at one cursor; each slot remembers the position its row put there
(-1: nothing). Prompts of unequal length are therefore padded on the left, and the mask, which
goes by positions, does the rest. A ring forgets a slot only after every later query has it
outside its window.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from gemkit.model.config import GemmaConfig, LayerKind

PIECE = 512
"""Most tokens written at once; rings have room for a window and a piece."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """State of decoding.

    Attributes:
      keys, values: per layer [B, S, K, H]; S is the capacity of the layer's kind.
      positions: kind → [B, S] int32, -1 where a slot is empty.
      cursor: int32 scalar, tokens written so far (padding included).
    """

    keys: list[jax.Array]
    values: list[jax.Array]
    positions: dict[LayerKind, jax.Array]
    cursor: jax.Array


def capacities(config: GemmaConfig, length: int) -> dict[LayerKind, int]:
    """Slots for each kind of layer that the model has, for sequences of up to `length` tokens."""
    slots: dict[LayerKind, int] = {}
    for kind in config.layer_kinds:
        window = config.window(kind)
        ring = length if window is None else -(-(window + PIECE) // PIECE) * PIECE
        slots[kind] = min(length, ring)
    return slots


def init_cache(config: GemmaConfig, batch: int, length: int, dtype: Any) -> KVCache:
    """An empty cache for `batch` rows of up to `length` tokens."""
    slots = capacities(config, length)
    shapes = [
        (batch, slots[kind], config.num_kv_heads, config.head_dim) for kind in config.layer_kinds
    ]
    return KVCache(
        keys=[jnp.zeros(shape, dtype) for shape in shapes],
        values=[jnp.zeros(shape, dtype) for shape in shapes],
        positions={kind: jnp.full((batch, n), -1, jnp.int32) for kind, n in slots.items()},
        cursor=jnp.zeros((), jnp.int32),
    )


def write(buffer: jax.Array, new: jax.Array, cursor: jax.Array) -> jax.Array:
    """buffer [B, S, ...] with new [B, T, ...] at the cursor, modulo S; a piece never wraps.

    The caller keeps pieces aligned: T divides both S and the cursor, or the cursor plus T is at
    most S, or T is 1.
    """
    zeros = (jnp.zeros((), jnp.int32),) * (buffer.ndim - 2)
    start = (jnp.zeros((), jnp.int32), jnp.remainder(cursor, buffer.shape[1]), *zeros)
    return jax.lax.dynamic_update_slice(buffer, new.astype(buffer.dtype), start)


def cache_bytes(config: GemmaConfig, batch: int, length: int, itemsize: int) -> int:
    """Memory of keys and values in bytes."""
    slots = capacities(config, length)
    per_slot = 2 * batch * config.num_kv_heads * config.head_dim * itemsize
    return sum(slots[kind] * per_slot for kind in config.layer_kinds)
