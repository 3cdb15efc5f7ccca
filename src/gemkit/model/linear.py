"""The leaf types a weight can have and the contractions that accept any of them.

The model's functions call `linear`, `lookup` and `tied_logits` and never ask what kind of weight
they hold.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from gemkit.kernels.dot import product, product_of_parts, takes, takes_parts, transposed_product

_BLOCK_ELEMENTS = 2**25
"""Of a large table restored or converted at once: 64 MiB in bfloat16, 128 in float32."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LoraWeight:
    """A matrix with a low-rank update: W + scale * (a.T @ b).T (Hu et al. 2021, arXiv:2106.09685).

    With `row_scale` every row of that sum is multiplied by its factor, which makes it DoRA (Liu
    et al. 2024, arXiv:2402.09353): the factor is the row's trained magnitude over its norm.

    Attributes:
      base: [out, in], any leaf type, usually frozen.
      a: [R, in].
      b: [R, out]; files say (out, R), but XLA:CPU forms the gradient of a tall thin matrix fifty
        times slower than that of a flat one.
      scale: alpha / R.
      dropout: share of the inputs of `a` set to zero while training.
      dropout_key: key of this step's dropout; None outside training.
      row_scale: [out], None for plain LoRA.
    """

    base: Any
    a: jax.Array
    b: jax.Array
    scale: float = dataclasses.field(metadata={"static": True})
    dropout: float = dataclasses.field(default=0.0, metadata={"static": True})
    dropout_key: jax.Array | None = None
    row_scale: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QuantizedWeight:
    """A frozen matrix [out, in] of small integers and the factors that undo the rounding.

    Attributes:
      values: int8 [out, in]; or uint8 [out, in / 2] of two 4-bit numbers, each 8 too large: a
        group of 32 along the input has its first 16 in the low halves of its 16 bytes.
      scales: [out, groups], one group a row for 8 bits.
      bits: 8 or 4.
      dtype: of the matrix it stands for, and of the activations it gives.
    """

    values: jax.Array
    scales: jax.Array
    bits: int = dataclasses.field(metadata={"static": True})
    dtype: Any = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the matrix it stands for."""
        return self.values.shape[0], self.values.shape[1] * (8 // self.bits)

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def size(self) -> int:
        """Number of elements of the matrix it stands for."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.values.nbytes + self.scales.nbytes


def restored(weight: QuantizedWeight, dtype: Any = None) -> jax.Array:
    """The matrix [..., out, in] that quantised values stand for."""
    dtype = weight.dtype if dtype is None else dtype
    values, scales = weight.values, weight.scales
    if weight.bits == 8:
        return (values.astype(jnp.float32) * scales.astype(jnp.float32)).astype(dtype)
    pairs = values.reshape(*scales.shape, -1)
    halves = [(pairs & 15).astype(jnp.int8), (pairs >> 4).astype(jnp.int8)]
    numbers = (jnp.concatenate(halves, axis=-1) - 8).astype(jnp.float32)
    matrix = numbers * scales.astype(jnp.float32)[..., None]
    return matrix.reshape(*values.shape[:-1], -1).astype(dtype)


def linear(x: jax.Array, weight: Any) -> jax.Array:
    """x [..., in] times weight [out, in] → [..., out], in the dtype of x."""
    if isinstance(weight, LoraWeight):
        out = linear(x, weight.base) + _update(x, weight)
        if weight.row_scale is None:
            return out
        return (out.astype(jnp.float32) * weight.row_scale).astype(x.dtype)
    single = math.prod(x.shape[:-1]) == 1
    if isinstance(weight, QuantizedWeight):
        if single:
            return jax.lax.platform_dependent(x, weight, cpu=_matvec, default=_quantized_dot)
        return _quantized_dot(x, weight)
    if takes(x, weight):
        return product(x, weight)
    if takes_parts(x, weight):
        return product_of_parts(x, weight)
    if weight.dtype == jnp.bfloat16 and single:
        return jax.lax.platform_dependent(x, weight, cpu=_matvec, default=_xla_dot)
    return _xla_dot(x, weight)


