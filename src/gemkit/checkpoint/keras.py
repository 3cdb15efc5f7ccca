"""A Keras preset folder (KerasNLP, KerasHub), read: config.json and model.weights.h5.

Sources: keras-hub `models/gemma*/*_backbone.py`, `utils/preset_utils.py`; keras
`saving/saving_lib.py`. What a preset cannot say is filled as KerasHub fills it, except for the
query scale: KerasHub passes `query_head_dim_normalize=True` to every attention layer, whatever
the preset says, so its 27B models run with another scale than they were trained with. Here
`false` means D/N, as trained.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gemkit.checkpoint.files import SIZE_LIMITS, Settings, Stored, Tensors, read_json, shard_path
from gemkit.errors import CheckpointError, ConfigError
from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS

WEIGHTS_NAME = "model.weights.h5"
INDEX_NAME = "model.weights.json"

_SIZES = {
    "num_layers": "num_layers",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "num_heads": "num_query_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "vocab_size": "vocabulary_size",
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

_PREFIX = re.compile(r"^/?(?:layers|_layer_checkpoint_dependencies)/")
_BACKBONE = re.compile(r"^gemma3?_backbone/(?:layers|_layer_checkpoint_dependencies)/")
_BLOCK = re.compile(r"^gemma3?_(?=decoder_block)")
# State of training, which may lie in any group.
_NO_WEIGHTS = re.compile(r"(^|/)(optimizer|seed_generator)/")
_VISION = "vision_encoder"


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


@contextmanager
def open_tensors(path: Path, gemma3: bool) -> Iterator[Tensors]:
    """The tensors of a preset folder or of one `.h5` file, which stays open meanwhile.

    Raises:
        CheckpointError: no weights, a damaged file or a missing shard.
    """
    import h5py

    files = [path] if path.is_file() else _files(path)
    block = "gemma3_decoder_block" if gemma3 else "gemma_decoder_block"
    stored: dict[str, Stored] = {}
    opened: list[Any] = []
    try:
        for file in files:
            try:
                opened.append(h5py.File(file, "r"))
                _walk(opened[-1], file, stored)
            except CheckpointError:
                raise
            except Exception as error:  # h5py raises whatever the C library's state suggests
                raise _damaged(file, error) from None
        unused = tuple(name for name in stored if _VISION in name)
        found = {_table_name(name): s for name, s in stored.items() if _VISION not in name}
        yield Tensors(found, lambda n: "layers/" + n.replace("decoder_block", block), unused)
    finally:
        for handle in opened:
            handle.close()


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_NAME).is_file():
        return [folder / WEIGHTS_NAME]
    index = folder / INDEX_NAME
    if not index.is_file():
        raise CheckpointError(
            f"{folder} has neither {WEIGHTS_NAME} nor {INDEX_NAME}",
            "the weights beside config.json", "copy the missing file",
        )  # fmt: skip
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map", "variable names and their shards")
    names: dict[str, Any] = {}
    for value in weight_map.values():
        for name in value if isinstance(value, list) else [value]:
            names[str(name)] = name
    return [shard_path(folder, name, index) for name in names.values()]


def _walk(file: Any, path: Path, stored: dict[str, Stored]) -> None:
    """Add every dataset that may be a weight; links are not followed."""
    import h5py

    def visit(name: str, node: Any) -> None:
        if not isinstance(node, h5py.Dataset) or _NO_WEIGHTS.search(name):
            return
        if node.external or node.is_virtual:
            raise CheckpointError(
                f"{path}: {name} keeps its data in another file", "a self-contained file",
                "do not trust this checkpoint",
            )  # fmt: skip
        if name in stored:
            raise CheckpointError(f"{path}: {name} is in two shards", "each tensor once")
        stored[name] = Stored(name, node.shape, _dtype(node), _reader(node, path))

    file.visititems(visit)


def _dtype(dataset: Any) -> str:
    # HDF5 has no bfloat16: Keras writes two opaque bytes, in later versions with an attribute.
    return "bfloat16" if dataset.dtype == np.dtype("V2") else str(dataset.dtype)


def _reader(dataset: Any, path: Path) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        try:
            values = dataset[()]
        except Exception as error:
            raise _damaged(path, error) from None
        return values.view(ml_dtypes.bfloat16) if values.dtype == np.dtype("V2") else values

    return read


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is damaged or no HDF5 file ({error})",
        "a whole weights file as Keras writes it", "copy or download it again",
    )  # fmt: skip


def _table_name(name: str) -> str:
    """A dataset's path as the names table spells it.

    >>> _table_name("layers/gemma_backbone/layers/gemma_decoder_block_1/ffw_linear/vars/0")
    'decoder_block_1/ffw_linear/vars/0'
    """
    return _BLOCK.sub("", _BACKBONE.sub("", _PREFIX.sub("", name)))
