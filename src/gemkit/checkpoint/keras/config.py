"""What a Keras preset says of its model: KerasHub's config.json ↔ GemmaConfig, and its names.

Sources: keras-hub `models/gemma*/*_backbone.py`, `utils/preset_utils.py`. What a preset cannot
say is filled as KerasHub fills it, except for the query scale: KerasHub passes
`query_head_dim_normalize=True` to every attention layer, whatever the preset says, so its 27B
models run with another scale than they were trained with. Here `false` means D/N, as trained,
both ways.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from gemkit.checkpoint.files import SIZE_LIMITS, Settings
from gemkit.errors import ConfigError
from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS

WEIGHTS_NAME = "model.weights.h5"
INDEX_NAME = "model.weights.json"

# In the order KerasHub writes them.
_SIZES = {
    "vocab_size": "vocabulary_size",
    "num_layers": "num_layers",
    "num_heads": "num_query_heads",
    "num_kv_heads": "num_key_value_heads",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "head_dim": "head_dim",
}
_DEFAULTS: dict[str, Any] = {
    "layer_norm_epsilon": 1e-6, "query_head_dim_normalize": True, "use_post_ffw_norm": False,
    "use_post_attention_norm": False, "final_logit_soft_cap": None,
    "attention_logit_soft_cap": None, "use_sliding_window_attention": False,
}  # fmt: skip
_GEMMA3_DEFAULTS: dict[str, Any] = {
    "use_query_key_norm": True, "local_rope_scaling_factor": 1.0,
    "global_rope_scaling_factor": None,
}  # fmt: skip
_HARMLESS = {
    "name", "trainable", "dtype", "dropout", "sliding_window_size", "image_size",
    "vision_encoder",
}  # fmt: skip


def read_config(raw: Mapping[str, Any], where: str = "config.json") -> GemmaConfig:
    """GemmaConfig of a parsed preset config.json, of any KerasNLP or KerasHub version.

    Raises:
        ConfigError: another class than GemmaBackbone or Gemma3Backbone, or a setting that
            gemkit cannot honour; the line names `where`.
    """
    gemma3 = is_gemma3(raw, where)
    inner = raw.get("config")
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{where}: no config object", "a KerasHub preset")
    defaults = _DEFAULTS | (_GEMMA3_DEFAULTS if gemma3 else {})
    settings = Settings(defaults | dict(inner), where)
    _refuse_unknown(settings, {*_SIZES.values(), *defaults})
    sizes = {ours: settings.integer(key, SIZE_LIMITS[ours]) for ours, key in _SIZES.items()}
    if not gemma3:
        if sizes["intermediate_size"] % 2:
            raise settings.error("intermediate_dim", "an even number: it counts both branches")
        sizes["intermediate_size"] //= 2
    post_norms = settings.flag("use_post_ffw_norm", False)
    if settings.flag("use_post_attention_norm", False) != post_norms:
        raise settings.error("use_post_attention_norm", "the same as use_post_ffw_norm")
    per_query = sizes["head_dim"]
    if not settings.flag("query_head_dim_normalize", True):
        per_query = sizes["hidden_size"] // sizes["num_heads"]
    if per_query < 1:
        raise settings.error("num_query_heads", "at most hidden_dim")
    local = settings.flag("use_sliding_window_attention", False)
    fields: dict[str, Any] = {
        **sizes,
        **(_gemma3_fields(settings, sizes, local) if gemma3 else _gemma_fields(local)),
        "query_scale": per_query**-0.5,
        "sliding_window": settings.integer("sliding_window_size", SIZE_LIMITS["max_positions"])
        if local else None,
        "attn_logit_softcap": settings.optional("attention_logit_soft_cap"),
        "final_logit_softcap": settings.optional("final_logit_soft_cap"),
        "post_norms": post_norms,
    }  # fmt: skip
    try:
        return GemmaConfig(**fields)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.what}") from None


def is_gemma3(raw: Mapping[str, Any], where: str = "config.json") -> bool:
    """Whether the preset is a Gemma3Backbone rather than a GemmaBackbone."""
    name = str(raw.get("registered_name") or raw.get("class_name")).rpartition(">")[2]
    if name not in ("GemmaBackbone", "Gemma3Backbone"):
        raise ConfigError(
            f"{where}: registered_name is {name!r}", "GemmaBackbone or Gemma3Backbone",
            "gemkit runs Gemma 1 to 3 and CodeGemma",
        )  # fmt: skip
    return name == "Gemma3Backbone"


def _gemma_fields(local: bool) -> dict[str, Any]:
    return {"attention_pattern": ("local", "global") if local else ("global",)}


def _gemma3_fields(settings: Settings, sizes: dict[str, int], local: bool) -> dict[str, Any]:
    if settings.number("local_rope_scaling_factor") != 1.0 and local:
        raise settings.error("local_rope_scaling_factor", "1: gemkit scales no local layers")
    # The preset of a published model is recognised by its shape: KerasHub 0.20 wrote no scaling
    # factor and applied 8, and no version writes the longest context.
    published = [v.config for v in VARIANTS.values() if v.config.qk_norm]
    twins = [c for c in published if all(getattr(c, key) == n for key, n in sizes.items())]
    scale = settings.optional("global_rope_scaling_factor")
    if scale is None:
        scale = twins[0].rope_scale if twins else 1.0
    return {
        "attention_pattern": ("local",) * 5 + ("global",) if local else ("global",),
        "rope_theta": 1_000_000.0,
        "rope_scale": scale,
        "qk_norm": settings.flag("use_query_key_norm", True),
        "max_positions": twins[0].max_positions if twins else 131_072,
    }


def _refuse_unknown(settings: Settings, known: set[str]) -> None:
    for key, value in settings.values.items():
        if key not in known and key not in _HARMLESS and value:
            raise settings.error(key, "settings of a Gemma text model that gemkit knows")
    # KerasHub gives the setting to the last norm only and 1e-6 to all others.
    if settings.number("layer_norm_epsilon") != 1e-6:
        raise settings.error("layer_norm_epsilon", "1e-06")
    if "quantiz" in str(settings.values.get("dtype")).lower():
        raise settings.error(
            "dtype", "a preset that is not quantised", "save it in bfloat16 with KerasHub"
        )


def write_config(config: GemmaConfig, dtype: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The config.json that makes KerasHub build the same model, and remarks on what it cannot say.

    Args:
      dtype: of the weights, numpy's name.

    Raises:
        ConfigError: no backbone of KerasHub computes what this configuration says.
    """
    described = _described(config, dtype)
    # The reader knows what a preset means, so what it gets back differently cannot be said.
    wrong = list(_differences(config, read_config(described, described["class_name"])))
    if wrong:
        raise ConfigError(
            f"Keras' {described['class_name']} cannot express {', '.join(wrong)}",
            "a Gemma 1, 2 or 3 configuration", "save in another format",
        )  # fmt: skip
    if described["config"]["query_head_dim_normalize"]:
        return described, ()
    return described, (
        f"the preset says that queries are scaled by {config.query_scale:.4g}, which gemkit "
        f"honours; KerasHub scales by {config.head_dim**-0.5:.4g} whatever a preset says",
    )