def _dot(x: jax.Array, weight: jax.Array) -> jax.Array:
    weight = weight.astype(x.dtype)
    return product(x, weight) if takes(x, weight) else _xla_dot(x, weight)


def _xla_dot(x: jax.Array, weight: jax.Array) -> jax.Array:
    return jax.lax.dot_general(x, weight.astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())))


def _quantized_dot(x: jax.Array, weight: QuantizedWeight) -> jax.Array:
    if weight.bits == 8:
        return _dot(x, weight.values) * weight.scales[:, 0].astype(x.dtype)
    return _dot(x, restored(weight, x.dtype))


def _matvec(x: jax.Array, weight: Any) -> jax.Array:
    # XLA:CPU converts and writes back a bf16 matrix before a matvec (1.6 GB/s); a fused
    # multiply and sum streams it (14-17 GB/s).
    quantized = isinstance(weight, QuantizedWeight)
    matrix = restored(weight, jnp.float32) if quantized else weight.astype(jnp.float32)
    products = matrix * x.reshape(1, -1).astype(jnp.float32)
    return products.sum(-1).astype(x.dtype).reshape(*x.shape[:-1], weight.shape[0])


def _update(x: jax.Array, weight: LoraWeight) -> jax.Array:
    if weight.dropout_key is not None and weight.dropout > 0:
        keep = jax.random.bernoulli(weight.dropout_key, 1 - weight.dropout, x.shape)
        x = jnp.where(keep, x / jnp.asarray(1 - weight.dropout, x.dtype), jnp.zeros_like(x))
    # Flat rows: over two leading axes the gradient of b copies transposed activations.
    low = _dot(x.reshape(-1, x.shape[-1]), weight.a)
    high = jax.lax.dot_general(low, weight.b.astype(x.dtype), (((1,), (0,)), ((), ())))
    return (high * jnp.asarray(weight.scale, x.dtype)).reshape(*x.shape[:-1], high.shape[-1])


def lookup(table: Any, tokens: jax.Array) -> jax.Array:
    """Rows [..., D] of a table [V, D]; ids beyond it take its last row."""
    if isinstance(table, QuantizedWeight):
        values, scales = (
            jnp.take(part, tokens, axis=0, mode="clip") for part in (table.values, table.scales)
        )
        return restored(dataclasses.replace(table, values=values, scales=scales))
    return jnp.take(table, tokens, axis=0, mode="clip")


def tied_logits(states: jax.Array, table: Any) -> jax.Array:
    """States [..., D] times the transposed table [V, D] → float32 [..., V]."""
    if isinstance(table, QuantizedWeight):
        if math.prod(states.shape[:-1]) == 1:
            return jax.lax.platform_dependent(
                states, table, cpu=_single_logits, default=_logits_by_blocks
            )
        return _logits_by_blocks(states, table)
    if takes(states, table):
        return product(states, table, jnp.float32)
    if takes_parts(states, table):
        return product_of_parts(states, table)
    # For a single row XLA:CPU streams the table only in this form: 26 ms instead of 446 for a
    # 256k table in bfloat16. For several rows it is the slower one.
    if states.ndim == 2 and states.shape[0] == 1:
        return jnp.matmul(states, table.T, preferred_element_type=jnp.float32)
    if _is_converted(table):
        return jax.lax.platform_dependent(states, table, cpu=_logits_by_blocks, default=_logits)
    return _logits(states, table)


def _single_logits(states: jax.Array, table: Any) -> jax.Array:
    return _matvec(states.astype(jnp.float32), table)


def _logits(states: jax.Array, rows: Any) -> jax.Array:
    return _float32_dot(states, rows, (((states.ndim - 1,), (1,)), ((), ())))


def _logits_by_blocks(states: jax.Array, table: Any) -> jax.Array:
    found = jax.lax.map(lambda rows: _logits(states, rows), _blocks(table))
    return jnp.moveaxis(found, 0, -2).reshape(*states.shape[:-1], -1)


def untied(slopes: jax.Array, table: Any) -> jax.Array:
    """Slopes [M, V] of logits times a frozen table [V, D]: those of the states [M, D]."""
    if isinstance(table, QuantizedWeight):
        return _untied_by_blocks(slopes, table)
    if takes(slopes, table):
        return transposed_product(slopes, table)
    if _is_converted(table):
        return jax.lax.platform_dependent(slopes, table, cpu=_untied_by_blocks, default=_untied)
    return _untied(slopes, table)


