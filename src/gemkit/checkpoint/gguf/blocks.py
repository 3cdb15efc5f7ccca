"""GGUF's tensor types: what a block of each holds, and rows of floats ↔ blocks.

The types that are written, Q8_0 and Q4_0, are compiled here, to the bits of the `gguf` library,
which takes the others apart; some rows at a time, so that a tensor needs no memory besides itself
and its result. Source: ggml's `ggml-common.h`, gguf-py `quants.py`.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from gemkit.errors import CheckpointError


class BlockType(NamedTuple):
    """How a tensor's numbers are stored.

    Attributes:
      name: as ggml writes it.
      values: numbers of a row that one block holds.
      nbytes: bytes of a block.
      dtype: numpy's name of plain numbers; "" for quantised ones.
    """

    name: str
    values: int
    nbytes: int
    dtype: str = ""


# By ggml's code.
TYPES = {
    0: BlockType("F32", 1, 4, "float32"),
    1: BlockType("F16", 1, 2, "float16"),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    30: BlockType("BF16", 1, 2, "bfloat16"),
}
CODES = {kind.name: code for code, kind in TYPES.items()}

# A block's scale is a float16: the number of the largest magnitude divided by this.
_STEPS = {"Q8_0": np.float32(127), "Q4_0": np.float32(-8)}

# Numbers taken apart or put together at once: by the library, which makes many copies, and here.
_CHUNK = 2**18
_COMPILED = 2**20

_ALIGNMENT = 64  # bytes; what XLA asks of an array that it does not copy


def dtype_of(kind: BlockType) -> np.dtype[Any]:
    """numpy's dtype of what `decode` gives."""
    return np.dtype(ml_dtypes.bfloat16 if kind.dtype == "bfloat16" else kind.dtype or "float32")


