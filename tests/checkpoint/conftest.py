"""Tiny models of every generation, with sizes that differ wherever two could be confused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from toy_vocabulary import small_vocabulary

from gemkit.model.config import GemmaConfig
from gemkit.text.tokenizer import Tokenizer

# JAX is imported in the fixtures: a conftest is read before the settings it starts with are made.
Params = dict[str, Any]

_SIZES: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 40, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8,
    "vocab_size": 320,
}  # fmt: skip
_GEMMA2: dict[str, Any] = {
    "attention_pattern": ("local", "global"), "sliding_window": 5, "attn_logit_softcap": 50.0,
    "final_logit_softcap": 30.0, "post_norms": True,
}  # fmt: skip

TINY = {
    "gemma1": GemmaConfig(num_layers=2, query_scale=8**-0.5, **_SIZES),
    "gemma2": GemmaConfig(num_layers=3, query_scale=8**-0.5, **_SIZES, **_GEMMA2),
    "gemma2_27b": GemmaConfig(num_layers=2, query_scale=6**-0.5, **_SIZES, **_GEMMA2),
    "gemma3": GemmaConfig(
        num_layers=7, query_scale=8**-0.5, **_SIZES, sliding_window=5, qk_norm=True,
        attention_pattern=("local",) * 5 + ("global",), post_norms=True, rope_theta=1e6,
        rope_scale=8.0, max_positions=131_072,
    ),
}  # fmt: skip


@pytest.fixture(params=TINY)
def config(request: pytest.FixtureRequest) -> GemmaConfig:
    """A tiny model of each generation in turn."""
    return TINY[request.param]


@pytest.fixture(scope="session")
def tiny() -> dict[str, GemmaConfig]:
    return TINY


@pytest.fixture(scope="session")
def weights() -> Callable[..., Params]:
    """weights(config, dtype="float32") → random weights, norm scales too."""
    import jax.numpy as jnp

    from gemkit.model.weights import specs, unflatten

    def make(config: GemmaConfig, dtype: str = "float32") -> Params:
        rng = np.random.default_rng(7)
        drawn = {p: rng.normal(size=spec.shape) * 0.3 for p, spec in specs(config).items()}
        return unflatten({path: jnp.asarray(leaf, dtype) for path, leaf in drawn.items()})

    return make


@pytest.fixture(scope="session")
def same() -> Callable[[Params, Params], bool]:
    """Whether two trees have the same paths, dtypes and values."""
    from gemkit.model.weights import flatten

    def compare(a: Params, b: Params) -> bool:
        left, right = dict(flatten(a)), dict(flatten(b))
        return left.keys() == right.keys() and all(
            left[p].dtype == right[p].dtype and np.array_equal(left[p], right[p]) for p in left
        )

    return compare


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A vocabulary of 320 pieces with Gemma's first ids."""
    return small_vocabulary()


@pytest.fixture(scope="session")
def keras_config() -> Callable[[GemmaConfig], dict[str, Any]]:
    """The config.json today's KerasHub writes for a tiny model."""

    def describe(config: GemmaConfig) -> dict[str, Any]:
        gemma3 = config.qk_norm
        settings = {
            "name": "backbone", "trainable": True,
            "dtype": {"class_name": "DTypePolicy", "config": {"name": "float32"}},
            "vocabulary_size": config.vocab_size, "num_layers": config.num_layers,
            "num_query_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads,
            "hidden_dim": config.hidden_size,
            "intermediate_dim": config.intermediate_size * (1 if gemma3 else 2),
            "head_dim": config.head_dim, "layer_norm_epsilon": 1e-6, "dropout": 0,
            "query_head_dim_normalize": config.query_scale == config.head_dim**-0.5,
            "use_post_ffw_norm": config.post_norms, "use_post_attention_norm": config.post_norms,
            "final_logit_soft_cap": config.final_logit_softcap,
            "attention_logit_soft_cap": config.attn_logit_softcap,
            "sliding_window_size": config.sliding_window or 4096,
            "use_sliding_window_attention": "local" in config.attention_pattern,
        }  # fmt: skip
        if gemma3:
            settings |= {
                "image_size": 896, "use_query_key_norm": True, "vision_encoder": None,
                "local_rope_scaling_factor": 1.0,
                "global_rope_scaling_factor": config.rope_scale,
                "use_bidirectional_attention": False, "is_embedding_model": False,
                "pooling_intermediate_dim": None, "embedding_dim": None,
            }  # fmt: skip
        name = "Gemma3Backbone" if gemma3 else "GemmaBackbone"
        return {
            "module": "keras_hub.src.models", "class_name": name, "config": settings,
            "registered_name": f"keras_hub>{name}",
        }  # fmt: skip

    return describe


@pytest.fixture(scope="session")
def write_preset(
    keras_config: Callable[[GemmaConfig], dict[str, Any]],
) -> Callable[..., dict[str, np.ndarray]]:
    """write_preset(folder, config, params, prefix="layers/") → what it wrote, by dataset name."""
    from gemkit.checkpoint.names import cells
    from gemkit.model.weights import flatten

    def write(
        folder: Path, config: GemmaConfig, params: Params, prefix: str = "layers/"
    ) -> dict[str, np.ndarray]:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(keras_config(config)))
        kind = "gemma3" if config.qk_norm else "gemma"
        leaves = dict(flatten(params))
        written = {}
        with h5py.File(folder / "model.weights.h5", "w") as file:
            for path, cell in cells(config, "keras").items():
                name = prefix + cell.name.replace("decoder_block", f"{kind}_decoder_block")
                stored = cell.layout.store(np.asarray(leaves[path]), config.head_dim)
                stored = np.ascontiguousarray(stored)
                if stored.dtype == ml_dtypes.bfloat16:
                    stored = stored.view("V2")
                written[name] = file[name] = stored
            file["optimizer/vars/0"] = np.int32(3)
        return written

    return write
