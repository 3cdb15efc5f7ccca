"""Load a checkpoint of any format: recognise it, check it strictly, stream it leaf by leaf."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.adapt.quantize import in_bits, leaf_bits
from gemkit.checkpoint.files import Source, Stored, float_dtype
from gemkit.checkpoint.formats import Row, recognise
from gemkit.checkpoint.names import SAME, Cell, cells, stored_shape
from gemkit.checkpoint.report import Report, check_tensors
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.model.linear import QuantizedWeight
from gemkit.model.weights import Params, flatten, specs, unflatten
from gemkit.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model read from disk.

    Attributes:
      config: its shape.
      params: the weights tree, leaves on the default device.
      tokenizer: its vocabulary, None where the checkpoint has none.
      report: what became of the tensors.
    """

    config: GemmaConfig
    params: Params
    tokenizer: Tokenizer | None
    report: Report


def load_checkpoint(path: Path, dtype: Any = None, quantize: str | None = None) -> Loaded:
    """Read a model in any supported format.

    Args:
      path: a folder or file; of a weights file the folder around it counts too.
      dtype: of the leaves; None keeps the dtype the embedding is stored in.
      quantize: keeps the matrices in few bits, see `adapt.quantize`; each is quantised before the
        next is read, so that only one at a time is whole.

    Raises:
        CheckpointError: nothing understood, damaged, or weights that do not fit the config.
        ConfigError: a model gemkit does not know or a setting it cannot honour.
        TokenizerError: a damaged vocabulary.
    """
    with opened(Path(path)) as (row, source):
        table = checked_cells(Path(path), row, source)
        stored = source.tensors.found
        target = stored_dtype(row, source) if dtype is None else float_dtype(dtype)
        bits = leaf_bits(source.config, quantize)
        leaves = {
            leaf: _quantized(
                read_leaf(stored[cell.name], cell, source.config, shape, target), bits.get(leaf)
            )
            for leaf, (cell, shape) in table.items()
        }  # fmt: skip
        changed = sum(
            cell.layout is not SAME or stored[cell.name].dtype != target
            for cell, _ in table.values()
        )
        found = Report(row.title, len(leaves), changed, source.tensors.unused, notes(row, source))
        tokenizer = source.tokenizer() if source.tokenizer is not None else None
    return Loaded(source.config, unflatten(leaves), tokenizer, found)


def read_shape(path: Path) -> tuple[GemmaConfig, str]:
    """Configuration and dtype of a checkpoint in any supported format; reads no weights.

    Raises:
        CheckpointError, ConfigError: as `load_checkpoint`.
    """
    with opened(Path(path)) as (row, source):
        name = cells(source.config, row.column)["embed"].name
        if name not in source.tensors.found:
            spelt = source.tensors.spell(name)
            raise CheckpointError(f"{path} has no {spelt}", "a whole checkpoint")
        return source.config, stored_dtype(row, source)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Row, Source]]:
    """A checkpoint of any format, its tensors not read yet."""
    row = recognise(path)
    with row.module.opened(path) as source:
        yield row, source


def checked_cells(
    path: Path, row: Row, source: Source
) -> dict[str, tuple[Cell, tuple[int, ...]]]:
    """Path → where each leaf is stored, and its shape in the weights table.

    Raises:
        CheckpointError: what is stored is not exactly what the configuration asks for.
    """
    table = cells(source.config, row.column)
    shapes = {leaf: spec.shape for leaf, spec in specs(source.config).items()}
    expected = {
        cell.name: stored_shape(cell.layout, shapes[leaf], source.config.head_dim)
        for leaf, cell in table.items()
    }
    check_tensors(path, source.tensors, expected, table["embed"].name)
    return {leaf: (cell, shapes[leaf]) for leaf, cell in table.items()}


def stored_dtype(row: Row, source: Source) -> str:
    """The dtype a model runs in if nobody asks for another: the embedding's."""
    return source.tensors.found[cells(source.config, row.column)["embed"].name].dtype


def notes(row: Row, source: Source) -> tuple[str, ...]:
    """Remarks about what is there and is not loaded."""
    embedding = source.tensors.found[cells(source.config, row.column)["embed"].name]
    padding = embedding.shape[0] - source.config.vocab_size
    return (f"{padding} padding rows of the embedding left out",) if padding else ()


def read_leaf(
    stored: Stored, cell: Cell, config: GemmaConfig, shape: tuple[int, ...], dtype: str
) -> jax.Array:
    """Reads a tensor; gives it as the weights table has it."""
    values = stored.read()
    if cell.layout is SAME:
        values = values[: shape[0]]
        if stored.dtype == dtype and isinstance(values, np.memmap):
            # A copy: the file may be overwritten while the weights live.
            return jnp.array(values).block_until_ready()
    # On a CPU this is an alias of what was read; arranging and casting make the only copy.
    leaf = cell.layout.load(jax.device_put(values), config.head_dim)
    return leaf.astype(dtype).block_until_ready()


def passing_leaf(
    stored: Stored, cell: Cell, config: GemmaConfig, shape: tuple[int, ...], dtype: str
) -> Any:
    """As `read_leaf`, to be written at once: where nothing changes, the mapped file itself."""
    if cell.layout is SAME and stored.dtype == dtype:
        return stored.read()[: shape[0]]
    return read_leaf(stored, cell, config, shape, dtype)


def _quantized(leaf: jax.Array, bits: int | None) -> Any:
    return leaf if bits is None else jax.block_until_ready(in_bits(leaf, bits))


def params_hash(params: Params) -> str:
    """sha256 of the weights by path, dtype, shape and bytes, as hexadecimal digits.

    The same for equal weights however they were stored; leaves are hashed side by side, those in
    few bits by what they are made of.

    Raises:
        CheckpointError: a leaf is no plain array, such as a LoRA pair.
    """
    leaves: Mapping[str, Any] = dict(sorted(_arrays(params)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(_leaf_digest, leaves.items())
        return hashlib.sha256(b"".join(digests)).hexdigest()


def _arrays(params: Params) -> Iterator[tuple[str, Any]]:
    for path, leaf in flatten(params):
        if isinstance(leaf, QuantizedWeight):
            yield from ((f"{path}.values", leaf.values), (f"{path}.scales", leaf.scales))
        else:
            yield path, leaf


def plain_leaf(path: str, leaf: Any) -> Any:
    """The leaf itself.

    Raises:
        CheckpointError: it is no plain array.
    """
    if not isinstance(leaf, jax.Array | np.ndarray):
        raise CheckpointError(
            f"{path} is a {type(leaf).__name__}", "plain arrays",
            "merge the adapter or undo the quantisation first",
        )  # fmt: skip
    return leaf


def _leaf_digest(item: tuple[str, Any]) -> bytes:
    path, leaf = item
    values = np.ascontiguousarray(plain_leaf(path, leaf))
    digest = hashlib.sha256(f"{path} {values.dtype.name} {values.shape}".encode())
    digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.digest()
