"""The model against a slow twin, and every way of feeding it against the plain one."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import reference_logits
from tiny import CONFIGS, GEMMA2, assert_close, full_logits, hidden, ids, rows, weights

from gemkit.model import transformer
from gemkit.model.weights import flatten, specs

every_config = pytest.mark.parametrize("name", CONFIGS)

CHANGES: dict[str, dict[str, Any]] = {
    "gemma1": {"query_scale": 0.25, "rope_theta": 9000.0, "norm_eps": 0.1},
    "gemma2": {"sliding_window": 6, "attn_logit_softcap": 2.0, "final_logit_softcap": 3.5},
    "gemma3": {"sliding_window": 6, "rope_theta": 1e4, "rope_local_theta": 1e3, "rope_scale": 7.0},
}


@every_config
def test_logits_are_those_of_the_slow_twin(name: str) -> None:
    config = CONFIGS[name]
    sequence = ids(21)
    ours = full_logits(weights(config), config, sequence)
    assert_close(ours, reference_logits(weights(config), config, sequence))


@every_config
def test_every_setting_matters(name: str) -> None:
    """The models are such that the comparisons with them would notice a wrong number."""
    config, sequence = CONFIGS[name], ids(21)
    right = reference_logits(weights(config), config, sequence)
    for setting, value in CHANGES[name].items():
        changed = dataclasses.replace(config, **{setting: value})
        wrong = reference_logits(weights(config), changed, sequence)
        assert np.abs(wrong - right).max() > 1e-3 * np.abs(right).max(), setting


@every_config
def test_every_weight_matters(name: str) -> None:
    config = CONFIGS[name]
    batch = rows([ids(21)], 21)

    def total(params: Any) -> jax.Array:
        states = transformer.hidden(params, config, **batch)
        return (transformer.logits(params, config, states) ** 2).sum()

    slopes = dict(flatten(jax.jit(jax.grad(total))(weights(config))))
    assert slopes.keys() == specs(config).keys()
    assert all(np.abs(slope).max() > 1e-4 for slope in slopes.values())


@every_config
def test_ragged_rows_give_what_they_give_alone(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    sequences = [ids(21), ids(7, 1), ids(1, 2)]
    states = hidden(params, config, **rows(sequences, 24))
    for row, sequence in enumerate(sequences):
        alone = hidden(params, config, **rows([sequence], 24))[0]
        assert_close(states[row, : len(sequence)], alone[: len(sequence)])
    assert np.isfinite(states).all()


@every_config
def test_packed_sequences_are_separate_rows(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    sequences = [ids(9), ids(7, 1), ids(8, 2)]
    joined = {
        "tokens": sum(sequences, []) + [0] * 4,
        "positions": [place for s in sequences for place in range(len(s))] + [0] * 4,
        "segments": [number for number, s in enumerate(sequences, 1) for _ in s] + [0] * 4,
    }
    packed = {key: jnp.asarray([values], jnp.int32) for key, values in joined.items()}
    states = hidden(params, config, **packed)
    assert np.isfinite(states).all()
    separate = hidden(params, config, **rows(sequences, 9))
    expected = [separate[row, : len(s)] for row, s in enumerate(sequences)]
    assert_close(states[0, :24], jnp.concatenate(expected))


@every_config
def test_branches_are_separate_continuations(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    start, ends = ids(8), [ids(3, 1), ids(1, 2), ids(6, 3)]
    tokens, positions, branches = list(start), list(range(8)), [0] * 8
    for number, end in enumerate(ends, 1):
        tokens += end
        positions += range(8, 8 + len(end))
        branches += [number] * len(end)
    row = [jnp.asarray([values], jnp.int32) for values in (tokens, positions)]
    ones = jnp.ones_like(row[0])
    states = hidden(params, config, *row, ones, jnp.asarray([branches], jnp.int32))
    for number, end in enumerate(ends, 1):
        alone = hidden(params, config, **rows([start + end], 14))
        places = [i for i, branch in enumerate(branches) if branch in (0, number)]
        assert_close(states[0, jnp.asarray(places)], alone[0, : len(places)])


@every_config
def test_at_is_a_gather(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    batch = rows([ids(12), ids(5, 1)], 12)
    at = jnp.asarray([3, 11, 16, 3, 0], jnp.int32)
    whole = hidden(params, config, **batch)
    assert_close(hidden(params, config, **batch, at=at), whole.reshape(24, -1)[at], 1e-6)


def test_remat_changes_nothing() -> None:
    batch, params = rows([ids(12)], 12), weights(GEMMA2)

    @functools.partial(jax.jit, static_argnames="remat")
    def slopes(params: Any, remat: bool) -> Any:
        def total(params: Any) -> jax.Array:
            return (transformer.hidden(params, GEMMA2, **batch, remat=remat) ** 2).sum()

        return jax.value_and_grad(total)(params)

    kept, again = (slopes(params, remat) for remat in (False, True))
    assert float(kept[0]) == pytest.approx(float(again[0]), rel=1e-6)
    expected = dict(flatten(kept[1]))
    for path, slope in flatten(again[1]):
        assert_close(slope, expected[path], 1e-5)
    assert "remat" in str(jax.make_jaxpr(slopes, static_argnums=1)(params, True))


@every_config
def test_bfloat16_stays_near_float32(name: str) -> None:
    config = CONFIGS[name]
    params = weights(config, "bfloat16")
    batch = rows([ids(21), ids(9, 1)], 21)
    states = hidden(params, config, **batch)
    assert states.dtype == jnp.bfloat16
    logits = transformer.logits(params, config, states)
    assert logits.dtype == jnp.float32
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    expected = np.asarray(transformer.logits(exact, config, hidden(exact, config, **batch)))
    error = np.abs(logits - expected)[np.asarray(batch["segments"]) > 0]
    assert error.mean() < 0.05 * np.abs(expected).mean()


def test_rows_of_padding_are_finite() -> None:
    empty = jnp.zeros((2, 6), jnp.int32)
    states = hidden(weights(GEMMA2), GEMMA2, empty, empty, empty)
    assert np.isfinite(states).all()

    def total(params: Any) -> jax.Array:
        return transformer.hidden(params, GEMMA2, empty, empty, empty).sum()

    slopes = jax.jit(jax.grad(total))(weights(GEMMA2))
    assert all(np.isfinite(leaf).all() for _, leaf in flatten(slopes))


def test_positions_of_rows_with_one_sequence() -> None:
    segments = jnp.asarray([[1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]], jnp.int32)
    assert transformer.positions_of(segments).tolist() == [[0, 1, 2, 2], [0, 0, 0, 1], [0] * 4]
    assert transformer.positions_of(segments).dtype == jnp.int32


def test_the_cap_is_on_the_logits() -> None:
    """One implementation capped the normalised hidden states instead."""
    states = jnp.full((1, 24), 100.0)
    logits = np.asarray(transformer.logits(weights(GEMMA2), GEMMA2, states))
    assert np.abs(logits).max() == pytest.approx(3.0)
    uncapped = np.full(24, 100.0) @ np.asarray(weights(GEMMA2)["embed"], np.float64).T
    assert_close(logits[0], 3 * np.tanh(uncapped / 3), 1e-5)
