"""Large bfloat16 tables in plain JAX: by blocks of rows comes what the whole table gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.model import linear

WIDTH, ROWS = 24, 90


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> jax.Array:
    """A table that counts as large: 10 rows a block."""
    monkeypatch.setattr(linear, "_BLOCK_ELEMENTS", 10 * WIDTH)
    monkeypatch.setattr(linear, "takes", lambda x, weight: False)
    return jax.random.normal(jax.random.key(0), (ROWS, WIDTH), jnp.bfloat16)


def test_blocks_are_equal_and_hold_every_row(table: jax.Array) -> None:
    blocks = linear._blocks(table)
    assert blocks.shape == (9, 10, WIDTH)
    np.testing.assert_array_equal(blocks.reshape(table.shape), table)


@pytest.mark.parametrize("shape", [(1, WIDTH), (7, WIDTH), (2, 3, WIDTH)])
def test_logits_by_blocks_are_those_of_the_table(
    table: jax.Array, shape: tuple[int, ...]
) -> None:
    states = jax.random.normal(jax.random.key(1), shape, jnp.bfloat16)
    found = jax.jit(linear.tied_logits)(states, table)
    right = states.astype(jnp.float32) @ table.astype(jnp.float32).T
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


def test_slopes_by_blocks_are_those_of_the_table(table: jax.Array) -> None:
    slopes = jax.random.normal(jax.random.key(2), (7, ROWS), jnp.bfloat16)
    found = jax.jit(linear.untied)(slopes, table)
    right = slopes.astype(jnp.float32) @ table.astype(jnp.float32)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), right, rtol=0.01, atol=0.01)


def test_only_large_bfloat16_tables_go_by_blocks(table: jax.Array) -> None:
    states = jnp.ones((3, WIDTH), jnp.bfloat16)

    def loops(table: jax.Array) -> bool:
        call = jax.jit(linear.tied_logits).lower(states.astype(table.dtype), table)
        return "while" in call.as_text()

    assert loops(table) and not loops(table[:10]) and not loops(table.astype(jnp.float32))
