"""The next token: which ones are allowed, how often they come, and that rows stand alone."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.errors import UsageError
from gemkit.generate import sampling as module
from gemkit.generate.sampling import Sampling, make_draw

LOGITS = np.array([1.2, -0.4, 2.0, 0.3, -3.0, 1.9, 0.0, -0.1])
DRAWS = 6000

next_tokens = jax.jit(module.next_tokens)


def drawn(sampling: Sampling, logits: np.ndarray = LOGITS, draws: int = DRAWS) -> np.ndarray:
    """The tokens at positions 0, 1, … for the same logits."""
    draw = make_draw(sampling, len(logits))
    batch = jnp.asarray(np.tile(logits, (draws, 1)), jnp.float32)
    return np.asarray(next_tokens(batch, draw, jnp.arange(draws, dtype=jnp.int32), None))


def distribution(sampling: Sampling, logits: np.ndarray = LOGITS) -> np.ndarray:
    """What each token's probability should be, token by token from the likeliest on."""
    p = np.exp(logits / sampling.temperature)
    p /= p.sum()
    kept, before = np.zeros_like(p), 0.0
    for rank, token in enumerate(np.argsort(-p)):
        within_k = sampling.top_k is None or rank < sampling.top_k
        within_p = sampling.top_p is None or before < sampling.top_p
        within_min = sampling.min_p is None or p[token] >= sampling.min_p * p.max()
        if rank == 0 or (within_k and within_p and within_min):
            kept[token] = p[token]
        before += p[token]
    return kept / kept.sum()


@pytest.mark.parametrize("settings, allowed", [
    ({}, 8),
    ({"temperature": 0.5}, 8),
    ({"temperature": 3.0}, 8),
    ({"top_k": 3}, 3),
    ({"top_k": 100}, 8),
    ({"top_p": 0.6}, 2),
    ({"top_p": 0.9}, 5),
    ({"top_p": 1e-6}, 1),
    ({"min_p": 0.3}, 3),
    ({"min_p": 1.0}, 1),
    ({"min_p": 0.0}, 8),
    ({"top_k": 6, "top_p": 0.95, "min_p": 0.13}, 5),
    ({"top_k": 2, "top_p": 0.95, "min_p": 0.1}, 2),
    ({"temperature": 2.0, "top_p": 0.6}, 3),
])  # fmt: skip
def test_frequencies_are_those_of_the_allowed_tokens(
    settings: dict[str, Any], allowed: int
) -> None:
    sampling = Sampling(**{"temperature": 1.0, "seed": 5} | settings)
    expected = distribution(sampling) * DRAWS
    assert (expected > 0).sum() == allowed
    counts = np.bincount(drawn(sampling), minlength=8)
    assert (counts[expected == 0] == 0).all()
    kept = expected > 0
    # Chi-square with at most 7 degrees of freedom exceeds 30 once in 10,000 times.
    assert ((counts - expected)[kept] ** 2 / expected[kept]).sum() < 30


def test_the_likeliest_token_is_taken_without_temperature() -> None:
    assert (drawn(Sampling(), draws=20) == 2).all()
    assert (drawn(Sampling(top_k=5, top_p=0.5), draws=20) == 2).all()


def test_top_1_is_greedy() -> None:
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(50, 97)), jnp.float32)
    places = jnp.arange(50, dtype=jnp.int32)
    greedy = next_tokens(logits, make_draw(Sampling(), 97), places, None)
    assert np.array_equal(greedy, logits.argmax(-1))
    for one in (Sampling(1.0, top_k=1), Sampling(5.0, top_p=1e-9), Sampling(0.1, min_p=1.0)):
        assert np.array_equal(next_tokens(logits, make_draw(one, 97), places, None), greedy)


def test_a_row_is_drawn_by_its_seed_and_position_alone() -> None:
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(6, 97)), jnp.float32)
    places = jnp.asarray([3, 9, 3, 0, 1, 2], jnp.int32)
    draw = make_draw(Sampling(temperature=1.0, top_k=50, seed=1), 97)
    together = next_tokens(logits, draw, places, None)
    for row in range(6):
        alone = next_tokens(logits[row : row + 1], draw, places[row : row + 1], None)
        assert alone[0] == together[row]


def test_seeds_and_positions_draw_differently() -> None:
    flat = np.zeros(97)
    first, again, other = (drawn(Sampling(1.0, seed=seed), flat, 60) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert (first == other).mean() < 0.2
    assert len(set(first.tolist())) > 30


def test_the_penalty_divides_or_multiplies_seen_tokens() -> None:
    random = np.random.default_rng(2)
    logits = random.normal(size=(40, 12)) * 2
    seen = random.random((40, 12)) < 0.6
    for penalty in (1.3, 0.7):
        expected = logits.copy()
        for row, token in zip(*np.nonzero(seen), strict=True):
            value = logits[row, token]
            expected[row, token] = value / penalty if value > 0 else value * penalty
        draw = make_draw(Sampling(repetition_penalty=penalty), 12)
        found = next_tokens(
            jnp.asarray(logits, jnp.float32), draw, jnp.zeros(40, jnp.int32), jnp.asarray(seen)
        )
        assert found.tolist() == expected.argmax(-1).tolist()
        assert found.tolist() != logits.argmax(-1).tolist()


@pytest.mark.parametrize("settings, message", [
    ({"temperature": -0.1}, "temperature is -0.1; expected a number of at least 0"),
    ({"temperature": math.nan}, "temperature is nan"),
    ({"temperature": math.inf}, "temperature is inf"),
    ({"top_k": 0}, "top_k is 0; expected at least 1"),
    ({"top_p": 0.0}, "top_p is 0.0; expected a share above 0, up to 1"),
    ({"top_p": 1.1}, "top_p is 1.1"),
    ({"min_p": -0.1}, "min_p is -0.1; expected a share from 0 to 1"),
    ({"min_p": 1.5}, "min_p is 1.5"),
    ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; expected a positive number"),
    ({"repetition_penalty": math.inf}, "repetition_penalty is inf"),
    ({"seed": -1}, "seed is -1; expected an integer from 0"),
    ({"seed": 2**32}, "seed is 4294967296"),
])  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(**settings)
    assert message in str(caught.value)
