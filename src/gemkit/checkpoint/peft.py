"""Adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors.

Keys are layer paths in Hugging Face's names, so an adapter loads wherever PEFT does. gemkit adds
the hash of the base it was trained on and refuses another.
"""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from gemkit.adapt.lora import Adapter, Lora
from gemkit.checkpoint.files import read_json
from gemkit.checkpoint.names import cells
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
BASE_HASH = "gemkit_base_sha256"


def write_adapter(
    folder: Path, config: GemmaConfig, lora: Lora, adapter: Adapter, base: str, base_hash: str
) -> None:
    """Writes an adapter into an existing folder.

    Args:
      folder: where; the caller makes it appear whole.
      config: of the base model.
      lora: rank, alpha, dropout and targets.
      adapter: path → a [R, in], b [R, out].
      base: name or path of the base model, for people and for PEFT.
      base_hash: of the base's weights.
    """
    names = {path: _stem(name) for path, name in _names(config).items()}
    tensors = {}
    for path, pair in adapter.items():
        tensors[f"{names[path]}.lora_A.weight"] = np.asarray(pair["a"])
        tensors[f"{names[path]}.lora_B.weight"] = np.ascontiguousarray(np.asarray(pair["b"]).T)
    safetensors.numpy.save_file(tensors, folder / WEIGHTS_FILE, {"format": "pt"})
    # The library makes files only their owner can read; the folder has what the user is used to.
    (folder / WEIGHTS_FILE).chmod(folder.stat().st_mode & 0o666)
    targets = sorted({names[path].removeprefix("base_model.model.") for path in adapter})
    short = sorted({target.rsplit(".", 1)[-1] for target in targets})
    # PEFT adapts every module whose name ends so; paths are needed only for a part of them.
    everywhere = {p for p in _names(config) if _names(config)[p].split(".")[-2] in short}
    described = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base,
        "r": lora.rank, "lora_alpha": lora.scale * lora.rank, "lora_dropout": lora.dropout,
        "bias": "none", "target_modules": short if everywhere == set(adapter) else targets,
        "fan_in_fan_out": False, "use_rslora": False, "use_dora": False, "rank_pattern": {},
        "alpha_pattern": {}, "modules_to_save": None, "init_lora_weights": True,
        "inference_mode": True, BASE_HASH: base_hash,
    }  # fmt: skip
    (folder / CONFIG_FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def read_adapter(
    folder: Path, config: GemmaConfig, base_hash: str | None
) -> tuple[Lora, Adapter]:  # fmt: skip
    """Reads an adapter for this base.

    Args:
      folder: holds the two files.
      config: of the base model.
      base_hash: of the base's weights; None skips the comparison.

    Raises:
      CheckpointError: damaged, of another base, of a kind gemkit cannot apply, or with matrices
        the model has not.
    """
    described = read_json(folder / CONFIG_FILE)
    for key, plain in _PLAIN.items():
        if described.get(key, plain) not in (plain, None):
            raise CheckpointError(
                f"{folder / CONFIG_FILE} has {key} {described[key]!r}", f"{plain!r}"
            )
    known = described.get(BASE_HASH)
    if known and base_hash and known != base_hash:
        raise CheckpointError(
            f"the adapter in {folder} was trained on a base with hash {known[:12]}, "
            f"this model has {base_hash[:12]}",
            "the base it was trained on", f"load {described.get('base_model_name_or_path')}",
        )  # fmt: skip
    try:
        tensors = safetensors.numpy.load_file(folder / WEIGHTS_FILE)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"cannot read {folder / WEIGHTS_FILE}: {error}") from None
    settings = {"r": None, "lora_alpha": 8, "lora_dropout": 0.0} | described
    for key in ("r", "lora_alpha", "lora_dropout"):
        value, kinds = settings[key], int if key == "r" else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or (key == "r" and value < 1):
            wanted = "a positive integer" if key == "r" else "a number"
            raise CheckpointError(f"{folder / CONFIG_FILE} has {key} {value!r}", wanted)
    rank, alpha, dropout = (settings[key] for key in ("r", "lora_alpha", "lora_dropout"))
    adapter = _arrange(folder, config, rank, tensors)
    return Lora(rank, float(alpha), tuple(adapter), float(dropout)), adapter


_PLAIN: dict[str, Any] = {
    "peft_type": "LORA", "bias": "none", "fan_in_fan_out": False, "use_rslora": False,
    "use_dora": False, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None,
}  # fmt: skip


def _arrange(
    folder: Path, config: GemmaConfig, rank: int, tensors: dict[str, np.ndarray]
) -> Adapter:
    shapes = {path: spec.shape for path, spec in specs(config).items()}
    adapter: Adapter = {}
    left = dict(tensors)
    for path, name in _names(config).items():
        a = left.pop(f"{_stem(name)}.lora_A.weight", None)
        b = left.pop(f"{_stem(name)}.lora_B.weight", None)
        if a is None and b is None:
            continue
        rows, columns = shapes[path]
        found = [None if x is None else list(x.shape) for x in (a, b)]
        if a is None or b is None or found != [[rank, columns], [rows, rank]]:
            raise CheckpointError(
                f"{folder}: {name} has lora_A {found[0]} and lora_B {found[1]}",
                f"[{rank}, {columns}] and [{rows}, {rank}]",
            )
        adapter[path] = {
            "a": jnp.asarray(a, jnp.float32), "b": jnp.asarray(b.T, jnp.float32)
        }  # fmt: skip
    if left or not adapter:
        odd = sorted(left)[:3]
        raise CheckpointError(
            f"{folder} holds {len(left)} tensors this model has no place for"
            + (f", such as {', '.join(odd)}" if odd else " and no adapter matrix"),
            "an adapter of this model's layers",
        )
    return adapter


def _names(config: GemmaConfig) -> dict[str, str]:
    linear = {path for path, spec in specs(config).items() if spec.linear}
    return {
        path: cell.name for path, cell in cells(config, "hugging_face").items() if path in linear
    }


def _stem(name: str) -> str:
    return "base_model.model.model." + name.removesuffix(".weight")
