"""Adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors.

Keys are layer paths in Hugging Face's names, so an adapter loads wherever PEFT does. gemkit adds
the hash of the base it was trained on and refuses another. Source of names and shapes: peft
`utils/save_and_load.py`, `tuners/lora/layer.py`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from gemkit.adapt.lora import Adapter, Lora, exceptions, fitted
from gemkit.checkpoint.files import FLOAT_DTYPES, Stored
from gemkit.checkpoint.hf.weights import read_tensors
from gemkit.checkpoint.names import cells
from gemkit.checkpoint.peft.config import PeftConfig, check_base, describe, read_config
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PICKLE_FILE = "adapter_model.bin"

# PEFT around PEFT repeats its prefix; Gemma 3 with vision has one more step on the way.
_KEY = re.compile(
    r"(?:base_model\.model\.)*(?P<prefix>(?:model\.|language_model\.)*)"
    r"(?P<module>layers\.\d+\.\w+\.\w+)"
    r"\.lora_(?:(?P<a>A\.weight)|(?P<b>B\.weight)|(?P<m>magnitude_vector(?:\.weight)?))"
)
_SHOWN = 3
Parts = dict[str, Stored]


def recognises(path: Path) -> bool:
    """Whether a folder, one folder in it, or the folder around a file is a PEFT adapter's."""
    return bool(_folders(path))


