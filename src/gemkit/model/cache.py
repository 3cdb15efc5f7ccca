"""The key/value cache: full buffers for global layers, rings for windowed ones.

Every row has its own length; the token at position p of a row lies in slot p modulo S. Which
position a slot holds therefore follows from the length alone, and a row is rewound by making its
length smaller: what lies beyond it is never seen. That holds for rings too, because they have
room for a window and a piece, so that even a rejected piece leaves a whole window behind.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from gemkit.model.config import GemmaConfig, LayerKind

PIECE = 512
"""Most tokens of a row written at once; rings have room for a window and a piece."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantised:
    """Vectors of 8-bit integers, each with its own scale: the largest component becomes 127.

    Attributes:
      values: [B, S, K, H] int8.
      scales: [B, S, K] float32.
    """

    values: jax.Array
    scales: jax.Array


Buffer = jax.Array | Quantised


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of B sequences; every leaf has the rows on its first axis.

    Attributes:
      keys, values: per layer [B, S, K, H]; S is the capacity of the layer's kind.
      lengths: [B] int32, tokens of each row that are held; NumPy's where the host sets them.
    """

    keys: list[Buffer]
    values: list[Buffer]
    lengths: Any


def capacities(config: GemmaConfig, length: int) -> dict[LayerKind, int]:
    """Slots for each kind of layer that the model has, for sequences of up to `length` tokens."""
    slots: dict[LayerKind, int] = {}
    for kind in config.layer_kinds:
        window = config.window(kind)
        ring = length if window is None else -(-(window + PIECE) // PIECE) * PIECE
        slots[kind] = min(length, ring)
    return slots


BITS = jnp.dtype(jnp.uint16)
"""How bfloat16 is kept: as floats XLA:CPU would convert a whole buffer, and back, at each write."""


def init_cache(config: GemmaConfig, batch: int, length: int, dtype: Any) -> KVCache:
    """An empty cache for `batch` rows of up to `length` tokens; dtype int8 quantises."""
    slots = capacities(config, length)

    def empty(kind: LayerKind) -> Buffer:
        shape = (batch, slots[kind], config.num_kv_heads, config.head_dim)
        if jnp.dtype(dtype) == jnp.int8:
            return Quantised(jnp.zeros(shape, jnp.int8), jnp.zeros(shape[:3], jnp.float32))
        return jnp.zeros(shape, BITS if jnp.dtype(dtype) == jnp.bfloat16 else dtype)

    return KVCache(
        keys=[empty(kind) for kind in config.layer_kinds],
        values=[empty(kind) for kind in config.layer_kinds],
        lengths=jnp.zeros((batch,), jnp.int32),
    )


def capacity(buffer: Buffer) -> int:
    """S, the slots of a row."""
    return (buffer.values if isinstance(buffer, Quantised) else buffer).shape[1]


def held_positions(lengths: jax.Array, slots: int) -> jax.Array:
    """The position each slot holds in rows of these lengths: [B, S], negative if empty.

    >>> held_positions(jnp.asarray([2, 5]), 4).tolist()
    [[0, 1, -2, -1], [4, 1, 2, 3]]
    """
    newest = lengths[:, None] - 1
    return newest - jnp.remainder(newest - jnp.arange(slots, dtype=jnp.int32), slots)


def slots_after(lengths: jax.Array, counts: jax.Array, columns: int, slots: int) -> jax.Array:
    """Where `columns` more tokens of each row go: [B, T]; S, which is nowhere, from `counts` on."""
    column = jnp.arange(columns, dtype=jnp.int32)
    place = jnp.remainder(lengths[:, None] + column, slots)
    return jnp.where(column < counts[:, None], place, slots)


def write(buffer: Buffer, new: jax.Array, places: jax.Array) -> Buffer:
    """buffer [B, S, K, H] with new [B, T, K, H] in the slots `places` [B, T]; S is nowhere."""
    if isinstance(buffer, Quantised):
        packed = quantise(new)
        return Quantised(
            _scatter(buffer.values, packed.values, places),
            _scatter(buffer.scales, packed.scales, places),
        )
    if buffer.dtype == BITS:
        new = jax.lax.bitcast_convert_type(new.astype(jnp.bfloat16), BITS)
    return _scatter(buffer, new.astype(buffer.dtype), places)


def vectors(buffer: jax.Array) -> jax.Array:
    """What a buffer that is not quantised holds, as floats."""
    return jax.lax.bitcast_convert_type(buffer, jnp.bfloat16) if buffer.dtype == BITS else buffer


def _scatter(buffer: jax.Array, new: jax.Array, places: jax.Array) -> jax.Array:
    rows = jnp.arange(buffer.shape[0], dtype=jnp.int32)[:, None]
    return buffer.at[rows, places].set(new, mode="drop")


def quantise(x: jax.Array) -> Quantised:
    """x [..., H] to 8 bits; the error is at most 1/254 of a vector's largest component."""
    x = x.astype(jnp.float32)
    scales = jnp.abs(x).max(-1) / 127
    steps = x / jnp.where(scales > 0, scales, 1.0)[..., None]
    return Quantised(jnp.round(steps).astype(jnp.int8), scales)


