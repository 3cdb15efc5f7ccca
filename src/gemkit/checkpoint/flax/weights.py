"""A Flax checkpoint of google-deepmind/gemma, both ways: a tree that Orbax saved.

Read are the flat tree of 2024 (`transformer/layer_0/attn/q_einsum` → `w`), today's nested one and
the stacked one, with what wraps them: a step, the item `default`, a run's `params`. Fused arrays
are cut into the names table's `name#0`, `name#1`. Written is today's nested tree, with
`gemkit_config.json` and `tokenizer.model` among Orbax' files.

Source: google-deepmind/gemma `gm/ckpts/_checkpoint.py`, `_compat.py`, `gm/nn/_modules.py`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gemkit.checkpoint.files import Source, Stored, Tensors, tokenizer_in
from gemkit.checkpoint.flax import config as flax_config
from gemkit.checkpoint.flax.config import gates_by_width
from gemkit.checkpoint.flax.orbax import Array, Writer, find_folder, read_arrays
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.text.tokenizer import Tokenizer

EMBEDDING = "embedder/input_embedding"
_GATING = "mlp/gating_einsum"
_QKV, _Q, _KV = "attn/qkv_einsum/w", "attn/q_einsum/w", "attn/kv_einsum/w"
# How many matrices an array holds along its first axis, and the names the table gives them.
_FUSED = {
    _QKV: (_Q, f"{_KV}#0", f"{_KV}#1"),
    _KV: (f"{_KV}#0", f"{_KV}#1"),
    _GATING: (f"{_GATING}#0", f"{_GATING}#1"),
}

# Around the tree of a text model; the rest of a longer one is vision or a run's state.
_PREFIXES = (
    "", "transformer/", "params/", "params/transformer/", "model/params/",
    "rlx_networks/policy_network/", "rlx_networks/policy_network/transformer/",
)  # fmt: skip
_UNUSED = ("vision_encoder/", "embedder/mm_", "embedder/audio_")
_LORA = re.compile(r"/lora/[ab]$")
_STACKED = re.compile(r"^(.*/)?stacked_layers/attention_type_(\d{1,3})/(.+)$")
# The flat tree ends with `w` here too; today's has the array itself.
_PLAIN_MLP = re.compile(r"(/mlp/(?:gating_einsum|linear))/w$")


def recognises(path: Path) -> bool:
    """Whether a folder, or the only one in it, holds what Orbax saved."""
    return path.is_dir() and find_folder(path) is not None


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The checkpoint, its tensors not read yet.

    Raises:
        CheckpointError: damaged, or no tree of a Gemma model.
        ConfigError: no generation of Gemma has such a shape.
    """
    folder = find_folder(path)
    if folder is None:
        raise CheckpointError(f"{path} holds nothing that Orbax saved", "a Flax checkpoint")
    tensors = _tensors(folder)
    if (folder / flax_config.NAME).is_file():
        config = flax_config.read_config(folder / flax_config.NAME)
    else:
        shapes = {name: tensor.shape for name, tensor in tensors.found.items()}
        config = flax_config.recognise_config(shapes, folder)
    # Kaggle's downloads have the vocabulary beside the folder of the checkpoint.
    tokenizer = tokenizer_in(folder) or tokenizer_in(path) or tokenizer_in(folder.parent)
    yield Source(config, tensors, tokenizer)


def _tensors(folder: Path) -> Tensors:
    arrays = read_arrays(folder)
    prefix, paths = _text_tree(folder, arrays)
    turned = _gates_turned(paths, arrays)
    found: dict[str, Stored] = {}
    unused = set(arrays) - set(paths.values())
    held: dict[Any, np.ndarray] = {}
    for path, name in paths.items():
        if path.startswith(_UNUSED):
            unused.add(name)
            continue
        for layer, plain in _layers(path, arrays[name], paths):
            for key, tensor in _matrices(plain, arrays[name], layer, turned, held):
                if key in found:
                    raise CheckpointError(f"{folder} holds {key} twice", "each tensor once")
                found[key] = tensor

    def spell(name: str) -> str:
        return found[name].name if name in found else prefix + name.partition("#")[0]

    return Tensors(found, spell, tuple(sorted(unused)))


def _gates_turned(paths: Mapping[str, str], arrays: Mapping[str, Array]) -> Callable[[Any], bool]:
    """Tells of the shape of gate and up whether it is (2, D, F) rather than (2, F, D)."""
    width = arrays[paths[EMBEDDING]].shape[-1:]
    steps = {step for path in paths for step in path.split("/")}
    old = gates_by_width("post_attention_norm" in steps, "_query_norm" in steps, sum(width))

    def turned(shape: tuple[int, ...]) -> bool:
        square = shape[1:2] == shape[2:] == width
        return old if square else shape[1:2] == width

    return turned


def _text_tree(folder: Path, arrays: Mapping[str, Array]) -> tuple[str, dict[str, str]]:
    """(prefix, path below the prefix → array's name) of the text model's tree."""
    paths = {name.replace(".", "/"): name for name in arrays}
    if len(paths) < len(arrays):
        lost = next(name for name in arrays if name not in paths.values())
        raise CheckpointError(f"{folder} holds {lost} twice", "each tensor once")
    if any(_LORA.search(path) for path in paths):
        raise CheckpointError(
            f"{folder} holds the matrices of a LoRA adapter", "a model's weights",
            "read it as an adapter, and its base from the base's own checkpoint",
        )  # fmt: skip
    for prefix in _PREFIXES:
        if prefix + EMBEDDING in paths:
            inside = {p.removeprefix(prefix): n for p, n in paths.items() if p.startswith(prefix)}
            return prefix, inside
    first = ", ".join(list(arrays)[:3])
    raise CheckpointError(
        f"{folder} has no {EMBEDDING}; its tree begins {first}", "the tree of a Gemma model"
    )


