"""A Hugging Face folder: (sharded) safetensors and the files around them, both ways.

Reading maps one tensor at a time, so that a checkpoint of any size costs no memory of its own.
Source: the safetensors format description; transformers `modeling_utils.py` (names, index).
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from gemkit import __version__
from gemkit.checkpoint.chat_template import chat_template
from gemkit.checkpoint.files import (
    FLOAT_DTYPES,
    Source,
    Stored,
    Tensors,
    read_ahead,
    read_json,
    shard_path,
    tokenizer_in,
)  # fmt: skip
from gemkit.checkpoint.hf import config as huggingface_config
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.text.tokenizer import Tokenizer

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"

_NUMPY: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
}
# Text-only first; Gemma 3 with vision as uploaded and as transformers ≥ 4.52 writes it.
_PREFIXES = ("model.", "", "language_model.model.", "model.language_model.", "language_model.")
_EMBEDDING = "embed_tokens.weight"
_HEADS = ("lm_head.weight", "language_model.lm_head.weight")
_VISION = ("vision_tower.", "multi_modal_projector.")
_BUFFER = "rotary_emb.inv_freq"

_COMPARED_BYTES = 2**26
SHARD_BYTES = 5 * 10**9


def recognises(path: Path) -> bool:
    """Whether a folder, or the folder around a .safetensors file, has a config with model_type."""
    folder = path.parent if path.suffix == ".safetensors" and path.is_file() else path
    try:
        return "model_type" in read_json(folder / "config.json")
    except CheckpointError:
        return False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The checkpoint, its tensors not read yet; see `read_tensors`."""
    folder = path.parent if path.is_file() else path
    raw = read_json(folder / "config.json")
    config = huggingface_config.read_config(raw, str(folder / "config.json"))
    tensors = read_tensors(path, multimodal=raw["model_type"] == "gemma3")
    yield Source(config, tensors, tokenizer_in(folder))


def read_tensors(path: Path, multimodal: bool = False) -> Tensors:
    """The tensors of a folder, or of one `.safetensors` file.

    Args:
      path: the folder or file.
      multimodal: whether config.json announces a vision tower, which is then left out.

    Raises:
        CheckpointError: no weights, a damaged file, a missing shard, or an output head that is
            not the embedding.
    """
    stored = _all_tensors(path)
    prefix = next((p for p in _PREFIXES if p + _EMBEDDING in stored), "model.")
    found: dict[str, Stored] = {}
    unused = []
    for name, tensor in stored.items():
        if name in _HEADS and prefix + _EMBEDDING in stored:
            _check_head(tensor, stored[prefix + _EMBEDDING])
            unused.append(name)
        elif name.endswith(_BUFFER) or (
            multimodal and name.removeprefix("model.").startswith(_VISION)
        ):
            unused.append(name)
        else:
            found[name.removeprefix(prefix)] = tensor
    return Tensors(found, lambda name: prefix + name, tuple(unused))


def _all_tensors(path: Path) -> dict[str, Stored]:
    if path.is_file():
        return _file_tensors(path)
    if (path / SINGLE_NAME).is_file():
        return _file_tensors(path / SINGLE_NAME)
    index = path / INDEX_NAME
    if index.is_file():
        return _sharded_tensors(path, index)
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return _file_tensors(files[0])
    pickled = sorted(file.name for file in path.glob("*.bin"))
    raise CheckpointError(
        f"{path} has {len(files)} .safetensors files and no {INDEX_NAME}"
        + (f", but {pickled[0]}, a pickle that could run any code" if pickled else ""),
        f"{SINGLE_NAME}, or shards and their index",
        "save the model as safetensors" if pickled else "copy the missing files",
    )


def _sharded_tensors(folder: Path, index: Path) -> dict[str, Stored]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map", "tensor names and their shards")
    names = {json.dumps(name): name for name in weight_map.values()}
    stored: dict[str, Stored] = {}
    for shard in (shard_path(folder, name, index) for name in names.values()):
        for name, tensor in _file_tensors(shard).items():
            if weight_map.get(name) == shard.name:
                stored[name] = tensor
            elif name not in weight_map:
                raise CheckpointError(
                    f"{shard} holds {name}, which {index.name} does not name",
                    "an index of all tensors", "copy shards and index from one source",
                )  # fmt: skip
    lost = [name for name in weight_map if name not in stored]
    if lost:
        raise CheckpointError(
            f"{folder / weight_map[lost[0]]} lacks {lost[0]} that {index.name} places there"
            + (f", and {len(lost) - 1} more are lost" if len(lost) > 1 else ""),
            "shards and index of one checkpoint", "copy them again",
        )  # fmt: skip
    return stored


