"""A Keras preset folder (KerasNLP, KerasHub): config.json and (sharded) model.weights.h5.

HDF5 says where in the file a tensor lies; its values are mapped from there when they are wanted.
So a file that asks for more than it holds is refused before anything is read. Sources: keras-hub
`utils/preset_utils.py`; keras `saving/saving_lib.py`.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gemkit.checkpoint.files import Source, Stored, Tensors, read_json, shard_path
from gemkit.checkpoint.keras.config import (
    INDEX_NAME,
    WEIGHTS_NAME,
    dataset_name,
    is_gemma3,
    read_config,
)  # fmt: skip
from gemkit.checkpoint.keras.write import write as write
from gemkit.errors import CheckpointError
from gemkit.text.tokenizer import FILE_NAMES, Tokenizer

_PREFIX = re.compile(r"^/?(?:layers|_layer_checkpoint_dependencies)/")
_BACKBONE = re.compile(r"^gemma3?_backbone/(?:layers|_layer_checkpoint_dependencies)/")
_BLOCK = re.compile(r"^gemma3?_(?=decoder_block)")
# State of training, which may lie in any group.
_NO_WEIGHTS = re.compile(r"(^|/)(optimizer|seed_generator)/")
_VISION = "vision_encoder"


def recognises(path: Path) -> bool:
    """Whether a folder, or the folder around an .h5 file, has a config.json of Keras."""
    folder = path
    if path.is_file():
        if path.suffix != ".h5" or path.name.endswith(".lora.h5"):
            return False
        folder = path.parent
    try:
        keys = read_json(folder / "config.json").keys()
    except CheckpointError:
        return False
    return "model_type" not in keys and bool({"registered_name", "class_name"} & keys)


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The checkpoint, its tensors not read yet.

    Raises:
        CheckpointError: no weights, a damaged file or a missing shard.
        ConfigError: as `read_config`.
    """
    folder = path.parent if path.is_file() else path
    raw, where = read_json(folder / "config.json"), str(folder / "config.json")
    config = read_config(raw, where)
    family = "gemma3" if is_gemma3(raw, where) else "gemma"
    yield Source(config, read_tensors(path, family), _tokenizer(folder))


def _tokenizer(folder: Path) -> Callable[[], Tokenizer] | None:
    # Here tokenizer.json is Keras' description of a class, no vocabulary.
    names = (name for name in FILE_NAMES if name != "tokenizer.json")
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    return None if found is None else lambda: Tokenizer.from_file(found)


def read_tensors(path: Path, family: str) -> Tensors:
    """The tensors of a preset folder or of one `.h5` file; `family` is gemma or gemma3.

    Raises:
        CheckpointError: no weights, a damaged file or a missing shard.
    """
    stored: dict[str, Stored] = {}
    for file in [path] if path.is_file() else _files(path):
        for name, tensor in datasets(file).items():
            if name in stored:
                raise CheckpointError(f"{file}: {name} is in two shards", "each tensor once")
            stored[name] = tensor
    unused = tuple(name for name in stored if _VISION in name)
    found = {_table_name(name): s for name, s in stored.items() if _VISION not in name}
    return Tensors(found, lambda name: dataset_name(name, family), unused)


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
            names[repr(name)] = name
    return [shard_path(folder, name, index) for name in names.values()]


def datasets(path: Path) -> dict[str, Stored]:
    """Every dataset of an HDF5 file that may be a weight, by its path; links are not followed.

    Raises:
        CheckpointError: a damaged file, or one that is not as Keras writes it.
    """
    import h5py

    stored: dict[str, Stored] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and not _NO_WEIGHTS.search(name):
            stored[name] = _stored(path, name, node)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except CheckpointError:
        raise
    except Exception as error:  # h5py raises whatever the C library's state suggests
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is damaged or no HDF5 file ({error})",
            "a whole weights file as Keras writes it", "copy or download it again",
        ) from None  # fmt: skip
    return stored


def _stored(path: Path, name: str, dataset: Any) -> Stored:
    if dataset.external or dataset.is_virtual:
        raise CheckpointError(
            f"{path}: {name} keeps its data in another file", "a self-contained file",
            "do not trust this checkpoint",
        )  # fmt: skip
    shape, offset = dataset.shape, dataset.id.get_offset()
    if shape is None or dataset.chunks is not None or offset is None:
        raise CheckpointError(
            f"{path}: {name} is compressed, in chunks or empty", "plain arrays as Keras writes",
            "save it with Keras again",
        )  # fmt: skip
    dtype, size = dataset.dtype, path.stat().st_size
    if offset + math.prod(shape) * dtype.itemsize > size:
        raise CheckpointError(
            f"{path} ({size} bytes) ends before {name} {list(shape)} at byte {offset} does",
            "a whole file", "copy or download it again",
        )  # fmt: skip
    # HDF5 has no bfloat16: Keras writes two opaque bytes, in later versions with an attribute.
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == np.dtype("V2") else dtype

    def read() -> np.ndarray:
        # A mapping per tensor goes away with it; one of the whole file would stay resident.
        return np.memmap(path, mode="r", dtype=kind, offset=offset, shape=shape)

    return Stored(name, shape, str(kind), read)


def _table_name(name: str) -> str:
    """A dataset's path as the names table spells it.

    >>> _table_name("layers/gemma_backbone/layers/gemma_decoder_block_1/ffw_linear/vars/0")
    'decoder_block_1/ffw_linear/vars/0'
    """
    return _BLOCK.sub("", _BACKBONE.sub("", _PREFIX.sub("", name)))
