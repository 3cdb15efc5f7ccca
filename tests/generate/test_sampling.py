"""The next token: which ones are allowed, how often they come, and that rows stand alone."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.errors import UsageError
from gemkit.generate import sampling as module
from gemkit.generate.sampling import (
    Sampling,
    best_first,
    bias_row,
    count,
    make_draws,
    prompt_counts,
    seeds,
)

LOGITS = np.array([1.2, -0.4, 2.0, 0.3, -3.0, 1.9, 0.0, -0.1])
DRAWS = 6000

next_tokens = jax.jit(module.next_tokens)


def drawn(sampling: Sampling, logits: np.ndarray = LOGITS, draws: int = DRAWS) -> np.ndarray:
    """The tokens at positions 0, 1, … for the same logits."""
    batch = jnp.asarray(np.tile(logits, (draws, 1)), jnp.float32)
    places = jnp.arange(draws, dtype=jnp.int32)
    return np.asarray(next_tokens(batch, make_draws([sampling] * draws, len(logits)), places)[0])


def distribution(sampling: Sampling, logits: np.ndarray = LOGITS) -> np.ndarray:
    """What each token's probability should be, token by token from the likeliest on."""
    p = np.exp((logits - logits.max()) / sampling.temperature)
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


def penalised(
    logits: np.ndarray, sampling: Sampling, prompt: list[int], answer: list[int]
) -> np.ndarray:
    """The logits [V] after the penalties, token by token."""
    out = logits.copy()
    for token in set(prompt + answer):
        factor = sampling.repetition_penalty
        out[token] = out[token] / factor if out[token] > 0 else out[token] * factor
    for token in set(answer):
        out[token] -= sampling.presence_penalty
        out[token] -= sampling.frequency_penalty * answer.count(token)
    return out