def write_adapter(
    folder: Path, config: GemmaConfig, lora: Lora, adapter: Adapter, base: str, base_hash: str
) -> None:
    """Writes an adapter into an existing folder.

    Args:
      folder: where; the caller makes it appear whole.
      config: of the base model.
      lora: settings; ranks are those of the arrays, scales those of the settings.
      adapter: path → a [R, in], b [R, out], with DoRA m [out].
      base: name or path of the base model, for people and for PEFT.
      base_hash: of the base's weights.
    """
    modules, tensors = _modules(config), {}
    for path, pair in adapter.items():
        stem = f"base_model.model.model.{modules[path]}"
        tensors[f"{stem}.lora_A.weight"] = np.asarray(pair["a"])
        tensors[f"{stem}.lora_B.weight"] = np.ascontiguousarray(np.asarray(pair["b"]).T)
        if "m" in pair:
            tensors[f"{stem}.lora_magnitude_vector"] = np.asarray(pair["m"])
    safetensors.numpy.save_file(tensors, folder / WEIGHTS_FILE, {"format": "pt"})
    # The library makes files only their owner can read; the folder has what the user is used to.
    (folder / WEIGHTS_FILE).chmod(folder.stat().st_mode & 0o666)
    names = {path: f"model.{module}" for path, module in modules.items()}
    adapted = {path: names[path] for path in adapter}
    described = describe(fitted(lora, adapter), adapted, names.values(), base, base_hash)
    (folder / CONFIG_FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def read_adapter(
    folder: Path, config: GemmaConfig, base_hash: str | None
) -> tuple[Lora, Adapter]:  # fmt: skip
    """Reads an adapter for this base.

    Args:
      folder: holds the two files, or one folder that does, as PEFT writes adapters with a name.
      config: of the base model.
      base_hash: of the base's weights; None skips the comparison.

    Returns:
      Settings whose targets are the adapter's paths, and its matrices in float32.

    Raises:
      CheckpointError: damaged, of another base, a pickle, or with matrices that are not those
        of the model's layers its configuration names.
      ConfigError: of a kind gemkit cannot apply.
    """
    folder = _folder(folder)
    described = read_config(folder / CONFIG_FILE)
    check_base(described, base_hash)
    prefix, found = _tensors(folder)
    modules = _modules(config)
    _check_modules(folder, described, prefix, modules.values(), found)
    stored = {path: found[module] for path, module in modules.items() if module in found}
    names = [prefix + modules[path] for path in stored]
    ranks = dict(zip(stored, described.ranks(names), strict=True))
    alphas = dict(zip(stored, described.alphas(names), strict=True))
    table, adapter = specs(config), {}
    for path, parts in stored.items():
        rank, (rows, columns) = ranks[path], table[path].shape
        shapes: dict[str, tuple[int, ...]] = {"a": (rank, columns), "b": (rows, rank)}
        if described.dora:
            shapes["m"] = (rows,)
        adapter[path] = _read(folder, modules[path], parts, shapes)
    lora = Lora(
        described.rank, described.alpha, tuple(adapter), described.dropout, described.rslora,
        described.dora, rank_pattern=exceptions(ranks, described.rank),
        alpha_pattern=exceptions(alphas, described.alpha),
    )  # fmt: skip
    return lora, adapter


def _folders(path: Path) -> list[Path]:
    if path.name in (CONFIG_FILE, WEIGHTS_FILE, PICKLE_FILE) and path.is_file():
        path = path.parent
    if (path / CONFIG_FILE).is_file() or not path.is_dir():
        return [path] if path.is_dir() else []
    return sorted(file.parent for file in path.glob(f"*/{CONFIG_FILE}"))


def _folder(path: Path) -> Path:
    found = _folders(path)
    if len(found) != 1:
        names = ", ".join(folder.name for folder in found[:_SHOWN])
        raise CheckpointError(
            f"{path} has no {CONFIG_FILE}" + (f" but adapters in {names}" if found else ""),
            "the folder of one PEFT adapter", "name one of them" if found else "",
        )  # fmt: skip
    return found[0]


def _tensors(folder: Path) -> tuple[str, dict[str, Parts]]:
    """What stands before `layers.` in the names of modules; module → its tensors."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        if (folder / PICKLE_FILE).is_file():
            raise CheckpointError(
                f"{folder / PICKLE_FILE} is a pickle, which could run any code", WEIGHTS_FILE,
                "load it with PEFT where you trust it and save_pretrained it again",
            )  # fmt: skip
        raise CheckpointError(f"{folder} has no {WEIGHTS_FILE}", f"it beside {CONFIG_FILE}")
    tensors = read_tensors(path)
    found: dict[str, Parts] = {}
    prefix, homeless = None, list(tensors.unused)
    for tensor in tensors.found.values():
        match = _KEY.fullmatch(tensor.name)
        if match is None or prefix not in (None, match["prefix"]):
            homeless.append(tensor.name)
            continue
        prefix = match["prefix"]
        parts = found.setdefault(match["module"], {})
        if parts.setdefault(str(match.lastgroup), tensor) is not tensor:
            raise CheckpointError(f"{path} holds {tensor.name} twice", "every matrix once")
    if homeless:
        raise _homeless(folder, homeless)
    if prefix is None:
        raise CheckpointError(f"{path} holds no tensors", "an adapter of this model's layers")
    return prefix, found


def _check_modules(
    folder: Path, described: PeftConfig, prefix: str, modules: Iterable[str],
    found: Mapping[str, Parts],
) -> None:  # fmt: skip
    known = set(modules)
    foreign = [part.name for module in found if module not in known
               for part in found[module].values()]  # fmt: skip
    if foreign:
        raise _homeless(folder, foreign)
    targets = described.targets([prefix + module for module in modules])
    asked = {name.removeprefix(prefix) for name in targets}
    lost, extra = sorted(asked - found.keys()), sorted(found.keys() - asked)
    if lost or extra:
        first = (lost or extra)[0]
        what = f"{folder} has no matrices for {first}" if lost else f"{folder} adapts {first}"
        count = len(lost or extra)
        raise CheckpointError(
            what + (f" and {count - 1} more modules" if count > 1 else "")
            + (f", which {CONFIG_FILE} targets" if lost else f", which {CONFIG_FILE} does not"),
            "both files of one adapter", "copy them again from one source",
        )  # fmt: skip


def _read(
    folder: Path, name: str, parts: Parts, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, jax.Array]:
    spelled = {"a": "lora_A", "b": "lora_B", "m": "lora_magnitude_vector"}
    shown = sorted(parts.keys() | shapes.keys())
    if {part: tensor.shape for part, tensor in parts.items()} != dict(shapes):
        found = [f"{spelled[p]} {list(parts[p].shape) if p in parts else None}" for p in shown]
        wanted = [f"{list(shapes[p]) if p in shapes else None}" for p in shown]
        raise CheckpointError(f"{folder}: {name} has {' and '.join(found)}", " and ".join(wanted))
    for tensor in parts.values():
        if tensor.dtype not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{folder}: {tensor.name} has dtype {tensor.dtype}", ", ".join(FLOAT_DTYPES)
            )
    values = {part: np.asarray(parts[part].read()) for part in shapes}
    values["b"] = values["b"].T
    return {part: jnp.asarray(value, jnp.float32) for part, value in values.items()}


def _homeless(folder: Path, names: list[str]) -> CheckpointError:
    odd = sorted(names)[:_SHOWN]
    kinds = {
        "lora_embedding": "it adapts the embedding", "base_layer": "it holds weights of the base",
        "lm_head": "it adapts the output head", "vision_tower": "it adapts the vision tower",
    }  # fmt: skip
    why = next((why for word, why in kinds.items() if any(word in name for name in names)), "")
    return CheckpointError(
        f"{folder} holds {len(names)} tensors this model has no place for, such as "
        f"{', '.join(name[:200] for name in odd)}" + (f" ({why})" if why else ""),
        "an adapter of this model's layers, nothing beside it",
        "merge it with PEFT (merge_and_unload) and load the merged model",
    )


def _modules(config: GemmaConfig) -> dict[str, str]:
    """Path → module, such as `layers.0.mlp.up_proj`."""
    table = specs(config)
    return {
        path: cell.name.removesuffix(".weight")
        for path, cell in cells(config, "hugging_face").items()
        if table[path].linear
    }
