"""The leaf types a weight can have and the one contraction that accepts any of them.

The model's functions call `linear` and `embed` and never ask what kind of weight they hold.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp


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


def linear(x: jax.Array, weight: Any) -> jax.Array:
    """x [..., in] times weight [out, in] → [..., out], in the dtype of x."""
    if isinstance(weight, LoraWeight):
        out = linear(x, weight.base) + _update(x, weight)
        if weight.row_scale is None:
            return out
        return (out.astype(jnp.float32) * weight.row_scale).astype(x.dtype)
    if weight.dtype == jnp.bfloat16 and math.prod(x.shape[:-1]) == 1:
        return jax.lax.platform_dependent(x, weight, cpu=_matvec, default=_dot)
    return _dot(x, weight)


def _dot(x: jax.Array, weight: jax.Array) -> jax.Array:
    axes = (((x.ndim - 1,), (1,)), ((), ()))
    return jax.lax.dot_general(x, weight.astype(x.dtype), axes)


def _matvec(x: jax.Array, weight: jax.Array) -> jax.Array:
    # XLA:CPU converts and writes back a bf16 matrix before a matvec (1.6 GB/s); a fused
    # multiply and sum streams it (14-17 GB/s).
    products = weight.astype(jnp.float32) * x.reshape(1, -1).astype(jnp.float32)
    return products.sum(-1).astype(x.dtype).reshape(*x.shape[:-1], weight.shape[0])


def _update(x: jax.Array, weight: LoraWeight) -> jax.Array:
    if weight.dropout_key is not None and weight.dropout > 0:
        keep = jax.random.bernoulli(weight.dropout_key, 1 - weight.dropout, x.shape)
        x = jnp.where(keep, x / jnp.asarray(1 - weight.dropout, x.dtype), jnp.zeros_like(x))
    # Flat rows: over two leading axes the gradient of b copies transposed activations.
    low = _dot(x.reshape(-1, x.shape[-1]), weight.a)
    high = jax.lax.dot_general(low, weight.b.astype(x.dtype), (((1,), (0,)), ((), ())))
    return (high * jnp.asarray(weight.scale, x.dtype)).reshape(*x.shape[:-1], high.shape[-1])


def merged(weight: Any) -> jax.Array:
    """The plain matrix [out, in] a leaf stands for; sums in float32, returns the base's dtype."""
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
    if not isinstance(weight, LoraWeight):
        return jnp.square(weight.astype(jnp.float32)).sum(-1)
    a, b, scale = weight.a.astype(jnp.float32), weight.b.astype(jnp.float32), weight.scale
    cross = linear(weight.a.astype(_dtype(weight)), weight.base).astype(jnp.float32)
    added = (b * (2 * scale * cross + scale**2 * ((a @ a.T) @ b))).sum(0)
    squares = _row_squares(weight.base) + added
    return squares if weight.row_scale is None else squares * jnp.square(weight.row_scale)


def _dtype(weight: Any) -> Any:
    return _dtype(weight.base) if isinstance(weight, LoraWeight) else weight.dtype
