"""Load and save checkpoints: recognise the format, stream leaf by leaf, replace atomically."""

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from gemkit import __version__
from gemkit.checkpoint import huggingface, huggingface_config, keras
from gemkit.checkpoint.files import FLOAT_DTYPES, Tensors, read_json
from gemkit.checkpoint.names import SAME, Cell, Format, cells, stored_shape
from gemkit.checkpoint.report import Report, check_tensors
from gemkit.errors import CheckpointError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten, specs, unflatten
from gemkit.text.tokenizer import FILE_NAMES, Tokenizer

DEFAULT_SHARD_BYTES = 5 * 10**9

# Every file `save_checkpoint` may write.
_WRITTEN = re.compile(
    r"(generation_|tokenizer_)?config\.json|tokenizer\.model"
    r"|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
)
_UNDERSTOOD = (
    "a Hugging Face folder (config.json, *.safetensors) or a Keras preset folder "
    "(config.json, model.weights.h5)"
)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model read from disk.

    Attributes:
      config: its shape.
      params: the weights tree, leaves on the default device.
      folder: where it came from.
      tokenizer_path: the SentencePiece model or tokenizer.json in the folder, None without.
      report: what became of the tensors.
    """

    config: GemmaConfig
    params: Params
    folder: Path
    tokenizer_path: Path | None
    report: Report

    def read_tokenizer(self) -> Tokenizer:
        """The tokenizer beside the weights.

        Raises:
            TokenizerError: there is none, or it is damaged.
        """
        return Tokenizer.from_file(self.tokenizer_path or self.folder)


def load_checkpoint(path: Path, dtype: Any = None) -> Loaded:
    """Read a model in any supported format.

    Args:
      path: a folder, or the one weights file beside its config.json.
      dtype: of the leaves; None keeps the dtype the embedding is stored in.

    Raises:
        CheckpointError: nothing understood, damaged, or weights that do not fit the config.
        ConfigError: a model gemkit does not know or a setting it cannot honour.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    with _opened(path, folder) as (config, column, tensors):
        params, report = _assemble(folder, config, column, tensors, dtype)
    found = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    return Loaded(config, params, folder, found[0] if found else None, report)


def read_shape(path: Path) -> tuple[GemmaConfig, str]:
    """Configuration and dtype of a checkpoint in any supported format; reads no weights.

    Raises:
        CheckpointError, ConfigError: as `load_checkpoint`.
    """
    path = Path(path)
    with _opened(path, path.parent if path.is_file() else path) as (config, column, tensors):
        name = cells(config, column)["embed"].name
        if name not in tensors.found:
            raise CheckpointError(f"{path} has no {tensors.spell(name)}", "a whole checkpoint")
        return config, tensors.found[name].dtype


@contextlib.contextmanager
def _opened(path: Path, folder: Path) -> Iterator[tuple[GemmaConfig, Format, Tensors]]:
    raw = _recognise(path, folder)
    where = str(folder / "config.json")
    if "model_type" in raw:
        config = huggingface_config.read_config(raw, where)
        multimodal = raw["model_type"] == "gemma3"
        yield config, "hugging_face", huggingface.read_tensors(path, multimodal)
    else:
        config = keras.read_config(raw, where)
        with keras.open_tensors(path, keras.is_gemma3(raw, where)) as tensors:
            yield config, "keras", tensors


