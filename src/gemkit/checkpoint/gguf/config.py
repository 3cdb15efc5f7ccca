"""The metadata of a GGUF file ↔ GemmaConfig, for `gemma`, `gemma2` and `gemma3`.

A file does not say everything: what it leaves out llama.cpp knows by the architecture, and the
query scale by the number of layers. Reading applies the same rules; writing refuses a model
that they would turn into another. Source: llama.cpp `src/models/gemma*.cpp`, `llama-model.cpp`
(`load_hparams`), `conversion/gemma.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gemkit.checkpoint.files import SIZE_LIMITS, Settings
from gemkit.checkpoint.gguf.header import Header
from gemkit.checkpoint.hf.config import shortest_pattern
from gemkit.errors import ConfigError
from gemkit.model.config import GemmaConfig, LayerKind

ARCHITECTURES = ("gemma", "gemma2", "gemma3")

_SIZES = {
    "num_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_heads": "attention.head_count",
    "num_kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_positions": "context_length",
}
_EPSILON = "attention.layer_norm_rms_epsilon"
_WINDOW, _PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"
_ATTN_CAP, _FINAL_CAP = "attn_logit_softcapping", "final_logit_softcapping"
_THETA, _LOCAL_THETA = "rope.freq_base", "rope.freq_base_swa"
_SCALING, _FACTOR, _OLD_FACTOR = "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"
_VOCABULARY = "vocab_size"

# Settings that must agree with another, and those that do not change the result.
_AGREE = {"attention.value_length": "head_dim", "rope.dimension_count": "head_dim"}
_FIXED: dict[str, Any] = {"attention.causal": True}
_HARMLESS = ("rope.scaling.finetuned", "rope.scaling.original_context_length")
_VISION = ("vision.", "mm.")

# By architecture: every how many layers one is global, where layers are local at all.
_PERIODS = {"gemma2": 2, "gemma3": 6}
# The number of layers by which the 27B models are known, which divide queries by D/N.
_LAYERS_27B = {"gemma2": 46, "gemma3": 62}


def architecture(config: GemmaConfig) -> str:
    """llama.cpp's name of the generation.

    Raises:
        ConfigError: norms of no generation.
    """
    names = {(False, False): "gemma", (True, False): "gemma2", (True, True): "gemma3"}
    name = names.get((config.post_norms, config.qk_norm))
    if name is None:
        raise ConfigError(
            "the model has query and key norms and no post norms", "the norms of Gemma 1, 2 or 3",
            "GGUF cannot store this model",
        )  # fmt: skip
    return name


def read_config(header: Header, rows: int) -> GemmaConfig:
    """GemmaConfig of a file.

    Args:
      header: its metadata.
      rows: of the vocabulary where the file does not say how many.

    Raises:
        ConfigError: an architecture gemkit does not know, a setting it cannot honour, or an
            impossible value.
    """
    where, arch = str(header.path), header.values.get("general.architecture")
    if arch not in ARCHITECTURES:
        raise ConfigError(
            f"{where}: general.architecture is {arch!r}", " or ".join(ARCHITECTURES),
            "gemkit runs Gemma 1 to 3 and CodeGemma",
        )  # fmt: skip
    prefix = f"{arch}."
    given = {
        key.removeprefix(prefix): plain_number(value)
        for key, value in header.values.items()
        if key.startswith(prefix)
    }
    arrays = [key.removeprefix(prefix) for key in header.arrays if key.startswith(prefix)]
    settings = Settings({_VOCABULARY: rows, **given}, f"{where}: {arch}")
    _refuse_unknown(settings, arrays)
    fields: dict[str, Any] = {
        ours: settings.integer(key, SIZE_LIMITS[ours]) for ours, key in _SIZES.items()
    }
    fields["vocab_size"] = settings.integer(_VOCABULARY, SIZE_LIMITS["vocab_size"])
    for key, ours in _AGREE.items():
        if given.get(key, fields[ours]) != fields[ours]:
            raise settings.error(key, f"{fields[ours]}, as {_SIZES[ours]}")
    fields |= {
        "norm_eps": settings.number(_EPSILON),
        "query_scale": query_scale(arch, fields),
        "post_norms": arch != "gemma",
        "qk_norm": arch == "gemma3",
        **_caps(arch, settings),
        **_attention(header, settings, fields["num_layers"], arch),
    }
    try:
        return GemmaConfig(**fields)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.what}") from None


def query_scale(arch: str, fields: Mapping[str, Any]) -> float:
    """The factor on queries that llama.cpp applies: it is not stored.

    >>> query_scale("gemma2", {"num_layers": 46, "hidden_size": 4608, "num_heads": 32}) * 12
    1.0
    """
    if fields["num_layers"] == _LAYERS_27B.get(arch):
        return float(max(fields["hidden_size"] // fields["num_heads"], 1) ** -0.5)
    return float(fields["head_dim"] ** -0.5)


def plain_number(value: Any) -> Any:
    """Numbers of four bytes as they were before: 1e-6 rather than 9.999999974752427e-07."""
    if not isinstance(value, float):
        return value
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))


def _refuse_unknown(settings: Settings, arrays: list[str]) -> None:
    known = {
        *_SIZES.values(), *_AGREE, *_FIXED, *_HARMLESS, _VOCABULARY, _EPSILON, _WINDOW, _PATTERN,
        _ATTN_CAP, _FINAL_CAP, _THETA, _LOCAL_THETA, _SCALING, _FACTOR, _OLD_FACTOR,
    }  # fmt: skip
    for key, value in settings.values.items():
        if key in _FIXED and value != _FIXED[key]:
            raise settings.error(key, str(_FIXED[key]), "gemkit cannot run this model faithfully")
        if key not in known and not key.startswith(_VISION) and value:
            raise settings.error(
                key[:80], "settings of a Gemma text model that gemkit knows",
                "take a file that llama.cpp's converter wrote",
            )  # fmt: skip
    for key in arrays:
        if key != _PATTERN and not key.startswith(_VISION):
            raise ConfigError(f"{settings.where}: {key[:80]} is an array", "one value")


def _caps(arch: str, settings: Settings) -> dict[str, Any]:
    """Soft caps; Gemma 2 has the usual ones where the file is silent."""
    if arch == "gemma2":
        found = Settings({_ATTN_CAP: 50.0, _FINAL_CAP: 30.0, **settings.values}, settings.where)
        return {
            "attn_logit_softcap": found.number(_ATTN_CAP),
            "final_logit_softcap": found.number(_FINAL_CAP),
        }
    for key in (_ATTN_CAP, _FINAL_CAP):
        if settings.values.get(key) and (key, arch) != (_FINAL_CAP, "gemma3"):
            raise settings.error(key, f"no such setting for {arch}")
    return {
        "final_logit_softcap": settings.number(_FINAL_CAP)
        if settings.values.get(_FINAL_CAP) else None
    }  # fmt: skip


def _attention(header: Header, settings: Settings, layers: int, arch: str) -> dict[str, Any]:
    """Kinds of layers, window and rotary settings."""
    usual = {_WINDOW: 4096} if arch == "gemma2" else {}
    found = Settings({_THETA: 10_000.0} | usual | dict(settings.values), settings.where)
    theta, scale = found.number(_THETA), _rope_scale(found)
    if arch == "gemma" or arch == "gemma3" and not found.values.get(_WINDOW):
        return {"rope_theta": theta, "rope_scale": scale}
    own = 10_000.0 if arch == "gemma3" else theta
    local_theta = Settings({_LOCAL_THETA: own} | dict(settings.values), found.where)
    pattern = _pattern(header, found, layers, arch)
    if arch == "gemma2" and scale != 1 and "local" in pattern:
        raise found.error(_FACTOR, "none: gemkit scales positions of global layers only")
    if "local" not in pattern:
        return {"rope_theta": theta, "rope_scale": scale, "attention_pattern": pattern}
    return {
        "rope_theta": theta,
        "rope_local_theta": local_theta.number(_LOCAL_THETA),
        "rope_scale": scale,
        "attention_pattern": pattern,
        "sliding_window": found.integer(_WINDOW, SIZE_LIMITS["max_positions"]),
    }


def _rope_scale(settings: Settings) -> float:
    kind = settings.values.get(_SCALING, "linear")
    if kind not in ("linear", "none"):
        raise settings.error(_SCALING, "linear or none")
    key = _FACTOR if _FACTOR in settings.values else _OLD_FACTOR
    if kind == "none" or not settings.values.get(key):
        return 1.0
    return settings.number(key)


def _pattern(
    header: Header, settings: Settings, layers: int, arch: str
) -> tuple[LayerKind, ...]:
    usual = _every(_PERIODS[arch])
    flags = header.numbers(f"{arch}.{_PATTERN}")
    if flags is not None:
        if len(flags) < layers:
            raise ConfigError(f"{settings.where}: {_PATTERN} has {len(flags)} entries", str(layers))
        kinds = tuple[LayerKind, ...]("local" if flag else "global" for flag in flags[:layers])
        return shortest_pattern(kinds, usual)
    if _PATTERN not in settings.values:
        return usual
    if settings.values[_PATTERN] == 0:
        return ("local",)
    return _every(settings.integer(_PATTERN, SIZE_LIMITS["num_layers"]))


def _every(period: int) -> tuple[LayerKind, ...]:
    return tuple("global" if layer == period - 1 else "local" for layer in range(period))


def config_metadata(config: GemmaConfig) -> dict[str, Any]:
    """Key → value that makes llama.cpp run exactly this model.

    Raises:
        ConfigError: there is none, such as for another query scale or order of local layers
            than the architecture implies.
    """
    arch = architecture(config)
    _check_expressible(config, arch)
    found: dict[str, Any] = {key: getattr(config, ours) for ours, key in _SIZES.items()}
    found |= {
        "attention.value_length": config.head_dim, _VOCABULARY: config.vocab_size,
        _EPSILON: config.norm_eps, _THETA: config.rope_theta,
        _ATTN_CAP: config.attn_logit_softcap, _FINAL_CAP: config.final_logit_softcap,
    }  # fmt: skip
    if "local" in config.layer_kinds:
        found |= {_WINDOW: config.sliding_window, _LOCAL_THETA: config.rope_local_theta}
    if config.rope_scale != 1:
        found |= {_SCALING: "linear", _FACTOR: config.rope_scale}
    named = {f"{arch}.{key}": value for key, value in found.items() if value is not None}
    return {"general.architecture": arch, **named}


def _check_expressible(config: GemmaConfig, arch: str) -> None:
    """Refuse what a reader would take for another model."""
    c, local = config, "local" in config.layer_kinds
    applied = query_scale(arch, c.to_dict())
    implied = _every(_PERIODS[arch]) if arch in _PERIODS else ("global",)
    kinds = tuple(implied[i % len(implied)] for i in range(c.num_layers))
    silent = arch == "gemma3" and not local
    checks = (
        (math.isclose(c.query_scale, applied, rel_tol=1e-6), "query_scale", c.query_scale,
         f"{applied}, which llama.cpp takes for {arch} with {c.num_layers} layers"),
        (c.layer_kinds == kinds or silent, "attention_pattern", c.attention_pattern,
         f"{implied}, which {arch} implies"),
        (arch == "gemma2" or c.attn_logit_softcap is None, "attn_logit_softcap",
         c.attn_logit_softcap, f"none, as {arch} has"),
        (arch != "gemma2" or c.attn_logit_softcap is not None, "attn_logit_softcap", None,
         "a number: gemma2 always has one"),
        (arch != "gemma" or c.final_logit_softcap is None, "final_logit_softcap",
         c.final_logit_softcap, "none, as gemma has"),
        (arch != "gemma2" or c.final_logit_softcap is not None, "final_logit_softcap", None,
         "a number: gemma2 always has one"),
        (arch != "gemma2" or not local or c.rope_scale == 1, "rope_scale", c.rope_scale,
         "1: gemma2 scales positions of all layers or none"),
        (arch != "gemma2" or not local or c.rope_local_theta == c.rope_theta,
         "rope_local_theta", c.rope_local_theta, f"{c.rope_theta}, as rope_theta"),
    )  # fmt: skip
    for fits, name, value, expected in checks:
        if not fits:
            raise ConfigError(
                f"GGUF cannot store this model: {name} is {value}", expected,
                "choose another format",
            )  # fmt: skip
