"""A GGUF file, llama.cpp's format, both ways: metadata, vocabulary and weights in one.

Source: ggml `docs/gguf.md`; llama.cpp `src/llama-model.cpp` (tensors), `conversion/`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gemkit.checkpoint.files import Source, Stored, Tensors
from gemkit.checkpoint.gguf import config as gguf_config
from gemkit.checkpoint.gguf import tokenizer as gguf_tokenizer
from gemkit.checkpoint.gguf.blocks import CODES, TYPES, BlockType, decode, dtype_of, encode
from gemkit.checkpoint.gguf.header import MAGIC, Header, Info, read_header
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from gguf import GGUFWriter

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
# No weights of the text model: computed tables, and a vision tower in the same file.
_UNUSED = ("rope_freqs.weight", "v.", "mm.")

# By the word for what to store: type of matrices, type of the embedding, `general.file_type`.
# llama.cpp keeps the embedding of a Q4_0 file finer too: it is the output head as well.
_WRITTEN = {
    "float32": ("F32", "F32", 0),
    "float16": ("F16", "F16", 1),
    "bfloat16": ("BF16", "BF16", 32),
    "q8_0": ("Q8_0", "Q8_0", 7),
    "q4_0": ("Q4_0", "Q8_0", 2),
}
_QUANTIZATION_VERSION = 2

_COMPARED_BYTES = 2**26


def recognises(path: Path) -> bool:
    """Whether this is a GGUF file, or a folder with one and no other weights; never raises."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(4) == MAGIC
        others = any(next(path.glob(f"*{end}"), None) for end in (".safetensors", ".h5"))
        return bool(_candidates(path)) and not others
    except (OSError, ValueError):
        return False


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """A file, or the one in a folder.

    Raises:
        CheckpointError: damaged, part of a split model, an adapter, or several in the folder.
        ConfigError: a model gemkit does not know or cannot run faithfully.
    """
    header = read_header(_file(path))
    _check_whole_model(header)
    embedding = header.tensors.get(_EMBEDDING)
    pieces = gguf_tokenizer.vocabulary(header)
    rows = len(pieces) or (embedding.shape[0] if embedding else 0)
    config = gguf_config.read_config(header, rows)
    # A size that no tensor bears out must not make a reader work through imagined layers.
    if embedding is None or embedding.shape[1:] != (config.hidden_size,):
        found = list(embedding.shape) if embedding else "missing"
        raise CheckpointError(
            f"{header.path}: {_EMBEDDING} is {found}", f"rows of {config.hidden_size} numbers",
            "copy or download the file again",
        )  # fmt: skip
    if len(pieces) > config.vocab_size:
        raise CheckpointError(
            f"{header.path} has {len(pieces)} pieces", f"at most vocab_size, {config.vocab_size}"
        )
    if config.num_layers > len(header.tensors):
        raise CheckpointError(
            f"{header.path} holds {len(header.tensors)} tensors", f"{config.num_layers} layers"
        )
    has_tokenizer = gguf_tokenizer.TOKENS in header.arrays
    yield Source(
        config, _tensors(header),
        (lambda: gguf_tokenizer.read_tokenizer(header)) if has_tokenizer else None,
    )  # fmt: skip


def _candidates(folder: Path) -> list[Path]:
    # Files named mmproj hold a vision tower alone.
    return sorted(f for f in folder.glob("*.gguf") if not f.name.startswith("mmproj"))


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = _candidates(path)
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:4]) or "none"
        raise CheckpointError(f"{path} holds {len(files)} .gguf files ({names})", "name one")
    return files[0]


def _check_whole_model(header: Header) -> None:
    parts = header.values.get("split.count", 1)
    if parts != 1 and parts != 0:
        raise CheckpointError(
            f"{header.path} is one of {parts} parts", "a model in one file",
            "join them with llama.cpp: llama-gguf-split --merge",
        )  # fmt: skip
    kind = header.values.get("general.type", "model")
    if kind != "model":
        raise CheckpointError(
            f"{header.path}: general.type is {kind!r}", "'model'",
            "this is an adapter: name its base model" if kind == "adapter" else "",
        )  # fmt: skip


def _tensors(header: Header) -> Tensors:
    found, unused = {}, []
    for name, info in header.tensors.items():
        if name == _HEAD and _EMBEDDING in header.tensors:
            _check_head(header, info, header.tensors[_EMBEDDING])
            unused.append(name)
        elif name.startswith(_UNUSED):
            unused.append(name)
        else:
            found[name] = stored(header.path, info)
    return Tensors(found, lambda name: name, tuple(unused))


