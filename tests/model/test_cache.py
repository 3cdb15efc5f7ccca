"""Decoding with a cache against whole rows: full buffers, rings, padding, prefixes."""

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
from gemkit.model.cache import KVCache, cache_bytes, capacities, init_cache, write
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


def left_padded(sequences: Sequence[Sequence[int]], length: int) -> tuple[jax.Array, jax.Array]:
    """Tokens and positions [B, T]; -1 is the position of padding, whose token is any."""
    tokens = np.full((len(sequences), length), 3, np.int32)
    positions = np.full((len(sequences), length), -1, np.int32)
    for row, sequence in enumerate(sequences):
        tokens[row, length - len(sequence) :] = sequence
        positions[row, length - len(sequence) :] = np.arange(len(sequence))
    return jnp.asarray(tokens), jnp.asarray(positions)


def run(
    params: Params, config: GemmaConfig, batch: tuple[jax.Array, jax.Array],
    pieces: Sequence[int], cache: KVCache,
) -> tuple[np.ndarray, KVCache]:  # fmt: skip
    """States [B, T, D] of the columns, fed in pieces of these sizes."""
    states, start = [], 0
    for size in pieces:
        part = (array[:, start : start + size] for array in batch)
        new, cache = hidden_cached(params, config, *part, cache)
        states.append(np.asarray(new))
        start += size
    assert start == batch[0].shape[1]
    return np.concatenate(states, axis=1), cache


@every_config
def test_prefill_and_decode_are_the_full_forward(name: str, small_pieces: None) -> None:
    """Rows of 40, 21 and 3 tokens: the first overwrites its ring more than twice."""
    config, params = CONFIGS[name], weights(CONFIGS[name])
    sequences = [ids(40), ids(21, 1), ids(3, 2)]
    empty = init_cache(config, 3, 40, jnp.float32)
    if "local" in config.layer_kinds:
        assert empty.keys[0].shape[1] == RING < 40
    batch = left_padded(sequences, 40)
    for pieces in ([8] * 5, [8, 8, 8] + [1] * 16, [1] * 40):
        states, cache = run(params, config, batch, pieces, empty)
        assert np.isfinite(states).all()
        assert int(cache.cursor) == 40
        for row, sequence in enumerate(sequences):
            found = logits(params, config, states[row, -len(sequence) :])
            assert_close(found, full_logits(params, config, sequence))


def test_a_ring_of_the_real_size_is_overwritten_rightly() -> None:
    """1,056 tokens through 1,024 slots: two pieces, then one token at a time."""
    config, params = GEMMA2, weights(GEMMA2)
    sequence = ids(1056)
    cache = init_cache(config, 1, 1056, jnp.float32)
    assert [keys.shape[1] for keys in cache.keys] == [1024, 1056, 1024]
    batch = left_padded([sequence], 1056)
    states, cache = run(params, config, batch, [512, 512] + [1] * 32, cache)
    assert sorted(cache.positions["local"][0].tolist()) == list(range(32, 1056))
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
        cache = init_cache(config, 3, 1500, jnp.bfloat16)
        buffers = sum(array.nbytes for array in cache.keys + cache.values)
        assert cache_bytes(config, 3, 1500, 2) == buffers
    # 5 of 6 layers keep 1,024 of 4,096 positions.
    long = cache_bytes(VARIANTS["gemma3_1b"].config, 1, 4096, 2)
    assert long == 2 * 2 * 256 * (4 * 4096 + 22 * 1024)


def test_writing_wraps_around() -> None:
    buffer = jnp.zeros((2, 6, 1), jnp.float32)
    new = jnp.arange(1, 7, dtype=jnp.float32).reshape(2, 3, 1)
    written = write(buffer, new, jnp.int32(9))
    assert written[..., 0].tolist() == [[0, 0, 0, 1, 2, 3], [0, 0, 0, 4, 5, 6]]
    one = write(written, new[:, :1].astype(jnp.bfloat16), jnp.int32(12))
    assert one[..., 0].tolist() == [[1, 0, 0, 1, 2, 3], [4, 0, 0, 4, 5, 6]]
    assert one.dtype == jnp.float32


@pytest.mark.parametrize("length", [3, 7, 24])
@every_config
def test_prefix_and_rest_are_the_whole(name: str, length: int, small_pieces: None) -> None:
    """A prefix shorter than the window, longer, and longer than its ring."""
    config, params = CONFIGS[name], weights(CONFIGS[name])
    prefix, rests = ids(length), [ids(9, 1), ids(2, 2)]
    batch = left_padded([prefix], 24)
    _, cache = run(params, config, batch, [8] * 3, init_cache(config, 1, 24, jnp.float32))
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
    batch = left_padded([prefix], 24)
    _, cache = run(params, config, batch, [8] * 3, init_cache(config, 1, 24, jnp.float32))
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
    states, cache = run(params, GEMMA3, left_padded([sequence], 24), [8, *[1] * 16], cache)
    assert cache.keys[0].dtype == jnp.bfloat16
    found = logits(params, GEMMA3, states[0, 4:])
    expected = full_logits(weights(GEMMA3), GEMMA3, sequence)
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()


def test_a_row_of_padding_alone_is_finite() -> None:
    cache = init_cache(GEMMA3, 2, 16, jnp.float32)
    batch = left_padded([ids(4), []], 8)
    states, cache = run(weights(GEMMA3), GEMMA3, batch, [8], cache)
    assert np.isfinite(states).all()
    assert cache.positions["local"][1].tolist() == [-1] * 16
