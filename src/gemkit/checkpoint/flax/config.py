"""The configuration of a Flax checkpoint, which stores none.

Sizes are read off the shapes. If they are those of a published model, its row of the variants
table is the configuration. If not, what shapes cannot show (window, caps, rotary bases, the rule
of the query scale) is that of the published model of the same generation nearest in size. What
gemkit writes has `gemkit_config.json`, GemmaConfig's fields, and needs no such guess.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from gemkit import __version__
from gemkit.checkpoint.files import SIZE_LIMITS, Settings, read_json
from gemkit.errors import CheckpointError, ConfigError
from gemkit.model.config import GemmaConfig, LayerKind
from gemkit.model.variants import GEMMA2_2B, VARIANTS
from gemkit.model.weights import count_parameters

NAME = "gemkit_config.json"
MAX_LAYERS = SIZE_LIMITS["num_layers"]

# Rows of the vocabulary → rows of the original tables of Gemma 1 and 2.
_ROWS = {256_000: 256_128}

_NUMBERS = ("query_scale", "rope_theta", "rope_local_theta", "rope_scale", "norm_eps")
_CAPS = ("attn_logit_softcap", "final_logit_softcap")
_FLAGS = ("qk_norm", "post_norms")


def recognise_config(shapes: Mapping[str, tuple[int, ...]], where: Path) -> GemmaConfig:
    """The configuration that table names and shapes suggest.

    Args:
      shapes: table name (`layer_0/mlp/linear`) → shape.
      where: the checkpoint, for messages.

    Raises:
        CheckpointError: an array that shows a size is missing or of another rank.
        ConfigError: the sizes contradict each other, or no generation has such norms.
    """
    sizes = _sizes(shapes, where)
    norms: dict[str, Any] = {
        "qk_norm": "layer_0/attn/_query_norm/scale" in shapes,
        "post_norms": "layer_0/post_attention_norm/scale" in shapes,
    }
    alike = [v.config for v in VARIANTS.values() if _fields(v.config, norms) == norms]
    if not alike:
        raise ConfigError(
            f"{where} has norms of queries and keys, but none after attention",
            "the norms of Gemma 1, 2 or 3",
        )  # fmt: skip
    for config in alike:
        if _fields(config, sizes) == sizes:
            return config
    try:
        draft = GemmaConfig(**sizes, **norms, query_scale=1.0)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.what}") from None
    total = math.log(count_parameters(draft))
    nearest = min(alike, key=lambda c: abs(math.log(count_parameters(c)) - total))
    per_query: float = sizes["head_dim"]
    if not math.isclose(nearest.query_scale, nearest.head_dim**-0.5):
        per_query = sizes["hidden_size"] / sizes["num_heads"]
    fields = {key: getattr(nearest, key) for key in nearest.to_dict()}
    return GemmaConfig(**fields | sizes | {"query_scale": per_query**-0.5})


def _fields(config: GemmaConfig, like: Mapping[str, Any]) -> dict[str, Any]:
    return {key: getattr(config, key) for key in like}


def _sizes(shapes: Mapping[str, tuple[int, ...]], where: Path) -> dict[str, Any]:
    rows, width = _shape(shapes, "embedder/input_embedding", 2, where)
    heads, head_dim, _ = _shape(shapes, "layer_0/attn/attn_vec_einsum/w", 3, where)
    kept = {padded: vocabulary for vocabulary, padded in _ROWS.items()}
    sizes = {
        "num_layers": _count_layers(shapes),
        "hidden_size": width,
        "intermediate_size": _shape(shapes, "layer_0/mlp/linear", 2, where)[0],
        "num_heads": heads,
        "num_kv_heads": _shape(shapes, "layer_0/attn/kv_einsum/w#0", 3, where)[0],
        "head_dim": head_dim,
        "vocab_size": kept.get(rows, rows),
    }
    for name, size in sizes.items():
        if not 1 <= size <= SIZE_LIMITS[name]:
            raise CheckpointError(f"{where}: {name} is {size}", f"from 1 to {SIZE_LIMITS[name]}")
    return sizes


def _count_layers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    numbers = [name.partition("/")[0].removeprefix("layer_") for name in shapes]
    found = [int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) < 6]
    return 1 + max(found, default=-1)


def _shape(
    shapes: Mapping[str, tuple[int, ...]], name: str, rank: int, where: Path
) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != rank:
        found = f"{name} of shape {list(shape)}" if shape is not None else f"no {name}"
        raise CheckpointError(
            f"{where} has {found}", f"an array of {rank} axes, as in Gemma 1 to 3",
            "copy it again if it should be such a checkpoint",
        )  # fmt: skip
    return shape


def read_config(path: Path) -> GemmaConfig:
    """GemmaConfig of a `gemkit_config.json`.

    Raises:
        CheckpointError, ConfigError: not JSON, or an impossible value.
    """
    settings = Settings(read_json(path), str(path))
    fields: dict[str, Any] = {key: settings.integer(key, n) for key, n in SIZE_LIMITS.items()}
    fields |= {key: settings.number(key) for key in _NUMBERS}
    fields |= {key: settings.optional(key) for key in _CAPS}
    fields |= {key: settings.flag(key, False) for key in _FLAGS}
    pattern = settings.values.get("attention_pattern")
    known = get_args(LayerKind)
    if not isinstance(pattern, list) or not 0 < len(pattern) <= MAX_LAYERS:
        raise settings.error("attention_pattern", f"a list of {' and '.join(known)}")
    if not all(kind in known for kind in pattern):
        raise settings.error("attention_pattern", f"a list of {' and '.join(known)}")
    window = None
    if settings.values.get("sliding_window") is not None:
        window = settings.integer("sliding_window", SIZE_LIMITS["max_positions"])
    try:
        return GemmaConfig(**fields, attention_pattern=tuple(pattern), sliding_window=window)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}") from None


def write_config(path: Path, config: GemmaConfig) -> None:
    """Writes `gemkit_config.json`."""
    described = config.to_dict() | {"gemkit_version": __version__}
    path.write_text(json.dumps(described, indent=2) + "\n", "utf-8")


def unsaid(config: GemmaConfig, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """A remark on the settings that programs without `gemkit_config.json` would get wrong."""
    try:
        guess = recognise_config(shapes, Path())
    except (CheckpointError, ConfigError):
        return (f"only {NAME} says what model this is",)
    wrong = [key for key, value in config.to_dict().items() if guess.to_dict()[key] != value]
    return (f"only {NAME} says {', '.join(wrong)}: no shape shows it",) if wrong else ()


def embedding_rows(config: GemmaConfig) -> int:
    """Rows of the table in a checkpoint.

    >>> from gemkit.model.variants import GEMMA_2B
    >>> embedding_rows(GEMMA_2B)
    256128
    """
    return _ROWS.get(config.vocab_size, config.vocab_size)


def gates_by_width(post_norms: bool, qk_norm: bool, hidden_size: int) -> bool:
    """Whether gate and up lie as (2, D, F): Gemma 1 and Gemma 2 2B; all later ones as (2, F, D)."""
    return not post_norms or (not qk_norm and hidden_size <= GEMMA2_2B.hidden_size)
