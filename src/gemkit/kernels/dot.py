"""Matrix products on the CPU, two to three times as fast as XLA's in bfloat16.

XLA:CPU converts a bfloat16 matrix to float32 before it multiplies, in memory of its own; the
kernel multiplies what lies there. Sums are float32 in every case. In float32 it is quicker than
XLA for 2 to 16 rows and as quick for more, but writes into large pages, which a whole model's
passes gain from. `benchmarks/run.py products` measures it.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from gemkit.kernels import native

FEW_ROWS = 16
"""Up to this many stream a weight from where it lies; more have it arranged in a cache first."""
LARGE = 2**16
"""Elements of a float32 weight below which many rows are left to XLA: so small a result gains
nothing from large pages, and a call takes longer to trace."""
PRODUCT = "product"
"""The name of results that rematerialisation may keep."""


def takes(x: Any, weight: Any) -> bool:
    """Whether x [..., K] and weight [N, K] are better multiplied natively on this machine.

    So is then x [..., N] with the weight [N, K], by `transposed_product`.
    """
    if x.dtype != weight.dtype or weight.ndim != 2 or not math.prod((*x.shape, *weight.shape)):
        return False
    if weight.dtype == jnp.float32:
        rows = math.prod(x.shape[:-1])
        return rows > 1 and (rows <= FEW_ROWS or weight.size >= LARGE) and available()
    return weight.dtype == jnp.bfloat16 and available()


def available() -> bool:
    """Whether this process multiplies natively."""
    # XLA would bring a matrix that is spread over several devices to each of them.
    return jax.default_backend() == "cpu" and jax.device_count() == 1 and native.loaded()


def product(x: jax.Array, weight: jax.Array, dtype: Any = None) -> jax.Array:
    """x [..., K] times weight [N, K] → [..., N] in `dtype`, by default that of x.

    float32 gives float32 only.
    """
    flat = _product(x.reshape(-1, x.shape[-1]), weight, jnp.dtype(dtype or x.dtype))
    return flat.reshape(*x.shape[:-1], weight.shape[0])


def takes_parts(x: Any, weight: Any) -> bool:
    """Whether `product_of_parts` is better than converting the weight."""
    few = 0 < math.prod(x.shape[:-1]) <= FEW_ROWS and weight.ndim == 2 and weight.size > 0
    return few and (x.dtype, weight.dtype) == (jnp.float32, jnp.bfloat16) and available()


def product_of_parts(x: jax.Array, weight: jax.Array) -> jax.Array:
    """float32 x [..., K] times a bfloat16 weight [N, K] → float32 [..., N], as exact as float32.

    x is the sum of three bfloat16 numbers, so that the weight need not become float32.
    """
    parts, rest = [], x.reshape(-1, x.shape[-1])
    for _ in range(3):
        # Else XLA would leave the rounding out.
        parts.append(jax.lax.reduce_precision(rest, 8, 7).astype(weight.dtype))
        rest = rest - parts[-1].astype(x.dtype)
    sums = product(jnp.concatenate(parts), weight, x.dtype).reshape(3, -1, weight.shape[0])
    return sums.sum(0).reshape(*x.shape[:-1], weight.shape[0])


@jax.custom_vjp
def transposed_product(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x [M, N] times weight [N, K] → [M, K]."""
    return _call(x, weight, x.dtype, transposed=True)


def _transposed_forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, Any]:
    return transposed_product(x, weight), (x, weight)


def _transposed_backward(kept: Any, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    along = _call(slope, weight, x.dtype, transposed=False)
    return along, _call(x.T, slope, weight.dtype, transposed=True)


transposed_product.defvjp(_transposed_forward, _transposed_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: jax.Array, weight: jax.Array, dtype: Any) -> jax.Array:
    return _call(x, weight, dtype, transposed=False)


def _forward(x: jax.Array, weight: jax.Array, dtype: Any) -> tuple[jax.Array, Any]:
    return checkpoint_name(_product(x, weight, dtype), PRODUCT), (x, weight)


def _backward(dtype: Any, kept: Any, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    slope = slope.astype(x.dtype)
    by_rows = _call(slope.T, x, weight.dtype, transposed=True)
    return _call(slope, weight, x.dtype, transposed=True), by_rows


_product.defvjp(_forward, _backward)


def _call(x: jax.Array, weight: jax.Array, dtype: Any, transposed: bool) -> jax.Array:
    @jax.custom_batching.custom_vmap
    def call(x: jax.Array, weight: jax.Array) -> jax.Array:
        shape = (x.shape[0], weight.shape[1 if transposed else 0])
        native = jax.ffi.ffi_call("gemkit_dot", jax.ShapeDtypeStruct(shape, dtype))
        return native(x, weight, transposed=transposed)

    @call.def_vmap
    def rule(size: int, batched: list[bool], x: jax.Array, weight: jax.Array) -> Any:
        if not batched[1]:  # more rows of the same product
            rows = call(x.reshape(-1, x.shape[-1]), weight)
            return rows.reshape(*x.shape[:2], -1), True
        if not batched[0]:
            x = jnp.broadcast_to(x, (size, *x.shape))
        return jax.lax.map(lambda pair: call(*pair), (x, weight)), True

    return call(x, weight)