def take_rows(cache: KVCache, rows: jax.Array) -> KVCache:
    """A cache of these rows [R]; a number that is no row gives some row."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=0, mode="clip"), cache)


def put_rows(cache: KVCache, rows: jax.Array, part: KVCache) -> KVCache:
    """The cache with these rows [R] replaced; a number that is no row is left out."""
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new, mode="drop"), cache, part)


def grown(cache: KVCache, config: GemmaConfig, batch: int, length: int) -> KVCache:
    """The cache with room for more rows, longer ones, or both.

    No token moves: a ring that is smaller than its final size has not wrapped around yet.
    """
    buffers = (cache.keys, cache.values, cache.lengths)
    dtype = jnp.int8 if isinstance(cache.keys[0], Quantised) else cache.keys[0].dtype
    wanted = jax.eval_shape(lambda: init_cache(config, batch, length, dtype))

    def pad(leaf: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.pad(leaf, [(0, b - a) for a, b in zip(leaf.shape, shape.shape, strict=True)])

    return KVCache(*jax.tree.map(pad, buffers, (wanted.keys, wanted.values, wanted.lengths)))


def read_block(cache: KVCache, row: jax.Array, start: jax.Array, size: int) -> list[Any]:
    """Keys and values of `size` tokens of a row from position `start`, in every layer."""
    places = start + jnp.arange(size, dtype=jnp.int32)
    buffers = [cache.keys, cache.values]
    return jax.tree.map(lambda leaf: leaf[row, jnp.remainder(places, leaf.shape[1])], buffers)


def write_block(cache: KVCache, row: jax.Array, start: jax.Array, block: list[Any]) -> KVCache:
    """Undoes `read_block`; the row's length becomes the block's end.

    The start is a multiple of the block's size, which divides the capacities or exceeds none.
    """

    def put(leaf: jax.Array, new: jax.Array) -> jax.Array:
        zeros = (jnp.zeros((), jnp.int32),) * (leaf.ndim - 2)
        place = (row, jnp.remainder(start, leaf.shape[1]), *zeros)
        return jax.lax.dynamic_update_slice(leaf, new[None], place)

    keys, values = jax.tree.map(put, [cache.keys, cache.values], block)
    size = jax.tree.leaves(block)[0].shape[0]
    return KVCache(keys, values, cache.lengths.at[row].set(start + size))


def cache_bytes(config: GemmaConfig, batch: int, length: int, itemsize: int) -> int:
    """Memory of keys and values in bytes; an itemsize of 1 counts the scales too."""
    slots = capacities(config, length)
    vector = config.head_dim * itemsize + (4 if itemsize == 1 else 0)
    per_slot = 2 * batch * config.num_kv_heads * vector
    return sum(slots[kind] * per_slot for kind in config.layer_kinds)
