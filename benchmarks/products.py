"""The native products and cross-entropy beside XLA's, for the shapes of the 293M model."""

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from measure import Row, Seconds, beside, interleave, rates
from models import DTYPES, Size, head_flops, weights

from gemkit.kernels import dot
from gemkit.train import loss

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
        _row(size, 8, (wide, deep), "float32"), _row(size, MANY, (wide, deep), "float32"),
        _row(size, MANY, (deep, wide), "float32"),
        *(_loss_row(size, dtype) for dtype in DTYPES),
    ]  # fmt: skip


def _row(size: Size, count: int, shape: tuple[int, int], dtype: str) -> Row:
    # As many matrices as do not stay in a processor's cache.
    copies = max(1, min(16, 2**28 // (shape[0] * shape[1] * 4)))
    matrices = [jnp.full(shape, 1 + n, dtype) for n in range(copies)]
    x = jnp.ones((count, shape[1]), dtype)
    sides = {"native": _side(dot.product, x, matrices), "xla": _side(_plain, x, matrices)}
    _, found = interleave(sides, size.rounds * REPEATS)
    stored = sum(weight.nbytes for weight in matrices)
    many = count > dot.FEW_ROWS
    work = 2 * count * sum(weight.size for weight in matrices) if many else stored
    native, xla = (rates(work / 1e9, found[name]["products"]) for name in ("native", "xla"))
    return beside(
        f"product of {count} rows with {shape[0]} x {shape[1]}, {dtype}",
        "GFLOP/s" if many else "GB/s of weights", native, xla,
        f"beside XLA's; {copies} matrices one after the other",
    )  # fmt: skip


def _loss_row(size: Size, dtype: str) -> Row:
    """The loss and its gradient by the states; the other side has native products at most."""
    table = weights(size, dtype)["embed"]
    states = jax.random.normal(jax.random.key(0), (MANY, size.config.hidden_size), dtype)
    targets, ones = jnp.arange(MANY, dtype=jnp.int32), jnp.ones(MANY)

    def side(natively: bool) -> Callable[[], Seconds]:
        @jax.jit
        @jax.value_and_grad
        def total(states: jax.Array, table: jax.Array) -> jax.Array:
            given = table, size.config, states, targets, ones
            return loss.cross_entropy(*given, frozen_head=True).loss

        with mock.patch.object(loss, "takes", loss.takes if natively else lambda *_: False):
            # Else JAX would give the second side what it has traced for the first.
            jax.clear_caches()
            return _timed(total.lower(states, table).compile(), states, table)

    sides = {"parts": side(natively=False), "native": side(natively=True)}
    _, found = interleave(sides, size.rounds * 3)
    work = 2 * MANY * head_flops(size.config) / 1e9
    native, parts = (rates(work, found[name]["products"]) for name in ("native", "parts"))
    return beside(
        f"loss of {MANY} positions and its gradient, {dtype}", "GFLOP/s", native, parts,
        "beside product, softmax and product one after the other, in chunks",
    )  # fmt: skip


def _timed(function: Callable[..., Any], *given: Any) -> Callable[[], Seconds]:
    def side() -> Seconds:
        began = time.perf_counter()
        jax.block_until_ready(function(*given))
        return {"products": time.perf_counter() - began}

    return side


def _plain(x: jax.Array, weight: jax.Array) -> jax.Array:
    return jax.lax.dot_general(x, weight, (((1,), (1,)), ((), ())))


def _side(
    product: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, matrices: list[jax.Array]
) -> Callable[[], Seconds]:
    compiled = jax.jit(product)

    def side() -> Seconds:
        began = time.perf_counter()
        for weight in matrices:
            compiled(x, weight).block_until_ready()
        return {"products": time.perf_counter() - began}

    return side
