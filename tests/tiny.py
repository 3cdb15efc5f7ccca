"""Small models in which every feature changes the result, and slow obvious ways to run them.

Sequences are longer than the window, weights large enough for the soft caps to bend, N != K,
N*H != D, query scales are not H**-0.5, and the rope bases of the two kinds of layer differ.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, specs, unflatten

VOCABULARY = 97
WINDOW = 5
SIZES: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 20, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8,
    "vocab_size": VOCABULARY, "query_scale": 0.3, "max_positions": 4096,
}  # fmt: skip

GEMMA1 = GemmaConfig(num_layers=2, **SIZES)
GEMMA2 = GemmaConfig(
    num_layers=3, attention_pattern=("local", "global"), sliding_window=WINDOW,
    attn_logit_softcap=1.5, final_logit_softcap=3.0, post_norms=True, **SIZES,
)  # fmt: skip
GEMMA3 = GemmaConfig(
    num_layers=3, attention_pattern=("local", "local", "global"), sliding_window=WINDOW,
    rope_theta=1_000_000.0, rope_scale=8.0, qk_norm=True, post_norms=True, **SIZES,
)  # fmt: skip
CONFIGS = {"gemma1": GEMMA1, "gemma2": GEMMA2, "gemma3": GEMMA3}

hidden = jax.jit(transformer.hidden, static_argnames=("config", "remat"))


@functools.cache
def weights(config: GemmaConfig, dtype: str = "float32") -> Params:
    """Normal weights of deviation 0.3, norm scales included.

    What the blocks add is made several times larger than the embedding: else a model with tied
    embeddings mostly repeats its last token.
    """
    draw = np.random.default_rng(7)
    leaves = {}
    for path, spec in specs(config).items():
        leaf = draw.normal(size=spec.shape) * 0.3
        if path.endswith(("attn.o", "mlp.down")):
            leaf *= 3
        elif ".post_" in path:
            leaf += 3
        leaves[path] = jnp.asarray(leaf, dtype)
    return unflatten(leaves)


def ids(length: int, seed: int = 0) -> list[int]:
    """Random token ids, none of them a control token."""
    return np.random.default_rng(seed).integers(4, VOCABULARY, length).tolist()


def rows(sequences: Sequence[Sequence[int]], length: int) -> dict[str, jax.Array]:
    """tokens, positions and segments of one sequence a row, padded on the right."""
    tokens, positions, segments = np.zeros((3, len(sequences), length), np.int32)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = sequence
        positions[row, : len(sequence)] = np.arange(len(sequence))
        segments[row, : len(sequence)] = 1
    named = {"tokens": tokens, "positions": positions, "segments": segments}
    return {name: jnp.asarray(array) for name, array in named.items()}


def logits(params: Params, config: GemmaConfig, states: Any) -> np.ndarray:
    """Float64 logits of states, in NumPy."""
    raw = np.asarray(states, np.float64) @ np.asarray(params["embed"], np.float64).T
    cap = config.final_logit_softcap
    return raw if cap is None else cap * np.tanh(raw / cap)


def full_logits(
    params: Params, config: GemmaConfig, sequence: Sequence[int], length: int = 64
) -> np.ndarray:
    """Logits [T, V] of one sequence by one plain forward pass, padded so as to compile once."""
    states = np.asarray(hidden(params, config, **rows([sequence], length)))
    return logits(params, config, states[0, : len(sequence)])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def assert_close(ours: Any, expected: Any, tolerance: float = 2e-5) -> None:
    """Largest difference against the largest value."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() <= tolerance * np.abs(expected).max()