def _file_tensors(path: Path) -> dict[str, Stored]:
    return dict(_tensors(path))


def _tensors(path: Path) -> Iterator[tuple[str, Stored]]:
    try:
        # The library checks lengths, offsets, shapes and dtypes against each other.
        with safetensors.safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} ({_size(path)}) is damaged or no safetensors file ({error})",
            "a whole safetensors file", "copy or download it again",
        ) from None  # fmt: skip
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, _stored(path, name, entry, 8 + length)


def _size(path: Path) -> str:
    return f"{path.stat().st_size} bytes" if path.is_file() else "no file"


def _stored(path: Path, name: str, entry: Mapping[str, Any], start: int) -> Stored:
    code, shape = entry["dtype"], tuple(entry["shape"])

    def read() -> np.ndarray:
        # A mapping per tensor goes away with it; one of the whole file would stay resident.
        offset, end = (start + place for place in entry["data_offsets"])
        read_ahead(path, offset, end - offset)
        return np.memmap(path, mode="r", dtype=_NUMPY[code], offset=offset, shape=shape)

    return Stored(name, shape, _NUMPY[code].name if code in _NUMPY else code, read)


def _check_head(head: Stored, embedding: Stored) -> None:
    """Refuse an output head of its own: Gemma's is the embedding."""
    alike = head.shape == embedding.shape and head.dtype == embedding.dtype
    if not alike or head.dtype not in FLOAT_DTYPES or not _same_values(head, embedding):
        raise CheckpointError(
            f"{head.name} differs from {embedding.name}", "one table for both, as in Gemma",
            "gemkit cannot run a model with an untied output head",
        )  # fmt: skip


def _same_values(one: Stored, other: Stored) -> bool:
    a, b = (tensor.read().reshape(-1).view(np.uint8) for tensor in (one, other))
    step = _COMPARED_BYTES
    return all(np.array_equal(a[i : i + step], b[i : i + step]) for i in range(0, len(a), step))


def write(
    target: Path, config: GemmaConfig, tensors: Mapping[str, Stored],
    tokenizer: Tokenizer | None, dtype: str,
) -> tuple[str, ...]:  # fmt: skip
    """Writes into an empty folder; shards of `SHARD_BYTES` with an index for larger weights."""
    described = huggingface_config.write_config(config, dtype, __version__)
    _write_tensors(target, {f"model.{name}": t for name, t in tensors.items()})
    write_json(target / "generation_config.json", generation_config(tokenizer))
    if tokenizer is not None:
        write_tokenizer(target, tokenizer)
    write_json(target / "config.json", described)
    return ()


def _write_tensors(folder: Path, tensors: Mapping[str, Stored]) -> None:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.nbytes > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += tensor.nbytes
    if len(shards) == 1:
        _write_file(folder / SINGLE_NAME, tensors)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        shard = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_file(folder / shard, {name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, shard)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(
        folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map}
    )


def _write_file(path: Path, tensors: Mapping[str, Stored]) -> None:
    """A safetensors file, tensor by tensor: the library's writer wants all of them at once."""
    codes = {dtype.name: code for code, dtype in _NUMPY.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": codes[tensor.dtype], "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor.read()).reshape(-1).view(np.uint8).data)


def write_json(path: Path, value: Any) -> None:
    """Write an object as JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """tokenizer.model and the settings that make transformers read it as Gemma's."""
    (folder / "tokenizer.model").write_bytes(tokenizer.proto)
    ids = ("pad_id", "eos_id", "bos_id", "unk_id")
    pieces = {name: tokenizer.id_to_piece(getattr(tokenizer, name)) for name in ids}
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            **{name.replace("_id", "_token"): piece for name, piece in pieces.items()},
            "clean_up_tokenization_spaces": False,
            "spaces_between_special_tokens": False,
            "sp_model_kwargs": {},
            "model_max_length": 10**30,
            **chat_template(tokenizer),
        },
    )


def generation_config(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """generation_config.json: the ids that begin and end a text."""
    if tokenizer is None:
        return {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    turn = tokenizer.end_of_turn_id
    eos = tokenizer.eos_id
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": eos if turn is None else [eos, turn],
        "pad_token_id": tokenizer.pad_id,
    }