def stored(path: Path, info: Info) -> Stored:
    """A tensor, not read yet: a view of the mapped file, or float32 for a quantised one."""

    def read() -> np.ndarray:
        return decode(_bytes(path, info), info.kind, info.shape)

    return Stored(info.name, info.shape, dtype_of(info.kind).name, read)


def _bytes(path: Path, info: Info) -> np.ndarray:
    # A mapping per tensor goes away with it; one of the whole file would stay resident.
    return np.memmap(path, np.uint8, "r", info.start, (info.nbytes,))


def _check_head(header: Header, head: Info, embedding: Info) -> None:
    """Refuse an output head of its own: Gemma's is the embedding."""
    alike = (head.shape, head.kind) == (embedding.shape, embedding.kind)
    if alike:
        one, other = (_bytes(header.path, info) for info in (head, embedding))
        steps = range(0, len(one), _COMPARED_BYTES)
        alike = all(
            np.array_equal(one[at : at + _COMPARED_BYTES], other[at : at + _COMPARED_BYTES])
            for at in steps
        )
    if not alike:
        raise CheckpointError(
            f"{header.path}: {_HEAD} differs from {_EMBEDDING}", "one table for both, as in Gemma",
            "gemkit cannot run a model with an untied output head",
        )  # fmt: skip


def write(
    target: Path, config: GemmaConfig, tensors: Mapping[str, Stored],
    tokenizer: Tokenizer | None, dtype: str,
) -> tuple[str, ...]:  # fmt: skip
    """Writes a file; vectors are always float32, as llama.cpp wants its norms.

    Args:
      target: the file, in a folder that exists.
      config: the model's shape.
      tensors: name in the file → what to store; each is read once.
      tokenizer: its vocabulary; llama.cpp runs no model without.
      dtype: float32, float16, bfloat16, q8_0 or q4_0.

    Raises:
        ConfigError: GGUF cannot express the model.
        CheckpointError: a weight that the type cannot hold.
    """
    matrices, table, file_type = _WRITTEN[dtype]
    metadata = gguf_config.config_metadata(config)
    metadata |= {"general.type": "model", "general.file_type": file_type}
    if not TYPES[CODES[matrices]].dtype:
        metadata["general.quantization_version"] = _QUANTIZATION_VERSION
    remarks = []
    if tokenizer is None:
        remarks.append("without a tokenizer llama.cpp will not run this file")
    else:
        metadata |= gguf_tokenizer.tokenizer_metadata(tokenizer, config.vocab_size)
    if table != matrices:
        remarks.append(f"{_EMBEDDING} is stored as {table}, the matrices as {matrices}")
    kinds = {
        name: _kind_for(tensor, table if name == _EMBEDDING else matrices)
        for name, tensor in tensors.items()
    }
    odd = [n for n, kind in kinds.items() if len(tensors[n].shape) > 1 and kind.name == "F32"]
    if odd and matrices != "F32":
        remarks.append(
            f"{len(odd)} matrices are stored as float32: blocks of 32 do not fill their rows"
        )
    write_file(target, metadata, tensors, kinds)
    return tuple(remarks)


def _kind_for(tensor: Stored, name: str) -> BlockType:
    kind = TYPES[CODES[name]]
    fits = len(tensor.shape) > 1 and tensor.shape[-1] % kind.values == 0
    return kind if fits else TYPES[CODES["F32"]]


def write_file(
    target: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Stored],
    kinds: Mapping[str, BlockType],
) -> None:  # fmt: skip
    """Writes metadata and tensors, each read when its turn comes."""
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(target, metadata["general.architecture"])
    try:
        for key, value in metadata.items():
            if key != "general.architecture":
                _add(writer, key, value)
        for name, tensor in tensors.items():
            kind = kinds[name]
            size = int(np.prod(tensor.shape)) // kind.values * kind.nbytes
            writer.add_tensor_info(
                name, tensor.shape, np.dtype(np.float32), size, GGMLQuantizationType[kind.name]
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in tensors.items():
            writer.write_tensor_data(encode(tensor.read(), kinds[name]))
    finally:
        writer.close()


def _add(writer: "GGUFWriter", key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_float32(key, value)
