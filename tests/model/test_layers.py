"""The small pieces against formulas in float64, also where bfloat16 would lose them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_close

from gemkit.model import linear as linear_module
from gemkit.model.layers import embed, gated_mlp, rms_norm, rotate, rotation, soft_cap
from gemkit.model.linear import linear


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_rms_norm_multiplies_by_one_plus_scale() -> None:
    x, scale = drawn(3, 24) * 5, drawn(24, seed=1)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 0.5) * (1 + scale)
    assert_close(rms_norm(jnp.asarray(x), jnp.asarray(scale), 0.5), expected, 1e-6)


def test_rms_norm_of_bfloat16_computes_in_float32() -> None:
    x = jnp.asarray(drawn(4, 512), jnp.bfloat16)
    scale = jnp.full(512, 2**-7, jnp.bfloat16)  # 1 + 2**-7 is a bfloat16, 1 + 2**-8 is not
    wide = rms_norm(x.astype(jnp.float32), scale, 1e-6)
    narrow = rms_norm(x, scale * jnp.bfloat16(0.5), 1e-6)
    exact = rms_norm(x.astype(jnp.float32), scale * jnp.bfloat16(0.5), 1e-6)
    assert narrow.dtype == jnp.bfloat16
    assert np.array_equal(narrow, exact.astype(jnp.bfloat16))
    assert not np.array_equal(narrow, wide.astype(jnp.bfloat16))


@pytest.mark.parametrize("theta, scale", [(1e4, 1.0), (1e6, 8.0)])
def test_rotary_angles_are_exact_far_into_the_context(theta: float, scale: float) -> None:
    """bfloat16 makes 256 of position 257; the error here is that of one float32 rounding."""
    places = np.array([0, 1, 255, 256, 257, 1023, 8191, 32_767, 131_071])
    cos, sin = rotation(jnp.asarray(places[None], jnp.int32), 64, theta, scale)
    assert cos.dtype == sin.dtype == jnp.float32
    assert cos.shape == (1, len(places), 1, 32)
    angles = places[:, None] / scale * theta ** -(np.arange(32) / 32)
    allowed = 4 * np.finfo(np.float32).eps * angles + 1e-6
    assert (np.abs(cos[0, :, 0] - np.cos(angles)) <= allowed).all()
    assert (np.abs(sin[0, :, 0] - np.sin(angles)) <= allowed).all()
    assert not np.array_equal(cos[0, 3], cos[0, 4])


def test_rotation_pairs_the_halves() -> None:
    x = drawn(1, 2, 3, 8)
    cos_sin = rotation(jnp.asarray([[0, 7]], jnp.int32), 8, 100.0, 2.0)
    turned = np.asarray(rotate(jnp.asarray(x), cos_sin))
    assert np.array_equal(turned[0, 0], x[0, 0])
    for i, angle in enumerate(7 / 2 * 100.0 ** -(np.arange(4) / 4)):
        first, second = x[0, 1, :, i], x[0, 1, :, i + 4]
        expected = first * np.cos(angle) - second * np.sin(angle)
        assert turned[0, 1, :, i] == pytest.approx(expected, abs=1e-5)
        expected = second * np.cos(angle) + first * np.sin(angle)
        assert turned[0, 1, :, i + 4] == pytest.approx(expected, abs=1e-5)


def test_only_the_distance_of_two_positions_counts() -> None:
    q, k = jnp.asarray(drawn(1, 1, 1, 16)), jnp.asarray(drawn(1, 1, 1, 16, seed=1))

    def score(query: int, key: int) -> float:
        turned = [
            rotate(x, rotation(jnp.asarray([[place]], jnp.int32), 16, 1e4, 1.0))
            for x, place in ((q, query), (k, key))
        ]
        return float((turned[0] * turned[1]).sum())

    assert score(4099, 4090) == pytest.approx(score(9, 0), abs=5e-3)
    assert score(10, 0) != pytest.approx(score(9, 0), abs=5e-2)


def test_the_gelu_is_the_tanh_one() -> None:
    x, gate, up, down = drawn(2, 5), drawn(7, 5, seed=1), drawn(7, 5, seed=2), drawn(5, 7, seed=3)
    g = x @ gate.T
    gelu = 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3)))
    mlp = {"gate": jnp.asarray(gate), "up": jnp.asarray(up), "down": jnp.asarray(down)}
    assert_close(gated_mlp(jnp.asarray(x), mlp), (gelu * (x @ up.T)) @ down.T, 1e-5)


def test_the_embedding_factor_is_rounded_to_the_tables_dtype() -> None:
    table = jnp.ones((3, 2048), jnp.bfloat16)
    assert float(embed(table, jnp.asarray([1]))[0, 0]) == 45.25
    assert float(embed(table.astype(jnp.float32), jnp.asarray([1]))[0, 0]) == pytest.approx(
        45.254834
    )


def test_soft_cap() -> None:
    x = jnp.asarray([-1000.0, -0.01, 0.0, 2.0, 1000.0])
    assert soft_cap(x, None) is x
    assert_close(soft_cap(x, 3.0), 3 * np.tanh(np.asarray(x) / 3), 1e-6)
    assert np.abs(soft_cap(x, 3.0)).max() == 3


@pytest.mark.parametrize("rows", [(), (1,), (1, 1), (2, 3)])
@pytest.mark.parametrize("of_x", ["float32", "bfloat16"])
@pytest.mark.parametrize("of_weight", ["float32", "bfloat16"])
def test_linear_takes_any_rows_and_keeps_the_dtype(
    rows: tuple[int, ...], of_x: str, of_weight: str
) -> None:
    x, weight = jnp.asarray(drawn(*rows, 40), of_x), jnp.asarray(drawn(17, 40, seed=1), of_weight)
    result = jax.jit(linear)(x, weight)
    assert (result.shape, result.dtype) == ((*rows, 17), x.dtype)
    weight = weight.astype(of_x)
    expected = np.asarray(x, np.float64) @ np.asarray(weight, np.float64).T
    assert_close(result, expected, 1e-6 if of_x == "float32" else 1e-2)


def test_one_row_against_a_bfloat16_matrix_agrees_with_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, weight = jnp.asarray(drawn(1, 64), jnp.bfloat16), jnp.asarray(drawn(9, 64), jnp.bfloat16)
    one = linear(x, weight)
    many = linear(jnp.concatenate([x, x]), weight)[:1]
    assert_close(one, many, 1e-2)
    gradient = jax.grad(lambda x: linear(x, weight).astype(jnp.float32).sum())(x)
    assert_close(gradient, weight.astype(jnp.float32).sum(0, keepdims=True), 1e-2)
    monkeypatch.setattr(linear_module, "_matvec", linear_module._dot)
    assert_close(linear(x, weight), one, 1e-2)
