"""The LoRA subtree of google-deepmind/gemma, both ways: `gm.nn.LoRA`, saved by Orbax.

There one `a` serves all matrices of a fused array, every array has one and all have the same
rank. An adapter with several `a` for one array is written as a larger one: their components side
by side, each with zeros in `b` for the other matrices. The update is the same. Nothing there
scales, so `b` takes the scale in. Read back, components that do nothing for a matrix are dropped.

Source: google-deepmind/gemma `gm/nn/_lora.py`, `peft/_lora.py`, `peft/_einsum_utils.py`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gemkit.adapt.lora import Adapter, Lora
from gemkit.checkpoint.files import FLOAT_DTYPES
from gemkit.checkpoint.flax.orbax import Array, Writer, find_folder, read_arrays
from gemkit.errors import CheckpointError, ConfigError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

# Array of a layer → the matrices in it; the module that holds a and b.
_MATRICES = {
    "attn/q_einsum": ("attn.q",),
    "attn/kv_einsum": ("attn.k", "attn.v"),
    "attn/qkv_einsum": ("attn.q", "attn.k", "attn.v"),
    "attn/attn_vec_einsum": ("attn.o",),
    "mlp/gating_einsum": ("mlp.gate", "mlp.up"),
    "mlp/linear": ("mlp.down",),
}
_PLACE = re.compile(
    r"^(?:params/|transformer/)*layer_(\d{1,4})/(?:"
    r"(?P<attn>attn/\w+_einsum)/(?:_LoRAEinsum_0/)?|mlp/(?:_LoRAEinsum_)?(?P<mlp>\w+)/"
    r")lora/(?P<leaf>[ab])$"
)
_LORA = re.compile(r"/lora/\w+$")


def read_adapter(path: Path, config: GemmaConfig) -> tuple[Lora, Adapter]:
    """Reads the adapter in a folder that Orbax saved, alone or beside its base's weights.

    Args:
      path: the folder.
      config: of the base model.

    Returns:
      Settings with a scale of 1, and path → a [R, in], b [R, out] in float32.

    Raises:
      CheckpointError: damaged, no adapter, or one with arrays that this model has not.
    """
    folder = find_folder(path)
    if folder is None:
        raise CheckpointError(f"{path} holds nothing that Orbax saved", "a Flax adapter folder")
    adapter: Adapter = {}
    for (layer, array), pair in _pairs(folder, read_arrays(folder), config).items():
        if pair.keys() != {"a", "b"}:
            raise CheckpointError(
                f"{folder}: layer_{layer}/{array} has lora {''.join(pair)} alone", "a and b"
            )
        adapter |= _matrices(folder, config, layer, array, pair)
    if not adapter:
        raise CheckpointError(f"{folder}: every LoRA matrix is zero", "a trained adapter")
    order = [path for path in specs(config) if path in adapter]
    rank = max(len(pair["a"]) for pair in adapter.values())
    return Lora(rank, targets=tuple(order)), {path: adapter[path] for path in order}


def _pairs(
    folder: Path, arrays: Mapping[str, Array], config: GemmaConfig
) -> dict[tuple[int, str], dict[str, Array]]:
    """(layer, array's name) → its a and b, not read yet."""
    pairs: dict[tuple[int, str], dict[str, Array]] = {}
    strange = []
    for name, stored in arrays.items():
        path = name.replace(".", "/")
        if not _LORA.search("/" + path):
            continue
        place = _PLACE.match(path)
        array = place and (place["attn"] or f"mlp/{place['mlp']}")
        if place is None or array not in _arrays(config) or int(place[1]) >= config.num_layers:
            strange.append(name)
        else:
            pairs.setdefault((int(place[1]), str(array)), {})[place["leaf"]] = stored
    if strange or not pairs:
        raise CheckpointError(
            f"{folder} holds {len(strange)} LoRA matrices this model has no place for, such as "
            f"{strange[0]}" if strange else f"{folder} holds no LoRA matrices",
            "an adapter of this model's layers",
        )  # fmt: skip
    return pairs


def _arrays(config: GemmaConfig) -> tuple[str, ...]:
    """The arrays that hold the matrices of a layer."""
    fused = config.num_heads == config.num_kv_heads
    absent = {"attn/q_einsum", "attn/kv_einsum"} if fused else {"attn/qkv_einsum"}
    return tuple(name for name in _MATRICES if name not in absent)


def _shapes(config: GemmaConfig, array: str, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of a and b."""
    c = config
    width, heads = (c.hidden_size,), (c.num_heads, c.head_dim)
    inside, outside = {
        "attn/q_einsum": (width, heads),
        "attn/kv_einsum": (width, (2, c.num_kv_heads, c.head_dim)),
        "attn/qkv_einsum": (width, (3, *heads)),
        "attn/attn_vec_einsum": (heads, width),
        "mlp/gating_einsum": (width, (2, c.intermediate_size)),
        "mlp/linear": ((c.intermediate_size,), width),
    }[array]
    return (*inside, rank), (rank, *outside)


def _matrices(
    folder: Path, config: GemmaConfig, layer: int, array: str, pair: Mapping[str, Array]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path → a and b of each matrix that the pair of an array changes or may come to change."""
    rank = (pair["a"].shape or (0,))[-1]
    for leaf, shape in zip("ab", _shapes(config, array, rank), strict=True):
        stored = pair[leaf]
        if stored.shape != shape or rank < 1 or stored.dtype not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{folder}: {stored.name} is {stored.dtype}{list(stored.shape)}",
                f"{list(shape)} in {', '.join(FLOAT_DTYPES)}", "read it with its own base",
            )  # fmt: skip
    names = _MATRICES[array]
    a = pair["a"].read(()).astype(np.float32).reshape(-1, rank).T
    b = pair["b"].read(()).astype(np.float32).reshape(rank, len(names), -1)
    # What is new has zeros in all of b, and is to be trained.
    fresh = ~b.any((1, 2)) & a.any(1)
    for number, name in enumerate(names):
        kept = b[:, number].any(1) | fresh
        if kept.any():
            leaves = {"a": jnp.asarray(a[kept]), "b": jnp.asarray(b[kept, number])}
            yield f"layers.{layer}.{name}", leaves


def write_adapter(folder: Path, config: GemmaConfig, lora: Lora, adapter: Adapter) -> None:
    """Writes an adapter into an existing folder, in float32.

    Args:
      folder: where; the caller makes it appear whole.
      config: of the base model.
      lora: its scale.
      adapter: path → a [R, in], b [R, out].

    Raises:
      ConfigError: DoRA.
      OSError: the disk is full.
    """
    if any("m" in pair for pair in adapter.values()):
        raise ConfigError(
            "a Flax adapter cannot say DoRA's magnitudes", "a plain LoRA adapter",
            "merge it into the model instead",
        )  # fmt: skip
    places = [(layer, array) for layer in range(config.num_layers) for array in _arrays(config)]
    components = {place: _components(adapter, *place) for place in places}
    rank = max(sum(len(a) for a, _ in blocks) for blocks in components.values())
    writer = Writer(folder)
    for (layer, array), blocks in components.items():
        a_shape, b_shape = _shapes(config, array, rank)
        a = np.zeros((rank, int(np.prod(a_shape[:-1]))), np.float32)
        b = np.zeros((rank, len(_MATRICES[array]), np.prod(b_shape[1:]) // len(_MATRICES[array])),
                     np.float32)  # fmt: skip
        start = 0
        for block, members in blocks:
            rows = slice(start, start + len(block))
            a[rows] = block
            for number, values in members.items():
                b[rows, number] = values * np.float32(lora.scale)
            start = rows.stop
        group, _, name = array.partition("/")
        attention = (f"layer_{layer}", group, name, "_LoRAEinsum_0", "lora")
        mlp = (f"layer_{layer}", group, f"_LoRAEinsum_{name}", "lora")
        steps = attention if group == "attn" else mlp
        writer.write((*steps, "a"), a_shape, "float32", 0, [((), a.T.reshape(a_shape))])
        writer.write((*steps, "b"), b_shape, "float32", 0, [((), b.reshape(b_shape))])
    writer.finish()


def _components(
    adapter: Adapter, layer: int, array: str
) -> list[tuple[np.ndarray, dict[int, np.ndarray]]]:
    """Each different `a` of an array's matrices, with the b of those that share it."""
    blocks: list[tuple[np.ndarray, dict[int, np.ndarray]]] = []
    for number, name in enumerate(_MATRICES[array]):
        pair = adapter.get(f"layers.{layer}.{name}")
        if pair is None:
            continue
        a, b = (np.asarray(pair[leaf], np.float32) for leaf in "ab")
        shared = next((members for other, members in blocks if np.array_equal(other, a)), None)
        if shared is None:
            blocks.append((a, {number: b}))
        else:
            shared[number] = b
    return blocks