def _layers(path: str, array: Array, paths: Mapping[str, str]) -> Iterator[tuple[int | None, str]]:
    """(row of a stacked array or None, path in the nested tree) of each layer in an array."""
    stacked = _STACKED.match(path)
    if stacked is None or not array.shape:
        yield None, _PLAIN_MLP.sub(r"\1", path)
        return
    kinds = [_STACKED.match(other) for other in paths]
    period = 1 + max(int(kind[2]) for kind in kinds if kind)
    for row in range(min(array.shape[0], flax_config.MAX_LAYERS)):
        layer = row * period + int(stacked[2])
        yield row, _PLAIN_MLP.sub(r"\1", f"{stacked[1] or ''}layer_{layer}/{stacked[3]}")


def _matrices(
    path: str, array: Array, layer: int | None, turned: Callable[[Any], bool],
    held: dict[Any, np.ndarray],
) -> Iterator[tuple[str, Stored]]:  # fmt: skip
    """The matrices of one array by the table's names; an array of a strange shape as a whole."""
    index = () if layer is None else (layer,)
    shape = array.shape[len(index) :]
    place, _, kind = path.partition("/")
    parts = _FUSED.get(kind, ())
    if not parts or len(shape) != (3 if kind == _GATING else 4) or shape[0] != len(parts):
        yield path, Stored(array.name, shape, array.dtype, lambda: array.read(index))
        return
    transposed = kind == _GATING and turned(shape)

    def reader(number: int) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            # They lie in one compressed piece and are asked for one after the other.
            whole = held.pop((array.name, layer), None)
            whole = array.read(index) if whole is None else whole
            held.clear()
            if number < len(parts) - 1:
                held[array.name, layer] = whole
            return whole[number].T if transposed else whole[number]

        return read

    size = (shape[2], shape[1]) if transposed else shape[1:]
    for number, part in enumerate(parts):
        yield f"{place}/{part}", Stored(array.name, size, array.dtype, reader(number))


def write(
    target: Path, config: GemmaConfig, tensors: Mapping[str, Stored],
    tokenizer: Tokenizer | None, dtype: str,
) -> tuple[str, ...]:  # fmt: skip
    """Writes the nested tree into an empty folder.

    Args:
      target: the folder.
      config: of the model.
      tensors: table name → tensor, each in `dtype`.
      tokenizer: written as tokenizer.model.
      dtype: of all arrays.

    Returns:
      What other programs cannot know from the shapes, and the rows added to the embedding.

    Raises:
        OSError: the disk is full.
    """
    writer = Writer(target)
    transposed = gates_by_width(config.post_norms, config.qk_norm, config.hidden_size)
    added = flax_config.embedding_rows(config) - config.vocab_size
    for name, members in _fused(config, tensors).items():
        parts = [tensors[member] for member in members]
        if len(parts) == 1:
            padding = added if name == EMBEDDING else 0
            _write_plain(writer, name, parts[0], padding, dtype)
        else:
            _write_fused(writer, name, parts, transposed and name.endswith(_GATING), dtype)
    if tokenizer is not None:
        (target / "tokenizer.model").write_bytes(tokenizer.proto)
    flax_config.write_config(target / flax_config.NAME, config)
    writer.finish()
    remarks = flax_config.unsaid(config, {name: t.shape for name, t in tensors.items()})
    if added:
        remarks += (f"{added} rows of zeros end the embedding, as in the original checkpoints",)
    return remarks


def _fused(config: GemmaConfig, names: Iterable[str]) -> dict[str, list[str]]:
    """Path in the tree → the table's names of the matrices in that array."""
    arrays: dict[str, list[str]] = {}
    attention = _QKV if config.num_heads == config.num_kv_heads else _KV
    for name in names:
        place, _, kind = name.partition("/")
        home = next((home for home in (attention, _GATING) if kind in _FUSED[home]), kind)
        arrays.setdefault(f"{place}/{home}", []).append(name)
    return arrays


def _write_plain(writer: Writer, name: str, tensor: Stored, padding: int, dtype: str) -> None:
    rows, *rest = tensor.shape

    def parts() -> Iterator[tuple[tuple[slice], np.ndarray]]:
        values = tensor.read()
        yield (slice(0, rows),), values
        if padding:
            yield (slice(rows, rows + padding),), np.zeros((padding, *rest), values.dtype)

    writer.write(tuple(name.split("/")), (rows + padding, *rest), dtype, 0, parts())


def _write_fused(
    writer: Writer, name: str, parts: list[Stored], transposed: bool, dtype: str
) -> None:
    shape = parts[0].shape[::-1] if transposed else parts[0].shape

    def placed() -> Iterator[tuple[tuple[int], np.ndarray]]:
        for number, part in enumerate(parts):
            yield (number,), part.read().T if transposed else part.read()

    writer.write(tuple(name.split("/")), (len(parts), *shape), dtype, 1, placed())
