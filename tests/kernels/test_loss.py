"""The native cross-entropy against the formula in float64, row by row."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.kernels import loss, native

pytestmark = pytest.mark.skipif(
    native.reason_against() is not None, reason=str(native.reason_against())
)
# [M, V, D]: less than a tile, odd in every direction, several blocks, more rows than a task holds.
SHAPES = ((1, 7, 5), (13, 300, 48), (40, 1000, 97), (130, 129, 64), (1100, 260, 16))
DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    assert native.loaded()


def drawn(shape: tuple[int, int, int], dtype: Any) -> tuple[jax.Array, ...]:
    """States, table, targets, weights: some weights are 0, some 2."""
    count, vocabulary, width = shape
    draw = np.random.default_rng(count)
    states, table = draw.normal(size=(count, width)), draw.normal(size=(vocabulary, width))
    targets, weights = draw.integers(0, vocabulary, count), draw.integers(0, 3, count)
    weights[0] = 1
    return (
        jnp.asarray(states, dtype), jnp.asarray(table, dtype), jnp.asarray(targets, jnp.int32),
        jnp.asarray(weights, jnp.float32),
    )  # fmt: skip


def exact(
    states: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array, cap: float | None
) -> tuple[np.ndarray, ...]:
    x, rows, picked = np.asarray(states, np.float64), np.asarray(table, np.float64), targets
    logits = x @ rows.T
    factor = np.ones_like(logits)
    if cap is not None:
        bent = np.tanh(logits / cap)
        logits, factor = cap * bent, 1 - bent**2
    top = logits.max(1, keepdims=True)
    shares = np.exp(logits - top)
    total = shares.sum(1, keepdims=True)
    line = np.arange(len(x))
    found = (top + np.log(total))[:, 0] - logits[line, picked]
    slopes = shares / total
    slopes[line, picked] -= 1
    on = np.asarray(weights, np.float64)
    right = logits[line, picked] >= top[:, 0]
    return found * (on > 0), right * (on > 0), (on[:, None] * slopes * factor) @ rows


@DTYPES
@pytest.mark.parametrize("cap", [None, 20.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_slopes(shape: tuple[int, int, int], cap: float | None, dtype: Any) -> None:
    given = drawn(shape, dtype)
    found = loss.losses(*given, cap, slopes=True)
    wanted = exact(*given, cap)
    assert [part.dtype for part in found] == [jnp.float32, jnp.float32, dtype]
    np.testing.assert_allclose(found[0], wanted[0], rtol=3e-6, atol=1e-5)
    np.testing.assert_array_equal(found[1], wanted[1])
    # bfloat16 rounds the shares before they are multiplied, and the result.
    room = 1e-5 if dtype == jnp.float32 else 2.0**-7
    np.testing.assert_allclose(np.asarray(found[2], np.float64), wanted[2], rtol=room, atol=room)


@DTYPES
def test_without_slopes_the_same_losses(dtype: Any) -> None:
    given = drawn(SHAPES[2], dtype)
    both, alone = (loss.losses(*given, 3.0, slopes=slopes) for slopes in (True, False))
    assert alone[2].shape == (0, SHAPES[2][2])
    for a, b in zip(both[:2], alone[:2], strict=True):
        np.testing.assert_array_equal(a, b)


@DTYPES
def test_a_row_does_not_depend_on_the_others(dtype: Any) -> None:
    states, table, targets, weights = drawn(SHAPES[3], dtype)
    weights = weights + 1
    whole = loss.losses(states, table, targets, weights, None, slopes=True)
    for rows in (slice(0, 1), slice(5, 22), slice(60, 130)):
        part = loss.losses(states[rows], table, targets[rows], weights[rows], None, slopes=True)
        for a, b in zip(whole, part, strict=True):
            np.testing.assert_array_equal(a[rows], b)


def test_a_maximum_that_rises_to_the_end_and_logits_beyond_the_exponential() -> None:
    """Every block begins anew under a larger maximum; the smallest shares vanish."""
    height = np.linspace(-300, 300, 700)
    table = jnp.asarray(np.stack([height, np.ones(700)], 1), jnp.float32)
    states = jnp.asarray(np.outer(np.linspace(0.01, 2, 20), [1, 0]), jnp.float32)
    given = states, table, jnp.full(20, 698, jnp.int32), jnp.ones(20)
    found, wanted = loss.losses(*given, None, slopes=True), exact(*given, None)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(found[2], wanted[2], rtol=1e-4, atol=3e-4)
    falling = states, table[::-1], jnp.full(20, 1, jnp.int32), jnp.ones(20)
    for a, b in zip(found, loss.losses(*falling, None, slopes=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_what_is_no_number_is_said_in_its_row_only() -> None:
    states, table, targets, weights = drawn(SHAPES[2], jnp.float32)
    weights = weights.at[:3].set(jnp.asarray([1.0, 1.0, 0.0]))
    damaged = states.at[jnp.asarray([1, 2])].set(jnp.nan)
    for cap in (None, 2.0):
        found = loss.losses(damaged, table, targets, weights, cap, slopes=True)
        assert np.flatnonzero(np.isnan(found[0])).tolist() == [1]
        assert np.flatnonzero(np.isnan(found[2]).any(1)).tolist() == [1]


def test_mapped_over_a_leading_axis() -> None:
    given = drawn((36, 90, 12), jnp.float32)
    states, _, targets, weights = (part.reshape(2, 18, *part.shape[1:]) for part in
                                   (given[0], given[0], given[2], given[3]))  # fmt: skip
    found = jax.vmap(
        lambda x, t, w: loss.losses(x, given[1], t, w, None, slopes=True)
    )(states, targets, weights)  # fmt: skip
    whole = loss.losses(*given, None, slopes=True)
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_array_equal(a.reshape(b.shape), b)


def test_what_it_takes() -> None:
    table = jnp.zeros((50, 8))
    assert loss.takes(jnp.zeros((17, 8)), table)
    assert not loss.takes(jnp.zeros((16, 8)), table)
    assert not loss.takes(jnp.zeros((17, 8), jnp.bfloat16), table)
    assert not loss.takes(jnp.zeros((17, 8), jnp.float16), table.astype(jnp.float16))
