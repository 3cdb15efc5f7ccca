"""LoRA adapters as llama.cpp applies them, in a GGUF file of their own.

For every adapted matrix there are `lora_a` [R, in] and `lora_b` [out, R], scaled by alpha / R of
that matrix; alpha is one for the file. Source: llama.cpp `src/llama-adapter.cpp`,
`convert_lora_to_gguf.py`.
"""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gemkit.adapt.lora import Adapter, Lora, exceptions
from gemkit.checkpoint.files import Stored
from gemkit.checkpoint.gguf.blocks import CODES, TYPES
from gemkit.checkpoint.gguf.config import architecture, plain_number
from gemkit.checkpoint.gguf.header import Header, read_header
from gemkit.checkpoint.gguf.weights import stored, write_file
from gemkit.checkpoint.names import cells
from gemkit.errors import CheckpointError, ConfigError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

BASE_HASH = "gemkit.base_sha256"
_ALPHA = "adapter.lora.alpha"
_A, _B = ".lora_a", ".lora_b"


def write_adapter(
    path: Path, config: GemmaConfig, lora: Lora, adapter: Adapter, base_hash: str = ""
) -> tuple[str, ...]:
    """Writes an adapter to a new file.

    Args:
      path: the file.
      config: of the base model.
      lora: its scales count.
      adapter: path → a [R, in], b [R, out].
      base_hash: of the base's weights, to be checked when gemkit reads the file; "" for none.

    Returns:
      Remarks.

    Raises:
        ConfigError: DoRA, which the format cannot say.
    """
    magnitudes = [place for place, pair in adapter.items() if "m" in pair]
    if magnitudes or not adapter:
        raise ConfigError(
            f"{magnitudes[0]} has a DoRA magnitude" if magnitudes else "the adapter is empty",
            "plain LoRA matrices, all that a GGUF adapter holds",
            "merge the adapter into its base and store that",
        )  # fmt: skip
    names = _names(config)
    numerators = {p: lora.scale_of(p) * pair["a"].shape[0] for p, pair in adapter.items()}
    ((alpha, _),) = Counter(numerators.values()).most_common(1)
    tensors = {}
    for place, pair in adapter.items():
        a = np.asarray(pair["a"], np.float32)
        b = np.asarray(pair["b"], np.float32).T * np.float32(numerators[place] / alpha)
        for suffix, values in ((_A, a), (_B, b)):
            name = names[place] + suffix
            tensors[name] = Stored(name, values.shape, "float32", _giver(values))
    metadata = {
        "general.architecture": architecture(config), "general.type": "adapter",
        "general.file_type": 0, "adapter.type": "lora", _ALPHA: float(alpha),
    } | ({BASE_HASH: base_hash} if base_hash else {})  # fmt: skip
    write_file(path, metadata, tensors, dict.fromkeys(tensors, TYPES[CODES["F32"]]))
    folded = sum(not math.isclose(numerator, alpha) for numerator in numerators.values())
    if not folded:
        return ()
    return (f"the scale of {folded} matrices is multiplied into their lora_b: alpha is one",)


def read_adapter(
    path: Path, config: GemmaConfig, base_hash: str | None = None
) -> tuple[Lora, Adapter]:
    """Reads an adapter for this base.

    Args:
      path: the file.
      config: of the base model.
      base_hash: of the base's weights; None skips the comparison.

    Raises:
        CheckpointError: damaged, of another base, of a kind gemkit cannot apply, or with matrices
            the model has not.
    """
    header = read_header(path)
    _check_kind(header, config, base_hash)
    alpha = plain_number(header.values.get(_ALPHA, 0.0))
    if not isinstance(alpha, float) or not 0 <= alpha < 1e9:
        raise CheckpointError(f"{path}: {_ALPHA} is {alpha!r}", "a number from 0")
    adapter = _arrange(header, config)
    ranks = {place: int(pair["a"].shape[0]) for place, pair in adapter.items()}
    rank = max(ranks.values())
    # Where alpha is 0 llama.cpp does not scale, as gemkit where it is None.
    lora = Lora(rank, alpha or None, tuple(adapter), rank_pattern=exceptions(ranks, rank))
    return lora, adapter


def _check_kind(header: Header, config: GemmaConfig, base_hash: str | None) -> None:
    expected = {
        "general.type": "adapter", "adapter.type": "lora",
        "general.architecture": architecture(config),
    }  # fmt: skip
    for key, wanted in expected.items():
        if header.values.get(key) != wanted:
            raise CheckpointError(
                f"{header.path}: {key} is {header.values.get(key)!r}", repr(wanted),
                "an adapter needs the base it was trained on",
            )  # fmt: skip
    if "adapter.alora.invocation_tokens" in header.arrays:
        raise CheckpointError(
            f"{header.path} is an activated LoRA, which begins at certain tokens", "plain LoRA"
        )
    known = header.values.get(BASE_HASH)
    if known and base_hash and known != base_hash:
        raise CheckpointError(
            f"the adapter {header.path} was trained on a base with hash {str(known)[:12]}, "
            f"this model has {base_hash[:12]}", "the base it was trained on",
        )  # fmt: skip


def _arrange(header: Header, config: GemmaConfig) -> Adapter:
    shapes = {place: spec.shape for place, spec in specs(config).items()}
    left, adapter = dict(header.tensors), {}
    for place, name in _names(config).items():
        a, b = left.pop(name + _A, None), left.pop(name + _B, None)
        if a is None and b is None:
            continue
        found = [None if info is None else list(info.shape) for info in (a, b)]
        rows, columns = shapes[place]
        rank = a.shape[0] if a is not None else 0
        if a is None or b is None or found != [[rank, columns], [rows, rank]]:
            raise CheckpointError(
                f"{header.path}: {name} has lora_a {found[0]} and lora_b {found[1]}",
                f"[rank, {columns}] and [{rows}, rank]",
            )
        first, second = (stored(header.path, info).read() for info in (a, b))
        adapter[place] = {
            "a": jnp.array(first, jnp.float32), "b": jnp.array(second.T, jnp.float32)
        }  # fmt: skip
    if left or not adapter:
        odd = ", ".join(sorted(left)[:3])
        raise CheckpointError(
            f"{header.path} holds {len(left)} tensors this model has no place for"
            + (f", such as {odd}" if odd else " and no adapter matrix"),
            "an adapter of this model's layers",
        )
    return adapter


def _names(config: GemmaConfig) -> Mapping[str, str]:
    table = specs(config)
    return {p: cell.name for p, cell in cells(config, "gguf").items() if table[p].linear}


def _giver(values: np.ndarray) -> Any:
    return lambda: values