def _described(config: GemmaConfig, dtype: str) -> dict[str, Any]:
    gemma3 = config.qk_norm
    settings: dict[str, Any] = {
        **{key: getattr(config, ours) for ours, key in _SIZES.items()},
        "layer_norm_epsilon": 1e-6, "dropout": 0,
        "query_head_dim_normalize": _close(config.query_scale, config.head_dim**-0.5),
        "use_post_ffw_norm": config.post_norms, "use_post_attention_norm": config.post_norms,
        "final_logit_soft_cap": config.final_logit_softcap,
        "attention_logit_soft_cap": config.attn_logit_softcap,
        "sliding_window_size": config.sliding_window or (1024 if gemma3 else 4096),
        "use_sliding_window_attention": "local" in config.layer_kinds,
    }  # fmt: skip
    if gemma3:
        settings |= {
            "image_size": 896, "vision_encoder": None, "use_query_key_norm": True,
            "local_rope_scaling_factor": 1.0, "global_rope_scaling_factor": config.rope_scale,
            "use_bidirectional_attention": False, "is_embedding_model": False,
            "pooling_intermediate_dim": None, "embedding_dim": None,
        }  # fmt: skip
    else:
        settings["intermediate_dim"] *= 2  # both branches
    return serialized(family(config), "backbone", layer(settings, dtype))


def _differences(config: GemmaConfig, read: GemmaConfig) -> Iterator[str]:
    """Settings that would change the result, and what Keras makes of them."""
    if config.layer_kinds != read.layer_kinds:
        yield f"attention_pattern {config.attention_pattern} (it has {read.attention_pattern})"
    without = {
        "local": ("rope_local_theta", "sliding_window"), "global": ("rope_theta", "rope_scale"),
    }  # fmt: skip
    idle = {name for kind, names in without.items() if kind not in config.layer_kinds
            for name in names}  # fmt: skip
    for field in dataclasses.fields(config):
        ours, theirs = getattr(config, field.name), getattr(read, field.name)
        if field.name in idle | {"attention_pattern", "max_positions"} or ours == theirs:
            continue
        if not (isinstance(ours, float) and isinstance(theirs, float) and _close(ours, theirs)):
            yield f"{field.name} {ours} (it has {theirs})"


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)


def family(config: GemmaConfig) -> str:
    """KerasHub's name of the generation: Gemma 1 and 2 are one."""
    return "gemma3" if config.qk_norm else "gemma"


def dataset_name(name: str, family: str) -> str:
    """Where a weights file keeps what the names table calls `name`.

    >>> dataset_name("decoder_block_1/ffw_linear/vars/0", "gemma3")
    'layers/gemma3_decoder_block_1/ffw_linear/vars/0'
    """
    return "layers/" + name.replace("decoder_block", f"{family}_decoder_block")


_CLASSES = {
    "backbone": "Backbone", "tokenizer": "Tokenizer", "causal_lm": "CausalLM",
    "causal_lm_preprocessor": "CausalLMPreprocessor",
}  # fmt: skip


def serialized(family: str, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """An object of KerasHub as Keras serialises it.

    >>> serialized("gemma3", "tokenizer", {})["registered_name"]
    'keras_hub>Gemma3Tokenizer'
    """
    name = family.capitalize() + _CLASSES[kind]
    return {
        "module": f"keras_hub.src.models.{family}.{family}_{kind}",
        "class_name": name,
        "config": {"name": f"{family}_{kind}", **settings},
        "registered_name": f"keras_hub>{name}",
    }


def layer(settings: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Settings of a layer, after those every layer has."""
    policy = {
        "module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype},
        "registered_name": None,
    }  # fmt: skip
    return {"trainable": True, "dtype": policy, **settings}
