"""Decoding with a cache against whole rows: full buffers, rings, ragged rows, prefixes, 8 bits."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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

from gemkit.model import cache as module
from gemkit.model import transformer
from gemkit.model.cache import (
    KVCache,
    cache_bytes,
    capacities,
    grown,
    held_positions,
    init_cache,
    put_rows,
    quantise,
    read_block,
    slots_after,
    take_rows,
    vectors,
    write,
    write_block,
)
from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS
from gemkit.model.weights import Params

every_config = pytest.mark.parametrize("name", CONFIGS)
hidden_cached = jax.jit(transformer.hidden_cached, static_argnames="config")

PIECE = 8
RING = 16
"""A window of 5 and a piece of 8, rounded up to pieces."""


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", PIECE)


def run(
    params: Params, config: GemmaConfig, sequences: Sequence[Sequence[int]],
    pieces: Sequence[int], cache: KVCache,
) -> tuple[list[np.ndarray], KVCache]:  # fmt: skip
    """States [T, D] of each sequence, read in pieces of these sizes until it ends."""
    states: list[list[np.ndarray]] = [[] for _ in sequences]
    start = 0
    for size in pieces:
        counts = np.asarray([min(max(len(s) - start, 0), size) for s in sequences], np.int32)
        tokens = np.full((len(sequences), size), 3, np.int32)
        for row, sequence in enumerate(sequences):
            tokens[row, : counts[row]] = sequence[start : start + size]
        new, cache = hidden_cached(params, config, tokens, counts, cache)
        for row, count in enumerate(counts):
            states[row].append(np.asarray(new[row, :count]))
        start += size
    assert start >= max(map(len, sequences))
    return [np.concatenate(parts) for parts in states], cache


@every_config
def test_prefill_and_decode_are_the_full_forward(name: str, small_pieces: None) -> None:
    """Rows of 40, 21 and 3 tokens: the first overwrites its ring more than twice."""
    config, params = CONFIGS[name], weights(CONFIGS[name])
    sequences = [ids(40), ids(21, 1), ids(3, 2)]
    empty = init_cache(config, 3, 40, jnp.float32)
    if "local" in config.layer_kinds:
        assert empty.keys[0].shape[1] == RING < 40
    for pieces in ([8] * 5, [8, 8, 8] + [1] * 16, [1] * 40, [5] * 8):
        states, cache = run(params, config, sequences, pieces, empty)
        assert np.asarray(cache.lengths).tolist() == [40, 21, 3]
        for row, sequence in enumerate(sequences):
            found = logits(params, config, states[row])
            assert_close(found, full_logits(params, config, sequence))


@every_config
def test_what_is_rewound_was_never_there(name: str, small_pieces: None) -> None:
    """Whole pieces are rejected after the ring has wrapped; then the row goes on otherwise."""
    config, params = CONFIGS[name], weights(CONFIGS[name])
    sequence = ids(40)
    cache = init_cache(config, 1, 48, jnp.float32)
    found, start = [], 0
    for size, wrong in ((8, 0), (8, 8), (3, 5), (8, 8), (1, 7), (4, 4), (8, 3)):
        states, cache = run(params, config, [sequence[start : start + size]], [size], cache)
        found.append(states[0])
        start += size
        if wrong:
            _, rejected = run(params, config, [ids(wrong, start)], [wrong], cache)
            cache = dataclasses.replace(rejected, lengths=cache.lengths)
    whole = full_logits(params, config, sequence[:start])
    assert_close(logits(params, config, np.concatenate(found)), whole)


@every_config
def test_rows_are_taken_put_and_grown(name: str, small_pieces: None) -> None:
    """Two rows change places in a larger cache and go on there."""
    config, params = CONFIGS[name], weights(CONFIGS[name])
    first, second = ids(22), ids(17, 1)
    _, cache = run(params, config, [first[:12], second[:7]], [8, 8], init_cache(
        config, 2, 14, jnp.float32
    ))  # fmt: skip
    large = grown(cache, config, 4, 64)
    assert [keys.shape for keys in large.keys] == [
        keys.shape for keys in init_cache(config, 4, 64, jnp.float32).keys
    ]
    part = take_rows(large, np.asarray([1, 0, 9]))
    large = put_rows(large, np.asarray([0, 3, 9]), part)
    assert np.asarray(large.lengths).tolist() == [7, 7, 0, 12]
    rest = take_rows(large, np.asarray([3, 0]))
    states, _ = run(params, config, [first[12:], second[7:]], [5, 5], rest)
    for sequence, states_of in ((first, states[0]), (second, states[1])):
        expected = full_logits(params, config, sequence)[-10:]
        assert_close(logits(params, config, states_of), expected)


@every_config
def test_blocks_carry_a_start_to_another_row(name: str, small_pieces: None) -> None:
    config, params, sequence = CONFIGS[name], weights(CONFIGS[name]), ids(30)
    cache, other = (init_cache(config, 2, 32, jnp.float32) for _ in range(2))
    for start in range(0, 24, 8):
        piece = sequence[start : start + 8]
        _, cache = run(params, config, [piece, ids(8, start)], [8], cache)
        for place in (start, start + 4):
            other = write_block(other, jnp.int32(1), jnp.int32(place), read_block(
                cache, jnp.int32(0), jnp.int32(place), 4
            ))  # fmt: skip
    assert np.asarray(other.lengths).tolist() == [0, 24]
    states, _ = run(params, config, [[5], sequence[24:]], [6], other)
    expected = full_logits(params, config, sequence)[24:]
    assert_close(logits(params, config, states[1]), expected)


def test_a_ring_of_the_real_size_is_overwritten_rightly() -> None:
    """1,056 tokens through 1,024 slots: two pieces, then one token at a time."""
    config, params = GEMMA2, weights(GEMMA2)
    sequence = ids(1056)
    cache = init_cache(config, 1, 1056, jnp.float32)
    assert [keys.shape[1] for keys in cache.keys] == [1024, 1056, 1024]
    states, cache = run(params, config, [sequence], [512, 512] + [1] * 32, cache)
    assert sorted(held_positions(cache.lengths, 1024)[0].tolist()) == list(range(32, 1056))
    found = logits(params, config, states[0])
    assert_close(found, full_logits(params, config, sequence, 1056))


@pytest.mark.parametrize("piece", [512, 8])
@pytest.mark.parametrize("name", ["gemma2_2b_en", "gemma3_270m", "gemma3_4b_text"])
def test_rings_hold_a_window_and_a_piece(
    name: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    config = VARIANTS[name].config
    window = config.sliding_window or 0
    for length in (1, 100, window + piece, 30_000):
        slots = capacities(config, length)
        assert slots["global"] == length
        assert slots["local"] == length or slots["local"] % piece == 0
        assert min(length, window + piece) <= slots["local"] < window + 2 * piece
    assert capacities(GEMMA1, 77) == {"global": 77}


def test_memory_is_what_the_buffers_take() -> None:
    for config in (GEMMA1, GEMMA2, GEMMA3):
        for dtype, itemsize in ((jnp.bfloat16, 2), (jnp.int8, 1)):
            cache = init_cache(config, 3, 1500, dtype)
            buffers = sum(leaf.nbytes for leaf in jax.tree.leaves([cache.keys, cache.values]))
            assert cache_bytes(config, 3, 1500, itemsize) == buffers
    # 5 of 6 layers keep 1,024 of 4,096 positions.
    long = cache_bytes(VARIANTS["gemma3_1b"].config, 1, 4096, 2)
    assert long == 2 * 2 * 256 * (4 * 4096 + 22 * 1024)


def test_places_wrap_around_and_only_what_counts_is_written() -> None:
    lengths, counts = jnp.asarray([9, 4]), jnp.asarray([3, 1])
    places = slots_after(lengths, counts, 3, 6)
    assert places.tolist() == [[3, 4, 5], [4, 6, 6]]
    assert slots_after(lengths, counts, 3, 10).tolist() == [[9, 0, 1], [4, 10, 10]]
    buffer = jnp.zeros((2, 6, 1, 1), jnp.float32)
    new = jnp.arange(1, 7, dtype=jnp.bfloat16).reshape(2, 3, 1, 1)
    written = write(buffer, new, places)
    assert written[..., 0, 0].tolist() == [[0, 0, 0, 1, 2, 3], [0, 0, 0, 0, 4, 0]]
    assert written.dtype == jnp.float32


def test_eight_bits_are_as_near_as_they_can_be() -> None:
    x = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)
    x[7] = 0
    packed = quantise(jnp.asarray(x))
    back = np.asarray(packed.values, np.float32) * np.asarray(packed.scales)[..., None]
    assert (np.abs(back - x) <= np.abs(x).max(-1, keepdims=True) / 254 + 1e-6).all()
    assert np.abs(np.asarray(packed.values)).max(-1)[[0, 7]].tolist() == [127, 0]


@every_config
def test_a_cache_of_eight_bits_is_close(name: str, small_pieces: None) -> None:
    config, params, sequence = CONFIGS[name], weights(CONFIGS[name]), ids(40)
    exact = full_logits(params, config, sequence)
    pieces = [8, 8, 8] + [1] * 16
    states, cache = run(params, config, [sequence], pieces, init_cache(config, 1, 40, jnp.int8))
    assert jax.tree.leaves(cache.keys)[0].dtype == jnp.int8
    error = np.abs(logits(params, config, states[0]) - exact).mean()
    assert 0 < error < 0.05 * np.abs(exact).mean()


@pytest.mark.parametrize("length", [3, 7, 24])
@every_config
def test_prefix_and_rest_are_the_whole(name: str, length: int, small_pieces: None) -> None:
    """A prefix shorter than the window, longer, and longer than its ring."""
    config, params = CONFIGS[name], weights(CONFIGS[name])
    prefix, rests = ids(length), [ids(9, 1), ids(2, 2)]
    _, cache = run(params, config, [prefix], [8] * 3, init_cache(config, 1, 24, jnp.float32))
    held = [np.asarray(keys) for keys in cache.keys]
    batch = rows(rests, 10)
    batch["positions"] += length
    states = np.asarray(hidden(params, config, **batch, prefix=cache))
    assert np.isfinite(states).all()
    for row, rest in enumerate(rests):
        found = logits(params, config, states[row, : len(rest)])
        assert_close(found, full_logits(params, config, prefix + rest)[length:])
    assert all(np.array_equal(before, keys) for before, keys in zip(held, cache.keys, strict=True))


def test_prefix_goes_with_packing_branches_and_places(small_pieces: None) -> None:
    """One row: prefix, then (5 tokens | branch 1: 2 tokens | branch 2: 1 token)."""
    config, params, prefix = GEMMA3, weights(GEMMA3), ids(24)
    _, cache = run(params, config, [prefix], [8] * 3, init_cache(config, 1, 24, jnp.float32))
    start, first, second = ids(5, 1), ids(2, 2), ids(1, 3)
    rest = np.asarray([
        [*start, *first, *second, 0],
        [24, 25, 26, 27, 28, 29, 30, 29, 0],
        [1] * 8 + [0],
        [0] * 5 + [1, 1, 2, 0],
    ], np.int32)  # fmt: skip
    at = np.asarray([4, 6, 7], np.int32)
    states = hidden(params, config, *rest[:, None], prefix=cache, at=at)
    ends = (start, start + first, start + second)
    expected = [full_logits(params, config, prefix + end)[-1] for end in ends]
    assert_close(logits(params, config, states), np.stack(expected))


def test_bfloat16_decodes_near_the_full_forward(small_pieces: None) -> None:
    params, sequence = weights(GEMMA3, "bfloat16"), ids(20)
    cache = init_cache(GEMMA3, 1, 24, jnp.bfloat16)
    states, cache = run(params, GEMMA3, [sequence], [8, *[1] * 12], cache)
    assert vectors(cache.keys[0]).dtype == jnp.bfloat16
    found = logits(params, GEMMA3, states[0])
    expected = full_logits(weights(GEMMA3), GEMMA3, sequence)
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()


def test_a_row_that_reads_nothing_is_finite_and_stays() -> None:
    cache = init_cache(GEMMA3, 2, 16, jnp.float32)
    tokens, counts = np.asarray([ids(4), ids(4)], np.int32), np.asarray([4, 0], np.int32)
    states, cache = hidden_cached(weights(GEMMA3), GEMMA3, tokens, counts, cache)
    assert np.isfinite(np.asarray(states)).all()
    assert np.asarray(cache.lengths).tolist() == [4, 0]
    assert not any(np.asarray(leaf)[1].any() for leaf in cache.keys + cache.values)
