"""Chunked cross-entropy against the plain one: sums, gradients, memory."""

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import GEMMA1, GEMMA2, VOCABULARY, assert_close, weights

from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.train import loss as module
from gemkit.train.loss import Sums, cross_entropy

POSITIONS, WIDTH = 23, 24
CONFIGS = {"plain": GEMMA1, "capped": GEMMA2}

every_config = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture
def in_plain_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "takes", lambda states, table: False)


def positions(dtype: str = "float32") -> tuple[jax.Array, jax.Array, jax.Array]:
    """States, targets and weights; some weights are 0, one is a fraction."""
    draw = np.random.default_rng(0)
    states = jnp.asarray(draw.normal(size=(POSITIONS, WIDTH)), dtype)
    targets = jnp.asarray(draw.integers(0, VOCABULARY, POSITIONS), jnp.int32)
    weights = np.where(draw.random(POSITIONS) < 0.3, 0, 1).astype(np.float32)
    weights[4] = 0.5
    return states, targets, jnp.asarray(weights)


def plain(
    table: jax.Array, config: GemmaConfig, states: jax.Array, targets: jax.Array,
    weights: jax.Array,
) -> Sums:  # fmt: skip
    """All logits at once."""
    logits = transformer.logits({"embed": table}, config, states)
    log_p = jax.nn.log_softmax(logits)[jnp.arange(len(targets)), targets]
    right = (logits.argmax(-1) == targets).astype(jnp.float32)
    return Sums(-(log_p * weights).sum(), weights.sum(), (right * weights).sum())


def gradients(function: Any, config: GemmaConfig, **settings: Any) -> tuple[jax.Array, ...]:
    """Of 3 times the loss for table and states, so that the factor from outside is seen."""
    states, targets, weight = positions()

    def scaled(table: jax.Array, states: jax.Array) -> jax.Array:
        return 3 * function(table, config, states, targets, weight, **settings).loss

    return jax.jit(jax.grad(scaled, argnums=(0, 1)))(weights(config)["embed"], states)


@functools.cache
def plain_gradients(config: GemmaConfig) -> tuple[jax.Array, ...]:
    return gradients(plain, config)


# One chunk, chunks that divide 23 positions badly, and one position at a time.
@pytest.mark.parametrize("per_chunk", [64, 22, 7, 0.1])
@every_config
def test_chunked_is_plain(name: str, per_chunk: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", int(VOCABULARY * per_chunk))
    config = CONFIGS[name]
    table = weights(config)["embed"]
    sums = cross_entropy(table, config, *positions(), frozen_head=False)
    for ours, expected in zip(sums, plain(table, config, *positions()), strict=True):
        assert ours.dtype == jnp.float32
        assert float(ours) == pytest.approx(float(expected), rel=1e-5)
    for ours, expected in zip(
        gradients(cross_entropy, config, frozen_head=False), plain_gradients(config), strict=True
    ):
        assert_close(ours, expected, 1e-5)


@every_config
@pytest.mark.parametrize("kernels", [True, False])
def test_a_frozen_head_gives_the_states_the_same_gradient(
    name: str, kernels: bool, request: pytest.FixtureRequest
) -> None:
    if not kernels:
        request.getfixturevalue("in_plain_jax")
    table, states = gradients(cross_entropy, CONFIGS[name], frozen_head=True)
    expected_table, expected_states = plain_gradients(CONFIGS[name])
    assert not table.any()
    assert expected_table.any()
    assert_close(states, expected_states, 1e-5)


@pytest.mark.parametrize("kernels", [True, False])
def test_positions_of_weight_0_count_for_nothing(
    kernels: bool, request: pytest.FixtureRequest
) -> None:
    if not kernels:
        request.getfixturevalue("in_plain_jax")
    table = weights(GEMMA2)["embed"]
    states, targets, weight = positions()
    counted = np.flatnonzero(np.asarray(weight))
    assert 0 < len(counted) < POSITIONS
    all_of_them = cross_entropy(table, GEMMA2, states, targets, weight, frozen_head=True)
    kept = (array[counted] for array in (states, targets, weight))
    fewer = cross_entropy(table, GEMMA2, *kept, frozen_head=True)
    for a, b in zip(all_of_them, fewer, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-6)
    slope = np.asarray(gradients(cross_entropy, GEMMA2, frozen_head=True)[1])
    assert np.array_equal(np.flatnonzero(np.abs(slope).max(1)), counted)


def test_the_loss_of_a_guess_and_of_a_certainty() -> None:
    table = jnp.eye(4, dtype=jnp.float32)
    config = GEMMA1
    states = jnp.asarray([[0.0, 0, 0, 0], [50.0, 0, 0, 0], [50.0, 0, 0, 0]])
    targets, weight = jnp.asarray([2, 0, 1]), jnp.asarray([1.0, 1.0, 0.0])
    sums = cross_entropy(table, config, states, targets, weight, frozen_head=True)
    assert float(sums.loss) == pytest.approx(math.log(4))
    assert float(sums.weight) == 2
    assert float(sums.correct) == 2  # a tie with the best counts


def test_bfloat16_gives_float32_sums_and_bfloat16_gradients() -> None:
    table = weights(GEMMA2, "bfloat16")["embed"]
    states, targets, weight = positions("bfloat16")

    def total(table: jax.Array, states: jax.Array) -> jax.Array:
        return cross_entropy(table, GEMMA2, states, targets, weight, frozen_head=False).loss

    value, slopes = jax.value_and_grad(total, argnums=(0, 1))(table, states)
    assert value.dtype == jnp.float32
    assert [slope.dtype for slope in slopes] == [jnp.bfloat16] * 2
    exact = (array.astype(jnp.float32) for array in (table, states))
    assert float(value) == pytest.approx(
        float(plain(next(exact), GEMMA2, next(exact), targets, weight).loss), rel=1e-3
    )


@pytest.mark.parametrize("frozen_head", [True, False])
def test_no_array_holds_the_logits_of_all_positions(
    frozen_head: bool, in_plain_jax: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, vocabulary = 512, 2000
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 16 * vocabulary)
    shapes = (
        jax.ShapeDtypeStruct((vocabulary, 8), jnp.float32),
        jax.ShapeDtypeStruct((count, 8), jnp.float32),
    )
    targets, weight = jnp.zeros(count, jnp.int32), jnp.ones(count)

    def largest(function: Any) -> int:
        def total(table: jax.Array, states: jax.Array) -> jax.Array:
            return function(table, GEMMA2, states, targets, weight).loss

        program = str(jax.make_jaxpr(jax.grad(total, argnums=(0, 1)))(*shapes))
        found = re.findall(r"\[(\d+(?:,\d+)*)\]", program)
        return max(math.prod(map(int, shape.split(","))) for shape in found)

    assert largest(plain) >= count * vocabulary
    assert largest(functools.partial(cross_entropy, frozen_head=frozen_head)) == 16 * vocabulary