def _untied(slopes: jax.Array, table: jax.Array) -> jax.Array:
    # The same product as slopes @ table, in the order XLA:CPU computes a third quicker.
    return jax.lax.dot_general(table, slopes, (((0,), (1,)), ((), ()))).T


def _untied_by_blocks(slopes: jax.Array, table: Any) -> jax.Array:
    blocks = _blocks(table)
    count, rows = jax.tree.leaves(blocks)[0].shape[:2]

    def add(total: jax.Array, item: tuple[jax.Array, Any]) -> tuple[jax.Array, None]:
        index, block = item
        part = jax.lax.dynamic_slice_in_dim(slopes, index * rows, rows, 1)
        return total + _float32_dot(part, block, (((1,), (0,)), ((), ()))), None

    nothing = jnp.zeros((slopes.shape[0], table.shape[1]), jnp.float32)
    numbers = jnp.arange(count, dtype=jnp.int32)
    return jax.lax.scan(add, nothing, (numbers, blocks))[0].astype(slopes.dtype)


def _is_converted(table: jax.Array) -> bool:
    """Whether XLA:CPU, which computes in float32, would make a large copy of the table."""
    return table.dtype == jnp.bfloat16 and table.size > _BLOCK_ELEMENTS


def _float32_dot(x: jax.Array, table: Any, axes: Any) -> jax.Array:
    matrix = restored(table, x.dtype) if isinstance(table, QuantizedWeight) else table
    return jax.lax.dot_general(x, matrix, axes, preferred_element_type=jnp.float32)


def _blocks(table: Any) -> Any:
    """The table cut into equal blocks of rows [count, V / count, …]: one is restored at a time.

    The whole of a 256k table would take twice the memory that quantising it saves, and as much
    again as bfloat16 does.
    """
    rows, width = table.shape
    most = max(1, _BLOCK_ELEMENTS // width)
    count = next(n for n in range(-(-rows // most), rows + 1) if rows % n == 0)
    return jax.tree.map(lambda part: part.reshape(count, rows // count, -1), table)


def merged(weight: Any) -> jax.Array:
    """The plain matrix [out, in] a leaf stands for; sums in float32, returns the base's dtype."""
    if isinstance(weight, QuantizedWeight):
        return restored(weight)
    if not isinstance(weight, LoraWeight):
        return weight
    base = merged(weight.base)
    update = weight.b.astype(jnp.float32).T @ weight.a.astype(jnp.float32)
    total = base.astype(jnp.float32) + weight.scale * update
    if weight.row_scale is not None:
        total = total * weight.row_scale[:, None]
    return total.astype(base.dtype)


@jax.jit
def row_norms(weight: Any) -> jax.Array:
    """Float32 Euclidean norms [out] of the rows of the matrix [out, in] a leaf stands for.

    A sum W + s B A is never formed: |w + s A'b|^2 = |w|^2 + 2 s (A w)'b + s^2 b'(A A')b for a row
    w with the column b of the stored `b`.
    """
    # A row of zeros has no direction; this keeps its quotient finite.
    return jnp.sqrt(jnp.maximum(_row_squares(weight), 1e-30))


def _row_squares(weight: Any) -> jax.Array:
    if isinstance(weight, QuantizedWeight):
        weight = restored(weight, jnp.float32)
    if not isinstance(weight, LoraWeight):
        return jnp.square(weight.astype(jnp.float32)).sum(-1)
    a, b, scale = weight.a.astype(jnp.float32), weight.b.astype(jnp.float32), weight.scale
    cross = linear(weight.a.astype(_dtype(weight)), weight.base).astype(jnp.float32)
    added = (b * (2 * scale * cross + scale**2 * ((a @ a.T) @ b))).sum(0)
    squares = _row_squares(weight.base) + added
    return squares if weight.row_scale is None else squares * jnp.square(weight.row_scale)


def _dtype(weight: Any) -> Any:
    return _dtype(weight.base) if isinstance(weight, LoraWeight) else weight.dtype
