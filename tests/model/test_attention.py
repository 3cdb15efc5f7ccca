"""Masks as rules about positions, attention against a loop over heads."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_close

from gemkit.kernels import dot, native
from gemkit.model import attention
from gemkit.model.attention import attend, attend_cached, causal_mask, segment_mask


def array(values: list) -> jnp.ndarray:
    return jnp.asarray(values, jnp.int32)


@pytest.mark.parametrize("window", [None, 1, 2, 5])
def test_a_query_sees_no_future_and_no_farther_than_the_window(window: int | None) -> None:
    queries, keys = array([[6, 0, 3]]), array([[3, -1, 6, 2, 0, 7, 5]])
    mask = np.asarray(causal_mask(queries, keys, window))
    for i, query in enumerate(queries[0].tolist()):
        for j, key in enumerate(keys[0].tolist()):
            near = window is None or query - key < window
            assert mask[0, i, j] == (0 <= key <= query and near), (query, key)


def test_the_window_counts_the_token_itself() -> None:
    places = jnp.arange(6)[None]
    assert causal_mask(places, places, 3).sum(-1).tolist() == [[1, 2, 3, 3, 3, 3]]
    assert causal_mask(places, places, None).sum(-1).tolist() == [[1, 2, 3, 4, 5, 6]]


def test_segments_keep_to_themselves_and_padding_is_never_seen() -> None:
    mask = segment_mask(array([[1, 1, 2, 0, 0]]))[0]
    assert mask.astype(int).tolist() == [
        [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0],
    ]  # fmt: skip


def test_branches_see_the_common_start_and_themselves() -> None:
    mask = segment_mask(array([[1, 1, 1, 1, 2]]), array([[0, 1, 1, 2, 0]]))[0]
    assert mask.astype(int).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("heads, shared", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("cap", [None, 0.7])
def test_attention_is_the_loop_over_heads(heads: int, shared: int, cap: float | None) -> None:
    draw = np.random.default_rng(0)
    q = draw.normal(size=(2, 3, heads, 6))
    k, v = draw.normal(size=(2, 2, 5, shared, 6))
    mask = draw.random((2, 3, 5)) < 0.7
    mask[:, :, 0] = True
    expected = np.zeros((2, 3, heads, 6))
    for b, t, n in np.ndindex(2, 3, heads):
        keys, values = k[b, mask[b, t], n * shared // heads], v[b, mask[b, t], n * shared // heads]
        scores = keys @ q[b, t, n]
        scores = scores if cap is None else cap * np.tanh(scores / cap)
        expected[b, t, n] = np.exp(scores) / np.exp(scores).sum() @ values
    as_floats = (jnp.asarray(a, jnp.float32) for a in (q, k, v))
    assert_close(attend(*as_floats, jnp.asarray(mask), cap), expected.reshape(2, 3, -1), 1e-5)


def test_a_query_without_any_key_is_no_nan() -> None:
    v = jnp.arange(8.0).reshape(1, 4, 1, 2)
    mixed = attend(v, v, v, jnp.zeros((1, 4, 4), bool), 5.0)
    assert np.isfinite(mixed).all()


@pytest.mark.skipif(native.reason_against() is not None, reason=str(native.reason_against()))
@pytest.mark.parametrize("cap", [None, 20.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 1), (1, 70, 1), (2, 7, 1), (1, 7, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_cached_is_attended_natively(
    dtype: str, shape: tuple[int, int, int], cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sequence with one key/value head is; the others and many float32 queries are not."""
    batch, length, shared = shape
    draw = np.random.default_rng(3)
    q = jnp.asarray(draw.normal(size=(batch, length, 4, 24)), dtype)
    k, v = (jnp.asarray(draw.normal(size=(batch, 90, shared, 24)), dtype) for _ in range(2))
    mask = jnp.asarray(draw.integers(2, size=(batch, length, 90)), bool).at[:, :, 0].set(True)
    calls = []
    monkeypatch.setattr(attention, "product", lambda *a: calls.append(1) or dot.product(*a))
    found = attend_cached(q, k, v, mask, cap)
    few = dtype == "bfloat16" or length * 4 <= attention.FEW_QUERIES
    assert len(calls) == (batch * shared == 1 and few)
    wanted = attend(q, k, v, mask, cap)
    assert found.dtype == wanted.dtype
    room = 2e-5 if dtype == "float32" else 0.03
    np.testing.assert_allclose(
        np.asarray(found, np.float32), np.asarray(wanted, np.float32), atol=room
    )
