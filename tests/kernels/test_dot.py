"""The native products against their twins in JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.kernels import dot, native

needs_kernels = pytest.mark.skipif(
    native.reason_against() is not None, reason=str(native.reason_against())
)
ROWS = (1, 2, 3, 4, 5, 8, 13, 16, 17, 24, 241, 300)
# [N, K]: whole tiles; odd in every direction; fewer than a vector; one column; deeper than wide;
# so deep, either way, that the product is made in parts.
MATRICES = ((96, 64), (33, 31), (7, 5), (1, 40), (50, 770), (40, 9001), (9001, 40))


def drawn(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def exact(x: jax.Array, weight: jax.Array) -> np.ndarray:
    return np.asarray(x, np.float64) @ np.asarray(weight, np.float64).T


def close(found: jax.Array, wanted: np.ndarray, depth: int) -> None:
    """Within rounding: of the sums, and of the result to its own dtype."""
    own = 2.0**-8 if found.dtype == jnp.bfloat16 else 0.0
    room = (own * np.abs(wanted) + 4e-7 * depth).astype(np.float32)
    assert (np.abs(np.asarray(found, np.float64) - wanted) <= room).all()


@needs_kernels
@pytest.mark.parametrize("shape", MATRICES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_products(shape: tuple[int, int], dtype: Any) -> None:
    weight = drawn(shape, dtype)
    for rows in ROWS:
        x = drawn((rows, shape[1]), dtype, seed=rows)
        if not dot.takes(x, weight):
            assert dtype == jnp.float32 and not 1 < rows <= dot.FEW_ROWS
            assert rows == 1 or weight.size < dot.LARGE
        wanted = exact(x, weight)
        close(dot.product(x, weight), wanted, shape[1])
        close(dot.product(x, weight, jnp.float32), wanted, shape[1])


@needs_kernels
@pytest.mark.parametrize("shape", MATRICES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_transposed_products(shape: tuple[int, int], dtype: Any) -> None:
    weight = drawn(shape, dtype)
    for rows in ROWS:
        x = drawn((rows, shape[0]), dtype, seed=rows)
        close(dot.transposed_product(x, weight), exact(x, weight.T), shape[0])


@needs_kernels
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_row_is_the_same_among_others(dtype: Any) -> None:
    """Up to 16 rows each sum is made in one order, so a batch answers as its rows alone do."""
    x, weight = drawn((16, 200), dtype), drawn((40, 200), dtype, seed=1)
    whole = np.asarray(dot.product(x, weight), np.float32)
    for rows in (2, 3, 5, 8):
        np.testing.assert_array_equal(np.asarray(dot.product(x[:rows], weight), np.float32),
                                      whole[:rows])  # fmt: skip


@needs_kernels
@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_gradients(rows: int, dtype: Any) -> None:
    x, weight = drawn((2, rows // 2, 48), dtype), drawn((30, 48), dtype, seed=1)
    pulled = drawn((2, rows // 2, 30), dtype, seed=2)

    def twin(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jax.lax.dot_general(
            x, weight, (((2,), (1,)), ((), ())), preferred_element_type=jnp.float32
        ).astype(dtype)

    found = jax.jit(lambda x, w: jax.vjp(dot.product, x, w)[1](pulled))(x, weight)
    wanted = jax.vjp(twin, x, weight)[1](pulled)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(
            np.asarray(ours, np.float32), np.asarray(theirs, np.float32),
            atol=0.06 if dtype == jnp.bfloat16 else 1e-5, rtol=1e-2,
        )  # fmt: skip


@needs_kernels
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_gradients_of_transposed_products(dtype: Any) -> None:
    x, weight = drawn((5, 30), dtype), drawn((30, 48), dtype, seed=1)
    pulled = drawn((5, 48), dtype, seed=2)
    found = jax.jit(lambda x, w: jax.vjp(dot.transposed_product, x, w)[1](pulled))(x, weight)
    close(found[0], exact(pulled, weight), 48)
    close(found[1], exact(x.T, pulled.T), 5)


@needs_kernels
def test_under_vmap() -> None:
    x, weight = drawn((3, 4, 20), jnp.bfloat16), drawn((3, 6, 20), jnp.bfloat16, seed=1)
    for axes in ((0, None), (None, 0), (0, 0)):
        ours = x if axes[0] == 0 else x[0]
        theirs = weight if axes[1] == 0 else weight[0]
        found = jax.vmap(dot.product, axes)(ours, theirs)
        for index in range(3):
            wanted = exact(x[index if axes[0] == 0 else 0], weight[index if axes[1] == 0 else 0])
            close(found[index], wanted, 20)


@needs_kernels
def test_what_is_taken() -> None:
    weight = drawn((6, 4), jnp.bfloat16)
    assert dot.takes(drawn((1, 4), jnp.bfloat16), weight)
    assert not dot.takes(drawn((2, 4), jnp.float32), weight)
    assert dot.takes(drawn((2, 4), jnp.float32), weight.astype(jnp.float32))
    assert not dot.takes(drawn((1, 4), jnp.float32), weight.astype(jnp.float32))
    large = jnp.zeros((dot.LARGE // 4, 4), jnp.float32)
    assert dot.takes(drawn((40, 4), jnp.float32), large)
    assert not dot.takes(drawn((40, 4), jnp.float32), large[1:])
    assert not dot.takes(drawn((0, 4), jnp.bfloat16), weight)
    assert not dot.takes(drawn((2, 4), jnp.float16), weight.astype(jnp.float16))


@needs_kernels
@pytest.mark.parametrize("rows", [1, 16])
def test_products_of_parts_are_those_of_float32(rows: int) -> None:
    x, weight = drawn((rows, 200), jnp.float32), drawn((50, 200), jnp.bfloat16, seed=1)
    assert dot.takes_parts(x, weight)
    assert not dot.takes_parts(drawn((17, 200), jnp.float32), weight)
    assert not dot.takes_parts(x, weight.astype(jnp.float32))
    close(jax.jit(dot.product_of_parts)(x, weight), exact(x, weight), 200)
    one = drawn((2, 1, 200), jnp.float32)
    assert dot.product_of_parts(one, weight).shape == (2, 1, 50)


@needs_kernels
def test_rematerialisation_keeps_products() -> None:
    weight = drawn((8, 8), jnp.bfloat16)

    def products(policy: Any) -> int:
        run = jax.checkpoint(
            lambda x: jnp.sin(dot.product(jnp.sin(x), weight)).sum(), policy=policy
        )
        lowered = jax.jit(jax.value_and_grad(run)).lower(drawn((20, 8), jnp.bfloat16))
        # As the training step compiles, or XLA:CPU would merge what is computed again.
        compiled = lowered.compile({"xla_disable_hlo_passes": "cse_barrier_expander"})
        return compiled.as_text().count('custom_call_target="gemkit_dot"')

    kept = jax.checkpoint_policies.save_only_these_names(dot.PRODUCT)
    # Forward and backward; without the policy the forward one runs again.
    assert (products(kept), products(None)) == (2, 3)


@needs_kernels
def test_dtypes_it_does_not_know_are_refused() -> None:
    x, weight = drawn((3, 4), jnp.float32), drawn((5, 4), jnp.float32)
    for left, right, dtype in (
        (x, weight, jnp.bfloat16), (x, weight.astype(jnp.bfloat16), jnp.float32),
        (x.astype(jnp.float16), weight.astype(jnp.float16), jnp.float32),
    ):  # fmt: skip
        with pytest.raises(jax.errors.JaxRuntimeError, match="float32, or bfloat16"):
            jax.block_until_ready(dot.product(left, right, dtype))