def _recognise(path: Path, folder: Path) -> dict[str, Any]:
    """config.json of the checkpoint, once it says which format this is."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist", _UNDERSTOOD)
    if not path.is_dir() and path.suffix not in (".safetensors", ".h5"):
        raise CheckpointError(f"{path} is a {path.suffix or 'plain'} file", _UNDERSTOOD)
    if not (folder / "config.json").is_file():
        names = sorted(entry.name for entry in folder.iterdir())
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        todo = ""
        if "adapter_config.json" in names:
            todo = "this is an adapter: name its base model"
        raise CheckpointError(
            f"{folder} has no config.json; it holds {listed or 'nothing'}", _UNDERSTOOD, todo
        )
    raw = read_json(folder / "config.json")
    suffix = ".safetensors" if "model_type" in raw else ".h5"
    if not {"model_type", "registered_name", "class_name"} & raw.keys():
        raise CheckpointError(
            f"{folder / 'config.json'} has neither model_type nor registered_name", _UNDERSTOOD
        )
    if path.is_file() and path.suffix != suffix:
        raise CheckpointError(f"{path} does not belong to the config.json beside it", _UNDERSTOOD)
    return raw


_FORMAT_NAMES: dict[Format, str] = {
    "hugging_face": "Hugging Face folder",
    "keras": "Keras preset",
}


def _assemble(
    where: Path, config: GemmaConfig, column: Format, tensors: Tensors, dtype: Any
) -> tuple[Params, Report]:
    """Check names and shapes, then read, arrange, cast and place one tensor at a time."""
    table = cells(config, column)
    shapes = {path: spec.shape for path, spec in specs(config).items()}
    embedding = table["embed"].name
    expected = {
        cell.name: stored_shape(cell.layout, shapes[path], config.head_dim)
        for path, cell in table.items()
    }
    check_tensors(where, tensors, expected, embedding)
    target = _float_dtype(dtype) if dtype is not None else tensors.found[embedding].dtype
    leaves = {}
    converted = 0
    for path, cell in table.items():
        leaves[path] = _leaf(tensors, cell, config.head_dim, shapes[path], target)
        converted += cell.layout is not SAME or tensors.found[cell.name].dtype != target
    padding = tensors.found[embedding].shape[0] - config.vocab_size
    notes = (f"{padding} padding rows of the embedding left out",) if padding else ()
    report = Report(_FORMAT_NAMES[column], len(leaves), converted, tensors.unused, notes)
    return unflatten(leaves), report


def _leaf(
    tensors: Tensors, cell: Cell, head_dim: int, shape: tuple[int, ...], dtype: str
) -> jax.Array:
    stored = tensors.found[cell.name]
    values = stored.read()
    if cell.layout is SAME:
        values = values[: shape[0]]
        if stored.dtype == dtype:
            # A copy: the file may be overwritten while the weights live.
            return jnp.array(values).block_until_ready()
    # On a CPU this is an alias of what was read; arranging and casting make the only copy.
    leaf = cell.layout.load(jax.device_put(values), head_dim)
    return leaf.astype(dtype).block_until_ready()


def _float_dtype(dtype: Any) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in FLOAT_DTYPES:
        raise UsageError(f"dtype is {name}", ", ".join(FLOAT_DTYPES))
    return name


def save_checkpoint(
    path: Path,
    config: GemmaConfig,
    params: Params,
    tokenizer: Tokenizer | None,
    format: str = "hf",
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Write a folder that transformers and gemkit read; it appears whole or not at all.

    An existing folder is replaced only if gemkit wrote it and nothing was added since.

    Raises:
        CheckpointError: the folder holds other files, the disk is full, or a leaf is no plain
            array of the shape the configuration asks for.
        ConfigError: the format cannot express the configuration.
    """
    if format != "hf":
        raise UsageError(f"format is {format!r}", "'hf'")
    path = Path(os.path.abspath(path))
    leaves = _plain_leaves(config, params)
    dtype = leaves["embed"].dtype.name
    described = huggingface_config.write_config(config, dtype, __version__)
    named = {f"model.{c.name}": leaves[p] for p, c in cells(config, "hugging_face").items()}
    with _new_folder(path, sum(leaf.nbytes for leaf in leaves.values())) as folder:
        huggingface.write_tensors(folder, named, max_shard_bytes)
        huggingface.write_json(
            folder / "generation_config.json", huggingface.generation_config(tokenizer)
        )
        if tokenizer is not None:
            huggingface.write_tokenizer(folder, tokenizer)
        huggingface.write_json(folder / "config.json", described)


def _plain_leaves(config: GemmaConfig, params: Params) -> dict[str, Any]:
    leaves = dict(flatten(params))
    shapes = {path: spec.shape for path, spec in specs(config).items()}
    for wanted in shapes.keys() ^ leaves.keys():
        raise CheckpointError(f"weights and configuration differ at {wanted}", "the same leaves")
    for path, shape in shapes.items():
        leaf = _plain(path, leaves[path])
        if leaf.shape != shape or leaf.dtype.name not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{path} is {leaf.dtype.name}{list(leaf.shape)}",
                f"{list(shape)} in {', '.join(FLOAT_DTYPES)}",
            )
    return leaves


def _plain(path: str, leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array | np.ndarray):
        raise CheckpointError(
            f"{path} is a {type(leaf).__name__}", "plain arrays",
            "merge the adapter or undo the quantisation first",
        )  # fmt: skip
    return leaf


@contextlib.contextmanager
def _new_folder(path: Path, size: int) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place if nothing fails."""
    _check_target(path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < size:
            raise CheckpointError(
                f"{path} needs {size} bytes and {free} are free", "room on the disk"
            )
        unfinished.mkdir()
        yield unfinished
        _replace(unfinished, path)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"cannot write {path} ({reason}); nothing was kept", "", "free the disk or name another"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_target(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise CheckpointError(f"{path} is not a folder", "a new or empty folder")
    if path.is_dir() and any(path.iterdir()) and not _is_ours(path):
        raise CheckpointError(
            f"{path} is not empty", "a new or empty folder", "name another or delete it yourself"
        )


def _is_ours(folder: Path) -> bool:
    """Whether gemkit wrote the folder and nothing was added."""
    if not all(_WRITTEN.fullmatch(entry.name) for entry in folder.iterdir()):
        return False
    try:
        return "gemkit_version" in read_json(folder / "config.json")
    except CheckpointError:
        return False


def _replace(new: Path, path: Path) -> None:
    for file in new.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f"{new.name}.old")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def params_hash(params: Params) -> str:
    """sha256 of the weights by path, dtype, shape and bytes, as hexadecimal digits.

    The same for equal weights however they were stored; leaves are hashed side by side.

    Raises:
        CheckpointError: a leaf is no plain array, such as a LoRA pair.
    """
    leaves: Mapping[str, Any] = dict(sorted(flatten(params)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(_leaf_digest, leaves.items())
        return hashlib.sha256(b"".join(digests)).hexdigest()


def _leaf_digest(item: tuple[str, Any]) -> bytes:
    path, leaf = item
    values = np.ascontiguousarray(_plain(path, leaf))
    digest = hashlib.sha256(f"{path} {values.dtype.name} {values.shape}".encode())
    digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.digest()