def decode(raw: np.ndarray, kind: BlockType, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a tensor.

    Args:
      raw: its bytes, uint8 [n].
      kind: its type.
      shape: rows last, as numpy has it.

    Returns:
      A view of `raw` for plain numbers, else float32.
    """
    if kind.dtype:
        return raw.view(dtype_of(kind)).reshape(shape)
    blocks, out = raw.reshape(-1, kind.nbytes), _aligned(shape)
    flat = out.reshape(-1, kind.values)
    if kind.name in _DECODERS:

        def fill(part: slice) -> None:
            chunk = blocks[part]
            found = _DECODERS[kind.name](_padded(chunk, kind))
            flat[part] = np.asarray(found)[: len(chunk)]

        _by_parts(fill, len(blocks), _COMPILED // kind.values)
        return out
    from gguf import GGMLQuantizationType, quants

    code = GGMLQuantizationType[kind.name]

    def fill_by_library(part: slice) -> None:
        # A damaged scale is infinite or no number; then so are the values.
        with np.errstate(all="ignore"):
            # In one row: the library would take only a few at a time.
            flat[part] = quants.dequantize(blocks[part].reshape(1, -1), code).reshape(
                -1, kind.values
            )

    _by_parts(fill_by_library, len(blocks), _CHUNK // kind.values)
    return out


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float32 array that starts where JAX can take it as it is."""
    count = math.prod(shape)
    room = np.empty(4 * count + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + 4 * count].view(np.float32).reshape(shape)


def encode(values: np.ndarray, kind: BlockType) -> np.ndarray:
    """The bytes of a tensor of this type, uint8 [n]; the inverse of `decode`.

    Raises:
        CheckpointError: a number is none, or too large for a block's scale.
    """
    if kind.dtype:
        with np.errstate(over="ignore"):
            plain = np.ascontiguousarray(values.astype(dtype_of(kind), copy=False))
        return plain.reshape(-1).view(np.uint8)
    rows = np.ascontiguousarray(values).reshape(-1, kind.values)
    out, step = np.empty((len(rows), kind.nbytes), np.uint8), _STEPS[kind.name]
    limit = np.float32(abs(step)) * np.finfo(np.float16).max

    def fill(part: slice) -> None:
        count = part.stop - part.start
        padded = _padded(rows[part], kind)
        extremes = np.asarray(_EXTREMES[kind.name](padded))
        # A comparison that also fails for what is not a number.
        if not np.abs(extremes).max() <= limit:
            chunk = rows[part].astype(np.float32)
            raise CheckpointError(
                f"a weight is {chunk.flat[np.abs(chunk).argmax()]}",
                f"numbers up to {limit:g}, the largest that {kind.name} holds",
                "store it as float32",
            )  # fmt: skip
        # XLA would make one division of the two.
        scales = extremes / step
        inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
        numbers = np.asarray(_NUMBERS[kind.name](padded, inverse))
        out[part, :2] = scales[:count].astype(np.float16).view(np.uint8)
        out[part, 2:] = numbers[:count]

    _by_parts(fill, len(rows), _COMPILED // kind.values)
    return out.reshape(-1)


def _padded(rows: np.ndarray, kind: BlockType) -> np.ndarray:
    """As many rows as always, so that one program is compiled."""
    missing = _COMPILED // kind.values - len(rows)
    return np.pad(rows, ((0, missing), (0, 0))) if missing else rows


@jax.jit
def _magnitude(rows: jax.Array) -> jax.Array:
    sizes = jnp.abs(rows.astype(jnp.float32))
    # XLA:CPU's maximum of many numbers passes over what is not one.
    return jnp.max(jnp.where(jnp.isnan(sizes), jnp.inf, sizes), axis=1, keepdims=True)


@jax.jit
def _extreme(rows: jax.Array) -> jax.Array:
    """The number of the largest magnitude, with its sign; the first of several."""
    place = jnp.argmax(jnp.abs(rows.astype(jnp.float32)), axis=1, keepdims=True)
    return jnp.take_along_axis(rows, place, axis=1).astype(jnp.float32)


@jax.jit
def _eight_bits(rows: jax.Array, inverse: jax.Array) -> jax.Array:
    numbers = jax.lax.round(rows.astype(jnp.float32) * inverse).astype(jnp.int8)
    return jax.lax.bitcast_convert_type(numbers, jnp.uint8)


@jax.jit
def _four_bits(rows: jax.Array, inverse: jax.Array) -> jax.Array:
    # The maximum changes nothing; without it LLVM multiplies and adds with a single rounding.
    shifted = jnp.maximum(rows.astype(jnp.float32) * inverse, -9) + 8.5
    numbers = jnp.clip(jnp.trunc(shifted), 0, 15).astype(jnp.uint8)
    half = rows.shape[1] // 2
    return numbers[:, :half] | (numbers[:, half:] << 4)


@jax.jit
def _of_eight_bits(blocks: jax.Array) -> jax.Array:
    numbers = jax.lax.bitcast_convert_type(blocks[:, 2:], jnp.int8)
    return _scales(blocks) * numbers.astype(jnp.float32)


@jax.jit
def _of_four_bits(blocks: jax.Array) -> jax.Array:
    packed = blocks[:, 2:]
    numbers = jnp.concatenate([packed & 15, packed >> 4], axis=1).astype(jnp.float32) - 8
    return _scales(blocks) * numbers


def _scales(blocks: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(blocks[:, :2], jnp.float16).astype(jnp.float32)[:, None]


_EXTREMES = {"Q8_0": _magnitude, "Q4_0": _extreme}
_NUMBERS = {"Q8_0": _eight_bits, "Q4_0": _four_bits}
_DECODERS = {"Q8_0": _of_eight_bits, "Q4_0": _of_four_bits}


def _by_parts(fill: Callable[[slice], None], count: int, step: int) -> None:
    """Calls `fill` for all blocks, up to `step` of them at a time, parts side by side."""
    parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, parts):
            pass
