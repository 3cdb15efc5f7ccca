"""The model against a slow twin, and every way of feeding it against the plain one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import reference_logits
from tiny import (
    CONFIGS,
    GEMMA1,
    GEMMA2,
    GEMMA3,
    assert_close,
    full_logits,
    hidden,
    ids,
    logits,
    rows,
    weights,
)

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
    config, params, sequence = CONFIGS[name], weights(CONFIGS[name]), ids(21)
    expected = reference_logits(params, config, sequence)
    states = hidden(params, config, **rows([sequence], 64))
    ours = transformer.logits(params, config, states)
    assert ours.dtype == jnp.float32
    assert_close(np.asarray(ours)[0, :21], expected)
    assert_close(full_logits(params, config, sequence), expected)


@every_config
def test_every_setting_matters(name: str) -> None:
    """The models are such that the comparisons with them would notice a wrong number."""
    config, sequence = CONFIGS[name], ids(21)
    right = reference_logits(weights(config), config, sequence)
    for setting, value in CHANGES[name].items():
        changed = dataclasses.replace(config, **{setting: value})
        wrong = reference_logits(weights(config), changed, sequence)
        assert np.abs(wrong - right).max() > 1e-3 * np.abs(right).max(), setting


def test_every_weight_matters() -> None:
    batch = rows([ids(21)], 21)

    def total(params: Any) -> jax.Array:
        states = transformer.hidden(params, GEMMA3, **batch)
        return (transformer.logits(params, GEMMA3, states) ** 2).sum()

    slopes = dict(flatten(jax.jit(jax.grad(total))(weights(GEMMA3))))
    assert slopes.keys() == specs(GEMMA3).keys()
    assert all(np.abs(slope).max() > 1e-4 for slope in slopes.values())


@every_config
def test_ragged_rows_give_what_they_give_alone(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    sequences = [ids(21), ids(7, 1), ids(1, 2)]
    states = np.asarray(hidden(params, config, **rows(sequences, 24)))
    assert np.isfinite(states).all()
    for row, sequence in enumerate(sequences):
        found = logits(params, config, states[row, : len(sequence)])
        assert_close(found, full_logits(params, config, sequence))


@every_config
def test_packed_sequences_are_separate_rows(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    sequences = [ids(9), ids(7, 1), ids(6, 2)]
    packed = {
        "tokens": sum(sequences, []),
        "positions": [place for s in sequences for place in range(len(s))],
        "segments": [number for number, s in enumerate(sequences, 1) for _ in s],
    }
    batch = {key: np.zeros((3, 24), np.int32) for key in packed}
    for key, values in packed.items():
        batch[key][1, :22] = values
    states = np.asarray(hidden(params, config, **batch))
    assert np.isfinite(states).all()
    expected = [full_logits(params, config, sequence) for sequence in sequences]
    assert_close(logits(params, config, states[1, :22]), np.concatenate(expected))


@every_config
def test_branches_are_separate_continuations(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    start, ends = ids(8), [ids(3, 1), ids(1, 2), ids(6, 3)]
    tokens, positions, branches = list(start), list(range(8)), [0] * 8
    for number, end in enumerate(ends, 1):
        tokens += end
        positions += range(8, 8 + len(end))
        branches += [number] * len(end)
    places, own = (np.asarray([row], np.int32) for row in (positions, branches))
    batch = (np.asarray([tokens], np.int32), places, np.ones_like(places), own)
    states = np.asarray(hidden(params, config, *batch))
    for number, end in enumerate(ends, 1):
        seen = states[0, (own[0] == 0) | (own[0] == number)]
        assert_close(logits(params, config, seen), full_logits(params, config, start + end))


@every_config
def test_at_is_a_gather(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    batch = rows([ids(12), ids(5, 1), ids(24, 2)], 24)
    at = np.asarray([3, 11, 28, 3, 0, 71], np.int32)
    whole = np.asarray(hidden(params, config, **batch)).reshape(72, -1)
    assert_close(hidden(params, config, **batch, at=at), whole[at], 1e-6)


@every_config
def test_bfloat16_stays_near_float32(name: str) -> None:
    config = CONFIGS[name]
    params, sequence = weights(config, "bfloat16"), ids(21)
    states = hidden(params, config, **rows([sequence], 64))
    assert states.dtype == jnp.bfloat16
    found = transformer.logits(params, config, states)
    assert found.dtype == jnp.float32
    expected = reference_logits(params, config, sequence)
    error = np.abs(np.asarray(found)[0, :21] - expected)
    assert error.mean() < 0.05 * np.abs(expected).mean()


def test_rows_of_padding_are_finite() -> None:
    empty = np.zeros((2, 6), np.int32)

    def total(params: Any) -> jax.Array:
        return transformer.hidden(params, GEMMA1, empty, empty, empty).sum()

    value, slopes = jax.jit(jax.value_and_grad(total))(weights(GEMMA1))
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for _, leaf in flatten(slopes))


def test_positions_of_rows_with_one_sequence() -> None:
    segments = jnp.asarray([[1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]], jnp.int32)
    assert transformer.positions_of(segments).tolist() == [[0, 1, 2, 2], [0, 0, 0, 1], [0] * 4]
    assert transformer.positions_of(segments).dtype == jnp.int32


def test_the_cap_is_on_the_logits() -> None:
    """One implementation capped the normalised hidden states instead."""
    states = jnp.full((1, 24), 100.0)
    found = np.asarray(transformer.logits(weights(GEMMA2), GEMMA2, states))
    assert np.abs(found).max() == pytest.approx(3.0)
    uncapped = np.full(24, 100.0) @ np.asarray(weights(GEMMA2)["embed"], np.float64).T
    assert_close(found[0], 3 * np.tanh(uncapped / 3), 1e-5)
