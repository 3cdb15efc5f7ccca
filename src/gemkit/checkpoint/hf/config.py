"""Hugging Face's config.json ↔ GemmaConfig, for `gemma`, `gemma2`, `gemma3_text` and `gemma3`.

Absent settings take the defaults of the transformers classes. A setting that would change the
result and that gemkit cannot honour is an error; harmless ones are listed below. Source:
transformers `models/gemma*/configuration_gemma*.py`, `modeling_rope_utils.py`.
"""

from collections.abc import Mapping
from typing import Any

from gemkit.checkpoint.files import SIZE_LIMITS, Settings
from gemkit.errors import ConfigError
from gemkit.model.config import GemmaConfig, LayerKind

_SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
}

_COMMON = {"head_dim": 256, "rms_norm_eps": 1e-6, "max_position_embeddings": 8192}
_SMALL = {
    "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}  # fmt: skip
# What the transformers class of each model_type fills in; None where a setting may be null.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": _COMMON | {
        "vocab_size": 256_000, "hidden_size": 3072, "intermediate_size": 24_576,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16,
        "rope_theta": 10_000.0, "rope_scaling": None, "rope_parameters": None,
    },
    "gemma2": _COMMON | _SMALL | {
        "vocab_size": 256_000, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
        "rope_theta": 10_000.0, "rope_scaling": None, "rope_parameters": None,
        "layer_types": None,
    },
    "gemma3_text": _COMMON | _SMALL | {
        "vocab_size": 262_208, "max_position_embeddings": 131_072,
        "final_logit_softcapping": None, "attn_logit_softcapping": None,
        "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0, "rope_scaling": None,
        "rope_parameters": None, "layer_types": None, "sliding_window_pattern": 6,
    },
}  # fmt: skip
_NULLABLE = ("final_logit_softcapping", "attn_logit_softcapping", "sliding_window")

# Settings with one value that gemkit honours; null and absent mean the same.
_FIXED: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "tie_word_embeddings": (True,),
    "use_bidirectional_attention": (False,),
    # Gemma 1 says "gelu" and means the tanh form, as transformers decided.
    "hidden_act": ("gelu", "gelu_pytorch_tanh"),
    "hidden_activation": ("gelu_pytorch_tanh",),
    "quantization_config": (),
}

_HARMLESS = frozenset(
    """
    model_type architectures torch_dtype dtype transformers_version gemkit_version _name_or_path
    bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id decoder_start_token_id
    use_cache cache_implementation initializer_range attention_dropout return_dict pretraining_tp
    attn_implementation _attn_implementation _attn_implementation_autoset problem_type id2label
    label2id num_labels tokenizer_class task_specific_params unsloth_version unsloth_fixed
    _sliding_window_pattern
    max_length min_length max_new_tokens do_sample temperature top_k top_p typical_p num_beams
    num_beam_groups num_return_sequences repetition_penalty length_penalty diversity_penalty
    chunk_size_feed_forward early_stopping encoder_no_repeat_ngram_size no_repeat_ngram_size
    """.split()
)
# Of a multimodal config.json, beside text_config.
_MULTIMODAL = frozenset(
    """
    text_config vision_config mm_tokens_per_image boi_token_index eoi_token_index
    image_token_index boi_token_id eoi_token_id image_token_id
    """.split()
)

_KINDS: dict[str, LayerKind] = {"full_attention": "global", "sliding_attention": "local"}
_TYPES = {kind: name for name, kind in _KINDS.items()}
_LOCAL_GLOBAL: dict[str, tuple[LayerKind, ...]] = {
    "gemma2": ("local", "global"),
    "gemma3_text": ("local",) * 5 + ("global",),
}


def read_config(raw: Mapping[str, Any], where: str = "config.json") -> GemmaConfig:
    """GemmaConfig of a parsed config.json.

    Raises:
        ConfigError: a model_type gemkit does not know, a setting it cannot honour, or an
            impossible value; the line names `where`.
    """
    kind, text = _text_settings(raw, where)
    _refuse_unknown(text, _DEFAULTS[kind].keys(), where)
    given = {
        key: value for key, value in text.items() if value is not None or key in _NULLABLE
    }
    settings = Settings(_DEFAULTS[kind] | given, where)
    fields: dict[str, Any] = {
        ours: settings.integer(key, SIZE_LIMITS[ours]) for ours, key in _SIZES.items()
    }
    fields["norm_eps"] = settings.number("rms_norm_eps")
    fields["query_scale"] = fields["head_dim"] ** -0.5
    ropes = ("rope_theta", "rope_local_theta", "rope_scale")
    fields |= zip(ropes, _ropes(kind, settings), strict=True)
    if kind != "gemma":
        fields |= _later_fields(kind, settings, fields["num_layers"])
    try:
        return GemmaConfig(**fields)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.what}") from None


