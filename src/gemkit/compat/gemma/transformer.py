"""`gemma.transformer` of 2024: configuration, forward pass, masks.

The forward pass takes the parameters and the attention mask as arguments, as Flax' `apply` does,
and can be differentiated. Only Gemma's own rule of what is in a local layer's window is added to
the mask.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gemkit.checkpoint.flax.config import recognise_config
from gemkit.compat.gemma.tree import from_tree
from gemkit.compat.missing import Shim, names_missing
from gemkit.errors import UsageError
from gemkit.model import layers
from gemkit.model.attention import causal_mask
from gemkit.model.config import GemmaConfig
from gemkit.model.transformer import block, logits, rotations
from gemkit.model.variants import VARIANTS


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The sizes by the names of 2024.

    Attributes:
      max_cache_length: kept, but gemkit's caches grow with the answer.
      model: the whole configuration; None stands for a Gemma 1 of these sizes.
    """

    num_layers: int
    num_embed: int
    embed_dim: int
    hidden_dim: int
    num_heads: int
    head_dim: int
    num_kv_heads: int
    max_cache_length: int = 1024
    model: GemmaConfig | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any], cache_size: int = 1024) -> "TransformerConfig":
        """The configuration of what `load_and_format_params` gave.

        Of another mapping the sizes are read off the shapes, and what these do not show is that
        of the nearest published model.
        """
        model = getattr(params, "config", None)
        if model is None:
            if "transformer" not in params:
                raise UsageError(
                    f"the parameters have {', '.join([*params][:3])}", "'transformer' at the top"
                )
            model = recognise_config(_shapes(params["transformer"]), Path("params"))
        return cls.of(model, cache_size)

    @classmethod
    def of(cls, model: GemmaConfig, cache_size: int = 1024) -> "TransformerConfig":
        """A GemmaConfig by the names of 2024."""
        return cls(
            model.num_layers, model.vocab_size, model.hidden_size, model.intermediate_size,
            model.num_heads, model.head_dim, model.num_kv_heads, cache_size, model,
        )  # fmt: skip

    @classmethod
    def gemma_2b(cls, cache_size: int = 1024) -> "TransformerConfig":
        """Gemma 1, 2B."""
        return cls.of(VARIANTS["gemma_2b_en"].config, cache_size)

    @classmethod
    def gemma_7b(cls, cache_size: int = 1024) -> "TransformerConfig":
        """Gemma 1, 7B."""
        return cls.of(VARIANTS["gemma_7b_en"].config, cache_size)

    @property
    def gemma(self) -> GemmaConfig:
        """The whole configuration."""
        if self.model is not None:
            return self.model
        return GemmaConfig(
            num_layers=self.num_layers, vocab_size=self.num_embed, hidden_size=self.embed_dim,
            intermediate_size=self.hidden_dim, num_heads=self.num_heads, head_dim=self.head_dim,
            num_kv_heads=self.num_kv_heads, query_scale=self.head_dim**-0.5,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Transformer(Shim):
    """The model without its parameters; hashable, so it may be a static argument of a jit."""

    config: TransformerConfig

    own_way = "apply, or gemkit's own model, which gemkit.load gives"
    ways = {
        "init": "load_and_format_params, or gemkit.model.weights.init_params for random ones",
    }

    def apply(
        self, variables: Mapping[str, Any], last_tokens: jax.Array, positions: jax.Array,
        cache: Any, attention_mask: jax.Array,
    ) -> tuple[jax.Array, None]:  # fmt: skip
        """The forward pass.

        Args:
          variables: {"params": tree}.
          last_tokens: [B, L] token ids.
          positions: [B, L].
          cache: None.
          attention_mask: bool [B, L, L], which keys each query sees.

        Returns:
          Float32 logits [B, L, V], and None for the cache.

        Raises:
          UsageError: with a cache, or parameters without the tree.
        """
        if cache is not None:
            raise UsageError(
                "a cache is given", "None", "to generate, use Sampler or gemkit's lm.generate"
            )
        if "params" not in variables:
            raise UsageError(
                f"variables have {', '.join([*variables][:3])}", "{'params': the parameters}"
            )
        config = self.config.gemma
        params = from_tree(config, variables["params"])
        places = jnp.asarray(positions, jnp.int32)
        angles = rotations(config, places)
        x = layers.embed(params["embed"], jnp.asarray(last_tokens))
        seen = jnp.asarray(attention_mask, bool)
        near = seen
        if "local" in config.layer_kinds:
            near = seen & causal_mask(places, places, config.sliding_window)
        for layer, kind in zip(params["layers"], config.layer_kinds, strict=True):
            mask = near if kind == "local" else seen
            x = block(layer, x, config, angles[kind], mask, lambda k, v: (k, v))
        x = layers.rms_norm(x, params["final_norm"], config.norm_eps)
        return logits(params, config, x), None

    def init_cache(self, *_: Any, **__: Any) -> None:
        """Not here: `Sampler` keeps a cache of its own.

        Raises:
          UsageError: always.
        """
        raise UsageError(
            "init_cache is not available", "apply without a cache",
            "to generate, use Sampler or gemkit's lm.generate",
        )  # fmt: skip


def build_positions_from_mask(input_mask: jax.Array) -> jax.Array:
    """Positions [..., L] from 0 of the tokens that are no padding, given which are (bool)."""
    counted = jnp.cumsum(jnp.asarray(input_mask, jnp.int32), axis=-1)
    return jnp.maximum(counted - 1, 0)


def make_causal_attn_mask(input_mask: jax.Array) -> jax.Array:
    """bool [..., L, L]: each token sees itself and those before it that are no padding."""
    mask = jnp.asarray(input_mask, bool)
    length = mask.shape[-1]
    return mask[..., None, :] & jnp.tril(jnp.ones((length, length), bool))


def _shapes(tree: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Table name → shape, fused arrays by the names of their parts."""
    found: dict[str, tuple[int, ...]] = {}
    for step, child in tree.items():
        if isinstance(child, Mapping):
            found |= _shapes(child, f"{prefix}{step}/")
            continue
        name = f"{prefix}{step}"
        found[name] = tuple(child.shape)
        if name.endswith("attn/kv_einsum/w"):
            found[f"{name}#0"] = tuple(child.shape[1:])
        elif name.endswith("attn/qkv_einsum/w"):
            found[name.replace("qkv_", "kv_") + "#0"] = tuple(child.shape[1:])
    return found

__getattr__ = names_missing(__name__, "Transformer.apply, or the parts in gemkit.model.transformer")
