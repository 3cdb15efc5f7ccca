"""Write a Keras preset as KerasHub ≥ 0.21 does: settings, vocabulary, (sharded) weights.

Sources: keras-hub 0.32 `utils/preset_utils.py`; keras `saving/saving_lib.py`.
"""

import datetime
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gemkit import __version__
from gemkit.checkpoint.files import Stored
from gemkit.checkpoint.keras.config import (
    INDEX_NAME,
    WEIGHTS_NAME,
    dataset_name,
    family,
    layer,
    serialized,
    write_config,
)  # fmt: skip
from gemkit.model.config import GemmaConfig
from gemkit.text.tokenizer import Tokenizer

SHARD_BYTES = 10 * 2**30  # KerasHub's default


def write(
    target: Path, config: GemmaConfig, tensors: Mapping[str, Stored],
    tokenizer: Tokenizer | None, dtype: str,
) -> tuple[str, ...]:  # fmt: skip
    """Writes into an empty folder, in shards with an index where the weights exceed the limit.

    Without a tokenizer there is no task.json either, and KerasHub loads the backbone alone.

    Returns:
      Remarks on what a preset cannot say.

    Raises:
        ConfigError: as `write_config`; nothing is written then.
    """
    described, remarks = write_config(config, dtype)
    kind = family(config)
    _write_tensors(target, {dataset_name(n, kind): t for n, t in tensors.items()})
    if tokenizer is not None:
        for name, value in _task(kind, described).items():
            _write_json(target / name, value)
        vocabulary = target / "assets" / "tokenizer" / "vocabulary.spm"
        vocabulary.parent.mkdir(parents=True)
        vocabulary.write_bytes(tokenizer.proto)
    metadata = {
        "keras_version": None, "keras_hub_version": None, "gemkit_version": __version__,
        "parameter_count": sum(math.prod(tensor.shape) for tensor in tensors.values()),
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "tasks": ["CausalLM"],
    }  # fmt: skip
    _write_json(target / "metadata.json", metadata)
    _write_json(target / "config.json", described)
    return remarks


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=4), "utf-8")


def _task(kind: str, backbone: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """File name → what makes KerasHub read, tokenise and complete texts."""
    vocabulary = {
        "config_file": "tokenizer.json", "proto": None, "sequence_length": None,
        "add_bos": False, "add_eos": False,
    }  # fmt: skip
    packing: dict[str, Any] = {
        "config_file": "preprocessor.json", "sequence_length": 1024, "add_start_token": True,
        "add_end_token": True,
    }  # fmt: skip
    if kind == "gemma3":
        vocabulary |= {"has_vision_tokens": False}
        packing |= {"num_vision_tokens_per_image": 256, "max_images_per_prompt": 2}
    tokenizer = serialized(kind, "tokenizer", layer(vocabulary, "int32"))
    packing = {"tokenizer": tokenizer, **packing}
    preprocessor = serialized(kind, "causal_lm_preprocessor", layer(packing, "float32"))
    parts = {"backbone": backbone, "preprocessor": preprocessor}
    return {
        "tokenizer.json": tokenizer,
        "preprocessor.json": preprocessor,
        "task.json": serialized(kind, "causal_lm", parts),
    }


def _write_tensors(folder: Path, tensors: Mapping[str, Stored]) -> None:
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total <= SHARD_BYTES:
        _write_file(folder / WEIGHTS_NAME, tensors)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(_shards(tensors)):
        shard = f"model_{number:05}.weights.h5"
        _write_file(folder / shard, {name: tensors[name] for name in names})
        weight_map |= {"/" + name.removesuffix("/0"): shard for name in names}
    index = {"metadata": {"total_size": float(total)}, "weight_map": weight_map}
    _write_json(folder / INDEX_NAME, index)


def _shards(tensors: Mapping[str, Stored]) -> Iterator[list[str]]:
    names: list[str] = []
    filled = 0
    for name, tensor in tensors.items():
        if names and filled + tensor.nbytes > SHARD_BYTES:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += tensor.nbytes
    yield names


def _write_file(path: Path, tensors: Mapping[str, Stored]) -> None:
    with new_hdf5(path) as file:
        for name, tensor in tensors.items():
            write_array(file, name, tensor.read())


@contextmanager
def new_hdf5(path: Path) -> Iterator[Any]:
    """A new HDF5 file; a full disk is an OSError whenever it is noticed."""
    import h5py

    try:
        with h5py.File(path, "x") as file:
            yield file
    except RuntimeError as error:  # what h5py makes of a full disk when it closes a file
        raise OSError(str(error)) from error


def write_array(file: Any, name: str, values: np.ndarray) -> None:
    """A dataset as Keras writes it: HDF5 has no bfloat16, so that is two opaque bytes."""
    values = np.asarray(values, order="C")
    if values.dtype == ml_dtypes.bfloat16:
        file.create_dataset(name, data=values.view("V2")).attrs["dtype"] = "bfloat16"
    else:
        file.create_dataset(name, data=values)