def _later_fields(kind: str, settings: Settings, layers: int) -> dict[str, Any]:
    """What Gemma 2 and 3 have and Gemma 1 has not."""
    pattern = _pattern(kind, settings, layers)
    window = cap = None
    if "local" in pattern:
        window = settings.integer("sliding_window", SIZE_LIMITS["max_positions"])
    if kind == "gemma2":  # transformers reads the setting for Gemma 3 too and never applies it
        cap = settings.optional("attn_logit_softcapping")
    return {
        "query_scale": settings.number("query_pre_attn_scalar") ** -0.5,
        "attention_pattern": pattern,
        "sliding_window": window,
        "attn_logit_softcap": cap,
        "final_logit_softcap": settings.optional("final_logit_softcapping"),
        "qk_norm": kind == "gemma3_text",
        "post_norms": True,
    }


def _text_settings(raw: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    kind = raw.get("model_type")
    if kind == "gemma3":
        _refuse_unknown(raw, _MULTIMODAL, where)
        raw = raw.get("text_config") or {}
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{where}: text_config is no object", "the text model's settings")
        where, kind = f"{where} text_config", "gemma3_text"
        if raw.get("model_type", kind) != kind:
            kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in _DEFAULTS:
        raise ConfigError(
            f"{where}: model_type is {kind!r}", "gemma, gemma2, gemma3_text or gemma3",
            "gemkit runs Gemma 1 to 3 and CodeGemma",
        )  # fmt: skip
    return kind, raw


def _refuse_unknown(given: Mapping[str, Any], known: Any, where: str) -> None:
    settings = Settings(given, where)
    for key, value in given.items():
        if key in _FIXED:
            if value is not None and value not in _FIXED[key]:
                allowed = " or ".join(repr(one) for one in _FIXED[key]) or "none"
                raise settings.error(key, allowed, "gemkit cannot run this model faithfully")
        elif key not in known and key not in _HARMLESS and value:
            raise settings.error(
                key, "settings that gemkit knows",
                "remove it from config.json if it does not change the model's results",
            )  # fmt: skip


def _pattern(kind: str, settings: Settings, layers: int) -> tuple[LayerKind, ...]:
    usual = _LOCAL_GLOBAL[kind]
    types = settings.values["layer_types"]
    if types is None:
        if kind == "gemma2":
            return usual
        return _every(settings.integer("sliding_window_pattern", SIZE_LIMITS["num_layers"]))
    known = tuple(_KINDS)  # a tuple, as a damaged file may hold what cannot be looked up
    if not isinstance(types, list) or len(types) != layers or any(t not in known for t in types):
        raise settings.error("layer_types", f"{layers} times one of {', '.join(_KINDS)}")
    return shortest_pattern(tuple(_KINDS[name] for name in types), usual)


def _every(period: int) -> tuple[LayerKind, ...]:
    return tuple("global" if layer == period - 1 else "local" for layer in range(period))


def shortest_pattern(
    kinds: tuple[LayerKind, ...], usual: tuple[LayerKind, ...]
) -> tuple[LayerKind, ...]:
    """The pattern that repeats to `kinds`: `usual` if it does, else the shortest.

    >>> shortest_pattern(("local", "local", "global", "local"), ("local", "global"))
    ('local', 'local', 'global')
    """
    shorter = (kinds[:length] for length in range(1, len(kinds)))
    for pattern in (usual, *shorter):
        if all(kind == pattern[i % len(pattern)] for i, kind in enumerate(kinds)):
            return pattern
    return kinds


def _ropes(kind: str, settings: Settings) -> tuple[float, float, float]:
    """(theta of global layers, theta of local layers, divisor of global positions)."""
    values = settings.values
    scaling, nested = (_object(settings, key) for key in ("rope_scaling", "rope_parameters"))
    if kind != "gemma3_text":
        theta, factor = _rope({"rope_theta": values["rope_theta"]} | nested | scaling, settings)
        if kind == "gemma2" and factor != 1.0:
            raise settings.error("rope_scaling", "null: gemkit scales no local layers")
        return theta, theta, factor
    if nested and not set(nested) <= set(_KINDS):
        raise settings.error("rope_parameters", f"{' and '.join(_KINDS)}")
    parts = Settings(nested, f"{settings.where} rope_parameters")
    full = {"rope_theta": values["rope_theta"]} | _object(parts, "full_attention") | scaling
    sliding = {"rope_theta": values["rope_local_base_freq"]} | _object(parts, "sliding_attention")
    theta, factor = _rope(full, settings)
    local_theta, local_factor = _rope(sliding, settings)
    if local_factor != 1.0:
        raise parts.error("sliding_attention", "no scaling: gemkit scales no local layers")
    return theta, local_theta, factor


def _object(settings: Settings, key: str) -> dict[str, Any]:
    value = settings.values.get(key)
    if value is not None and not isinstance(value, dict):
        raise settings.error(key, "an object or null")
    return value or {}


def _rope(given: dict[str, Any], settings: Settings) -> tuple[float, float]:
    """(theta, factor) of one rotary embedding."""
    rope = Settings(given, f"{settings.where} rope")
    name = "rope_type" if given.get("rope_type") is not None else "type"
    kind = given.get(name, "default")
    if kind not in ("default", "linear"):
        raise rope.error(name, '"default" or "linear"')
    if given.get("partial_rotary_factor") not in (None, 1.0):
        raise rope.error("partial_rotary_factor", "1")
    known = {"rope_theta", "rope_type", "type", "factor", "partial_rotary_factor"}
    for key in given.keys() - known:
        if given[key]:
            raise rope.error(key, "settings of linear scaling only")
    return rope.number("rope_theta"), rope.number("factor") if kind == "linear" else 1.0


def write_config(config: GemmaConfig, dtype: str, version: str) -> dict[str, Any]:
    """The config.json that makes transformers build the same model.

    Raises:
        ConfigError: no transformers class computes what this configuration says.
    """
    kind = _model_type(config)
    architecture = {"gemma": "Gemma", "gemma2": "Gemma2", "gemma3_text": "Gemma3"}[kind]
    activation = "hidden_act" if kind == "gemma" else "hidden_activation"
    written: dict[str, Any] = {
        "architectures": [f"{architecture}ForCausalLM"],
        "model_type": kind,
        **{key: getattr(config, ours) for ours, key in _SIZES.items()},
        activation: "gelu_pytorch_tanh",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.rope_scale == 1.0
        else {"rope_type": "linear", "factor": config.rope_scale},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
        "torch_dtype": dtype,
        "gemkit_version": version,
    }  # fmt: skip
    if kind != "gemma":
        written |= {
            "query_pre_attn_scalar": _whole(config.query_scale**-2),
            # transformers wants a number even where no layer slides.
            "sliding_window": config.sliding_window or config.max_positions,
            "layer_types": [_TYPES[kind] for kind in config.layer_kinds],
            "attn_logit_softcapping": config.attn_logit_softcap,
            "final_logit_softcapping": config.final_logit_softcap,
        }
    if kind == "gemma3_text":
        written["rope_local_base_freq"] = config.rope_local_theta
        period = len(config.attention_pattern)
        if config.attention_pattern == _every(period):
            written["sliding_window_pattern"] = period  # transformers before 4.53
    return written


def _model_type(config: GemmaConfig) -> str:
    """The transformers model that computes what `config` says."""
    locals_differ = "local" in config.attention_pattern
    if config.qk_norm and config.post_norms:
        kind, obstacles = "gemma3_text", {
            "attn_logit_softcap": config.attn_logit_softcap is not None,
        }
    elif config.post_norms:
        kind, obstacles = "gemma2", {
            "rope_local_theta": locals_differ and config.rope_local_theta != config.rope_theta,
            "rope_scale": config.rope_scale != 1.0,
        }
    else:
        kind, obstacles = "gemma", {
            "qk_norm": config.qk_norm,
            "attention_pattern": locals_differ,
            "attn_logit_softcap": config.attn_logit_softcap is not None,
            "final_logit_softcap": config.final_logit_softcap is not None,
            "query_scale": abs(config.query_scale**-2 / config.head_dim - 1) > 1e-6,
        }
    found = [f"{name} {getattr(config, name)}" for name, wrong in obstacles.items() if wrong]
    if found:
        raise ConfigError(
            f"transformers' {kind} cannot express {', '.join(found)}",
            "a Gemma 1, 2 or 3 configuration", "save in another format",
        )  # fmt: skip
    return kind


def _whole(value: float) -> int | float:
    nearest = round(value)
    return nearest if abs(value - nearest) < 1e-6 * value else value