@pytest.mark.parametrize("settings, allowed", [
    ({}, 8),
    ({"temperature": 0.5}, 8),
    ({"temperature": 3.0}, 8),
    ({"top_k": 3}, 3),
    ({"top_k": 100}, 8),
    ({"top_p": 0.6}, 2),
    ({"top_p": 0.9}, 5),
    ({"top_p": 1.0}, 8),
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


def test_frequencies_across_blocks() -> None:
    """1,300 tokens are three blocks; 20 of them, near and at the blocks' ends, can come."""
    logits = np.full(1300, -np.inf)
    tokens = np.array([0, 1, 510, 511, 512, 513, 1023, 1024, 1298, 1299, *range(600, 610)])
    logits[tokens] = np.random.default_rng(1).normal(size=20)
    counts = np.bincount(drawn(Sampling(1.0, seed=9), logits, 4000), minlength=1300)
    expected = 4000 * np.exp(logits) / np.exp(logits).sum()
    assert counts.sum() == counts[tokens].sum()
    # 19 degrees of freedom: 50 once in 10,000 times.
    assert ((counts - expected)[tokens] ** 2 / expected[tokens]).sum() < 50


@pytest.mark.parametrize("settings", [
    {"top_k": 7},
    {"top_k": 600},
    {"top_p": 0.3},
    {"top_p": 0.97},
    {"top_p": 1.0},
    {"min_p": 0.01},
    {"top_k": 700, "top_p": 0.95, "min_p": 0.002},
    {"temperature": 0.2, "top_p": 0.9},
    {"temperature": 4.0, "top_p": 0.9, "min_p": 0.5},
])  # fmt: skip
@pytest.mark.parametrize("candidates", [16, module.CANDIDATES])
def test_filters_let_the_same_tokens_pass_in_a_large_vocabulary(
    settings: dict[str, Any], candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few candidates: the bisection. Some logits are tied, some banned."""
    monkeypatch.setattr(module, "CANDIDATES", candidates)
    logits = np.random.default_rng(3).normal(size=(4, 1000)).astype(np.float32) * 3
    logits[:, 100:110] = -np.inf
    sampling = Sampling(**{"temperature": 1.0} | settings)
    draws = make_draws([sampling] * 4, 1000)
    scaled = (logits - logits.max(-1, keepdims=True)) / np.float32(sampling.temperature)
    bound = np.asarray(module._threshold(jnp.asarray(scaled), jnp.exp(scaled), draws))
    for row in range(4):
        expected = distribution(sampling, logits[row].astype(np.float64)) > 0
        assert (((scaled >= bound)[row] & (logits[row] > -np.inf)) == expected).all()


@pytest.mark.parametrize("candidates", [2, module.CANDIDATES])
def test_ties_of_the_last_token_pass_too(
    candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANDIDATES", candidates)
    # The module's constant is no part of a compiled function's key.
    monkeypatch.setitem(globals(), "next_tokens", jax.jit(lambda *args: module.next_tokens(*args)))
    logits = np.array([1.0, 3.0, 2.0, 2.0, 2.0, 0.0])
    tokens = {2, 3, 4, 1}
    assert set(drawn(Sampling(1.0, top_k=3, seed=1), logits, 300).tolist()) == tokens
    assert set(drawn(Sampling(1.0, top_p=0.6, seed=1), logits, 300).tolist()) == tokens


def test_the_likeliest_token_is_taken_without_temperature() -> None:
    assert (drawn(Sampling(), draws=20) == 2).all()
    assert (drawn(Sampling(top_k=5, top_p=0.5), draws=20) == 2).all()


def test_the_lowest_id_is_taken_of_several() -> None:
    assert drawn(Sampling(), np.array([1.0, 4.0, 2.0, 4.0]), 1) == [1]


def test_top_1_is_greedy() -> None:
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(50, 97)), jnp.float32)
    places = jnp.arange(50, dtype=jnp.int32)
    for one in (
        Sampling(), Sampling(1.0, top_k=1), Sampling(5.0, top_p=1e-9), Sampling(0.1, min_p=1.0),
        Sampling(1e-30),
    ):  # fmt: skip
        tokens, _ = next_tokens(logits, make_draws([one] * 50, 97), places)
        assert np.array_equal(tokens, logits.argmax(-1))


MIXED = [
    Sampling(),
    Sampling(1.0, seed=1),
    Sampling(0.7, top_k=20, seed=1),
    Sampling(1.3, top_p=0.9, seed=2),
    Sampling(1.0, min_p=0.05, seed=3),
    Sampling(repetition_penalty=1.4),
    Sampling(1.0, seed=4, presence_penalty=0.8, frequency_penalty=-0.3),
    Sampling(1.0, seed=4, logit_bias={5: 3.0, 7: -2.0}, banned=(1, 2)),
    Sampling(2.0, top_k=700, top_p=0.99, min_p=1e-4, seed=2**32 - 1),
]


def test_mixed_rows_are_as_alone() -> None:
    """Nothing a neighbour does changes a row: not its settings, nor features it brings in."""
    size, rows = 1500, len(MIXED)
    random = np.random.default_rng(0)
    answers = [random.integers(0, 40, size=6).tolist() for _ in MIXED]
    counts = np.stack([prompt_counts(range(row, 30), size) for row in range(rows)])
    for step in range(6):
        grown = jnp.asarray([answer[step] for answer in answers], jnp.int32)
        counts = count(jnp.asarray(counts), grown)
    allowed = random.random((rows, size)) < 0.9
    bias = np.stack([np.zeros(size, np.float32) if (row := bias_row(s, size)) is None else row
                     for s in MIXED])  # fmt: skip
    for place in range(20):
        logits = random.normal(size=(rows, size)).astype(np.float32) * 3
        places = np.arange(rows, dtype=np.int32) + place
        together = next_tokens(logits, make_draws(MIXED, size), places, counts, allowed, bias)
        for row, sampling in enumerate(MIXED):
            one = slice(row, row + 1)
            own = bias[one] if sampling.logit_bias else None
            alone = next_tokens(
                logits[one], make_draws([sampling], size), places[one],
                counts[one] if sampling.penalised else None, allowed[one], own,
            )  # fmt: skip
            assert alone[0][0] == together[0][row]
            assert abs(alone[1][0] - together[1][row]) < 1e-5


def test_static_flags_change_no_token() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 97)).astype(np.float32)
    draws = make_draws([Sampling(), Sampling(1.0, seed=3), Sampling(2.0), Sampling(0.5)], 97)
    places = np.arange(4, dtype=np.int32)
    counts = np.ones((4, 97), np.int32)
    plain = next_tokens(logits, draws, places)
    more = dataclasses.replace(draws, filtered=True, penalised=True)
    assert np.array_equal(next_tokens(logits, more, places, counts)[0], plain[0])


def test_seeds_and_positions_draw_differently() -> None:
    flat = np.zeros(97)
    first, again, other = (drawn(Sampling(1.0, seed=seed), flat, 60) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert (first == other).mean() < 0.2
    assert len(set(first.tolist())) > 30


@pytest.mark.parametrize("settings", [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"presence_penalty": 1.1},
    {"presence_penalty": -1.1},
    {"frequency_penalty": 0.6},
    {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.4},
])  # fmt: skip
def test_penalties_are_those_of_prompt_and_answer(settings: dict[str, float]) -> None:
    random = np.random.default_rng(2)
    logits, sampling = random.normal(size=(40, 12)) * 2, Sampling(**settings)
    prompts = random.integers(0, 12, size=(40, 5)).tolist()
    answers = random.integers(0, 12, size=(40, 8)).tolist()
    counts = jnp.asarray([prompt_counts(prompt, 12) for prompt in prompts])
    for grown in zip(*answers, strict=True):
        counts = count(counts, jnp.asarray(grown, jnp.int32))
    tokens, log_probs = next_tokens(
        jnp.asarray(logits, jnp.float32), make_draws([sampling] * 40, 12),
        jnp.zeros(40, jnp.int32), counts,
    )  # fmt: skip
    rows = zip(logits, prompts, answers, strict=True)
    expected = [int(penalised(row, sampling, p, a).argmax()) for row, p, a in rows]
    assert tokens.tolist() == expected
    assert expected != logits.argmax(-1).tolist()
    chosen = logits[np.arange(40), expected] - np.log(np.exp(logits).sum(-1))
    assert np.allclose(log_probs, chosen, atol=1e-5)


def test_minus_one_counts_nothing() -> None:
    before = jnp.asarray([prompt_counts([1, 1, 2], 4)] * 2)
    after = count(before, jnp.asarray([-1, 2], jnp.int32))
    assert after.tolist() == [[0, 1, 1, 0], [0, 1, 3, 0]]


def test_bias_moves_the_frequencies_and_log_probs_are_of_the_raw_logits() -> None:
    sampling = Sampling(1.0, seed=8, logit_bias={4: 3.5, 2: -1.0}, banned=(0,))
    bias = bias_row(sampling, 8)
    tokens, log_probs = next_tokens(
        np.tile(LOGITS.astype(np.float32), (DRAWS, 1)), make_draws([sampling] * DRAWS, 8),
        np.arange(DRAWS, dtype=np.int32), None, None, np.tile(bias, (DRAWS, 1)),
    )  # fmt: skip
    expected = DRAWS * distribution(Sampling(1.0), LOGITS + bias)
    counts = np.bincount(tokens, minlength=8)
    assert counts[0] == 0
    assert ((counts - expected)[1:] ** 2 / expected[1:]).sum() < 30
    raw = LOGITS - np.log(np.exp(LOGITS).sum())
    assert np.allclose(log_probs, raw[np.asarray(tokens)], atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 1e-30, 100.0])
def test_the_mask_is_kept(temperature: float) -> None:
    random = np.random.default_rng(4)
    logits = random.normal(size=(200, 30)).astype(np.float32)
    allowed = random.random((200, 30)) < 0.1
    allowed[:3] = False
    draws = make_draws([Sampling(temperature, top_k=5)] * 200, 30)
    places = np.arange(200, dtype=np.int32)
    tokens = np.asarray(next_tokens(logits, draws, places, None, allowed)[0])
    some = allowed.any(-1)
    assert (tokens == -1).tolist() == (~some).tolist()
    assert allowed[np.arange(200), tokens][some].all()
    assert not some.all()


def test_logits_that_are_no_numbers_give_no_token() -> None:
    for sampling in (Sampling(), Sampling(1.0), Sampling(1.0, top_p=0.5)):
        assert drawn(sampling, np.full(9, np.nan), 1) == [-1]


def test_tiny_weights_never_let_a_banned_token_through() -> None:
    """The running sum may round anywhere; what has no weight is not drawn."""
    logits = np.full(2000, -80.0)
    logits[::2] = -np.inf
    logits[777] = 0.0
    tokens = drawn(Sampling(1.0), logits, 3000)
    assert set(tokens.tolist()) == {777}
    weights = jnp.asarray(np.tile(np.exp(logits), (4, 1)), jnp.float32)
    # Shares at both ends, which `jax.random.uniform` gives rarely or never.
    ends = module._drawn(weights, jnp.asarray([0.0, 1.0 - 2**-24, 1.0, 0.5], jnp.float32))
    assert all(logits[token] > -np.inf for token in ends.tolist())


def test_a_running_sum_that_grows_without_weight() -> None:
    """A parallel sum does so by rounding; the draw must not land there."""
    random = np.random.default_rng(0)
    weights = np.exp(random.normal(size=(500, 512)) * 6).astype(np.float32)
    weights[random.random(weights.shape) < 0.9] = 0
    sums = np.asarray(jax.jit(lambda x: jnp.cumsum(x, axis=-1))(weights))
    highest = np.maximum.accumulate(sums, axis=-1)[:, :-1]
    rows, places = np.nonzero((sums[:, 1:] > highest) & (weights[:, 1:] == 0))
    assert len(rows) > 0
    found, _ = jax.jit(module._passing)(weights[rows], highest[rows, places])
    assert (weights[rows, np.asarray(found)] > 0).all()


def test_seeds_of_copies() -> None:
    assert seeds(7, 1) == [7]
    many = seeds(7, 200)
    assert many[:5] == seeds(7, 5)
    assert len(set(many)) == 200 and all(0 <= seed < 2**32 for seed in many)
    assert not set(many[1:]) & set(seeds(8, 200)[1:])
    # Copies draw differently.
    first, second = (drawn(Sampling(1.0, seed=seed), np.zeros(97), 60) for seed in many[:2])
    assert (first == second).mean() < 0.2


def test_answers_are_ranked_by_their_mean() -> None:
    assert best_first([[-1.0, -3.0], [-1.5], [], [-1.5, -1.5]]) == [1, 3, 0, 2]


def test_settings_are_hashable_whatever_they_came_as() -> None:
    one = Sampling(logit_bias={3: 1.0, 1: 2.0}, banned=[5, 4, 5], forced=[9, 8])  # type: ignore[arg-type]
    other = Sampling(logit_bias=((1, 2.0), (3, 1.0)), banned=(4, 5), forced=(9, 8))
    assert one == other and hash(one) == hash(other)
    assert dataclasses.replace(one, seed=1).logit_bias == ((1, 2.0), (3, 1.0))
    assert bias_row(Sampling(logit_bias={}), 4) is None


@pytest.mark.parametrize("settings, message", [
    ({"banned": (-1,)}, "banned holds token -1; expected 0 to 7"),
    ({"forced": (3, 8)}, "forced holds token 8; expected 0 to 7"),
    ({"logit_bias": {9: 1.0}}, "logit_bias holds token 9; expected 0 to 7"),
])  # fmt: skip
def test_tokens_outside_the_vocabulary(settings: dict[str, Any], message: str) -> None:
    sampling = Sampling(**settings)
    for call in (lambda: make_draws([Sampling(), sampling], 8), lambda: bias_row(sampling, 8)):
        with pytest.raises(UsageError, match=message):
            call()


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
    ({"presence_penalty": math.nan}, "presence_penalty is nan; expected a finite number"),
    ({"frequency_penalty": math.inf}, "frequency_penalty is inf"),
    ({"logit_bias": {4: -math.inf}}, "logit_bias of token 4 is -inf; expected a finite number"),
    ({"banned": (1, 2), "forced": (2,)}, "token 2 is banned and forced; expected one of the two"),
    ({"banned": (3,), "logit_bias": {3: 1.0}}, "token 3 is banned and in logit_bias"),
])  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(**settings)
    assert message in str(caught.value)
