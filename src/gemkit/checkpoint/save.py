"""Save a model in any format, leaf by leaf; the file or folder appears whole or not at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from gemkit.atomic import new_file, new_folder
from gemkit.checkpoint.files import FLOAT_DTYPES, Stored
from gemkit.checkpoint.formats import Row, format_row, written_by_gemkit
from gemkit.checkpoint.load import plain_leaf
from gemkit.checkpoint.names import PLUS_ONE, Cell, cells, stored_shape
from gemkit.errors import CheckpointError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten, specs
from gemkit.text.tokenizer import Tokenizer

Leaf = Callable[[], jax.Array]
Proof = TypeVar("Proof")


def save_checkpoint(
    path: Path, config: GemmaConfig, params: Params, tokenizer: Tokenizer | None,
    format: str = "hf", dtype: str | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Writes a model whose weights are in memory.

    An existing folder is replaced, as a whole, only if gemkit wrote it in one of its formats and
    nothing was added.

    Args:
      path: the folder, or for "gguf" the file.
      format: "hf", "keras", "flax" or "gguf".
      dtype: to store the weights as; None as they are. GGUF also knows "q8_0" and "q4_0".

    Returns:
      Remarks, such as what the format cannot say.

    Raises:
        CheckpointError: the place is taken, the disk is full, or a leaf is no plain array of the
            shape the configuration asks for.
        ConfigError: the format cannot express the configuration.
        UsageError: no such format or dtype.
    """
    leaves = _plain_leaves(config, params)
    given = {name: _giver(leaf) for name, leaf in leaves.items()}
    stored_as = leaves["embed"].dtype.name
    remarks, _ = save_leaves(path, config, given, stored_as, tokenizer, format, dtype)
    return remarks


def save_leaves(
    path: Path, config: GemmaConfig, leaves: Mapping[str, Leaf], own_dtype: str,
    tokenizer: Tokenizer | None, format: str, dtype: str | None = None,
    prove: Callable[[Path], Proof] | None = None,
) -> tuple[tuple[str, ...], Proof | None]:  # fmt: skip
    """`save_checkpoint` for leaves that are made when their turn comes.

    Args:
      leaves: path → gives the leaf in the weights table's layout.
      own_dtype: their dtype.
      prove: looks at what was written before it takes its place; if it raises, nothing appears.

    Returns:
      The remarks, and what `prove` returned.
    """
    row = format_row(format)
    wanted = own_dtype if dtype is None else _known_dtype(row, format, dtype)
    path = Path(os.path.abspath(path))
    _check_target(path, row)
    floats = wanted if wanted in FLOAT_DTYPES else own_dtype
    shapes = {name: spec.shape for name, spec in specs(config).items()}
    tensors = {
        cell.name: _tensor(cell, config, shapes[name], floats, leaves[name])
        for name, cell in cells(config, row.column).items()
    }
    # What is quantised takes less, which the writer knows best.
    needed = sum(tensor.nbytes for tensor in tensors.values()) if wanted == floats else 0
    fresh = new_file if row.one_file else new_folder
    with fresh(path, CheckpointError, needed) as unfinished:
        remarks = row.module.write(unfinished, config, tensors, tokenizer, wanted)
        proof = None if prove is None else prove(unfinished)
    return remarks, proof


def _known_dtype(row: Row, format: str, dtype: str) -> str:
    if dtype not in row.dtypes:
        raise UsageError(f"dtype is {dtype} for format {format!r}", ", ".join(row.dtypes))
    return dtype


def _tensor(
    cell: Cell, config: GemmaConfig, shape: tuple[int, ...], dtype: str, leaf: Leaf
) -> Stored:
    # Norms with the one added need more digits than bfloat16 has.
    kept = "float32" if cell.layout is PLUS_ONE else dtype

    def read() -> np.ndarray:
        given = leaf()
        given = given if given.dtype == kept else given.astype(kept)
        return np.asarray(cell.layout.store(given, config.head_dim))

    return Stored(cell.name, stored_shape(cell.layout, shape, config.head_dim), kept, read)


def _giver(leaf: Any) -> Leaf:
    return lambda: leaf


def _plain_leaves(config: GemmaConfig, params: Params) -> dict[str, Any]:
    leaves = dict(flatten(params))
    shapes = {path: spec.shape for path, spec in specs(config).items()}
    for wanted in shapes.keys() ^ leaves.keys():
        raise CheckpointError(f"weights and configuration differ at {wanted}", "the same leaves")
    for path, shape in shapes.items():
        leaf = plain_leaf(path, leaves[path])
        if leaf.shape != shape or leaf.dtype.name not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{path} is {leaf.dtype.name}{list(leaf.shape)}",
                f"{list(shape)} in {', '.join(FLOAT_DTYPES)}",
            )
    return leaves


def _check_target(path: Path, row: Row) -> None:
    todo = "name another or delete it yourself"
    if row.one_file:
        if path.exists() or path.is_symlink():
            raise CheckpointError(f"{path} exists", f"a new {row.title}", todo)
        return
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise CheckpointError(f"{path} is not a folder", "a new or empty folder")
    if path.is_dir() and any(path.iterdir()) and not written_by_gemkit(path):
        raise CheckpointError(f"{path} is not empty", "a new or empty folder", todo)
