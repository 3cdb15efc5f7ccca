"""The native matrix products beside XLA's, for the shapes of the 293M model's layers."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from measure import Row, Seconds, beside, interleave, rates
from models import Size

from gemkit.kernels import dot

MANY = 512
"""Rows of a training step or a long prompt."""
REPEATS = 9


def run(size: Size) -> list[Row]:
    """Rows for one, a few and many rows of activations; none where nothing is native."""
    if not dot.available():
        return []
    wide, deep = size.config.intermediate_size, size.config.hidden_size
    return [
        _row(size, 1, (wide, deep), "bfloat16"), _row(size, 8, (wide, deep), "bfloat16"),
        _row(size, MANY, (wide, deep), "bfloat16"), _row(size, MANY, (deep, wide), "bfloat16"),
        _row(size, 8, (wide, deep), "float32"),
    ]  # fmt: skip


def _row(size: Size, count: int, shape: tuple[int, int], dtype: str) -> Row:
    # As many matrices as do not stay in a processor's cache.
    copies = max(1, min(16, 2**28 // (shape[0] * shape[1] * 4)))
    weights = [jnp.full(shape, 1 + n, dtype) for n in range(copies)]
    x = jnp.ones((count, shape[1]), dtype)
    sides = {"native": _side(dot.product, x, weights), "xla": _side(_plain, x, weights)}
    _, found = interleave(sides, size.rounds * REPEATS)
    stored = sum(weight.nbytes for weight in weights)
    many = count > dot.FEW_ROWS
    work = 2 * count * sum(weight.size for weight in weights) if many else stored
    native, xla = (rates(work / 1e9, found[name]["products"]) for name in ("native", "xla"))
    return beside(
        f"product of {count} rows with {shape[0]} x {shape[1]}, {dtype}",
        "GFLOP/s" if many else "GB/s of weights", native, xla,
        f"beside XLA's; {copies} matrices one after the other",
    )  # fmt: skip


def _plain(x: jax.Array, weight: jax.Array) -> jax.Array:
    return jax.lax.dot_general(x, weight, (((1,), (1,)), ((), ())))


def _side(
    product: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, weights: list[jax.Array]
) -> Callable[[], Seconds]:
    compiled = jax.jit(product)

    def side() -> Seconds:
        began = time.perf_counter()
        for weight in weights:
            compiled(x, weight).block_until_ready()
        return {"products": time.perf_counter() - began}

    return side
