"""Whether two models are the same: their logits on a probe, computed a layer at a time.

Neither model has to fit in memory: a leaf is read when its layer's turn comes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.kernels.dot import available
from gemkit.model import layers, transformer
from gemkit.model.attention import causal_mask
from gemkit.model.config import GemmaConfig, LayerKind
from gemkit.model.weights import Params, specs, unflatten

PROBE_TOKENS = 16
# Of the embedding, in float32 at a time: 16 MB, which the allocator has ready for the next piece.
HEAD_ELEMENTS = 2**22


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far two models' float32 logits on the probe are from each other.

    Attributes:
      difference: the largest between any two logits.
      largest: the largest absolute logit of the first model.
      agreeing: places of the probe at which both find the same token likeliest.
      places: of the probe.
    """

    difference: float
    largest: float
    agreeing: int
    places: int

    def __str__(self) -> str:
        if self.difference == 0:
            return f"logits equal to the last bit on a probe of {self.places} tokens"
        return (
            f"largest logit difference {self.difference:.2g} (logits reach {self.largest:.3g}), "
            f"same likeliest token at {self.agreeing} of {self.places} places of the probe"
        )


def compare(first: np.ndarray, second: np.ndarray) -> Parity:
    """Two results [T, V] of `probe_logits`."""
    agreeing = int((first.argmax(1) == second.argmax(1)).sum())
    difference = float(np.abs(first - second).max())
    return Parity(difference, float(np.abs(first).max()), agreeing, len(first))


def probe_logits(config: GemmaConfig, leaf: Callable[[str], Any]) -> np.ndarray:
    """Logits [T, V] in float32 for a probe that depends on the size of the vocabulary only.

    Args:
      leaf: gives the leaf of a path, of any type `linear` accepts.
    """
    count = min(PROBE_TOKENS, config.max_positions)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, count).astype(np.int32)
    tokens[0] = 2  # <bos>
    table = leaf("embed")
    x = layers.embed(table[tokens].astype(jnp.float32), jnp.arange(count)[None])
    paths: dict[int, list[str]] = {}
    for path in specs(config):
        if path.startswith("layers."):
            paths.setdefault(int(path.split(".")[1]), []).append(path)
    for index, kind in enumerate(config.layer_kinds):
        own = {path.removeprefix(f"layers.{index}."): leaf(path) for path in paths[index]}
        x = _block(_for_float32(own), x, config, kind)
    states = layers.rms_norm(x, _for_float32(leaf("final_norm")), config.norm_eps)[0]
    step = max(1, HEAD_ELEMENTS // config.hidden_size)
    found = [
        np.asarray(transformer.logits({"embed": _for_float32(table[n : n + step])}, config, states))
        for n in range(0, config.vocab_size, step)
    ]
    return np.concatenate(found, axis=1)


def _for_float32(tree: Any) -> Any:
    """The leaves in float32, but for matrices that are multiplied as they are as exactly."""

    def converted(leaf: jax.Array) -> jax.Array:
        as_it_is = leaf.ndim == 2 and leaf.dtype == jnp.bfloat16 and available()
        return leaf if as_it_is else leaf.astype(jnp.float32)

    return jax.tree.map(converted, tree)


@functools.partial(jax.jit, static_argnames=("config", "kind"))
def _block(
    leaves: Mapping[str, Any], x: jax.Array, config: GemmaConfig, kind: LayerKind
) -> jax.Array:
    layer: Params = unflatten(dict(leaves))
    positions = jnp.arange(x.shape[1], dtype=jnp.int32)[None]
    mask = causal_mask(positions, positions, config.window(kind))
    angles = transformer.rotations(config, positions)[kind]
    return transformer.block(layer, x, config, angles, mask, lambda k, v: (k, v))
