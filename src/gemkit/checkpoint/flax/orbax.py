"""The arrays of an Orbax folder, both ways, one at a time, through TensorStore.

Orbax itself saves and restores a tree as a whole. Here an array is read when it is asked for, and
what is written keeps one piece in memory. Folders come from strangers: `_METADATA` only chooses
among the arrays that lie in the folder, drivers and paths are never taken from a file, and no
array may claim much more than the folder's bytes can hold.

Sources: orbax `_src/metadata/tree.py`, `_src/serialization/`; TensorStore's drivers ocdbt, zarr,
zarr3.
"""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemkit.checkpoint.files import ITEM_BYTES, read_json
from gemkit.errors import CheckpointError

METADATA_NAME, MANIFEST_NAME = "_METADATA", "manifest.ocdbt"
_LEGACY_NAME = "checkpoint"
_DRIVERS = {".zarray": "zarr", "zarr.json": "zarr3"}
# value_type of nodes of a tree that have no array.
_NO_ARRAY = ("None", "Dict", "List", "Tuple", "NamedTuple", "str", "string")
# Folders that hold no arrays of their own.
_BESIDE = ("ocdbt.process_", "array_metadatas")

_MAX_ARRAYS = 100_000
_MAX_RANK = 8
_SECONDS = 60.0
# Weights hardly compress, but arrays of zeros do, and a small one may be all zeros.
_MAX_RATIO, _FREE_BYTES = 16, 2**26
_PIECE_BYTES = 2**26

_ZARR_DTYPES = {"float32": "<f4", "float16": "<f2", "bfloat16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class Array:
    """An array in the folder, not read yet.

    Attributes:
      name: as Orbax joins the steps of a tree: `layer_0.attn.q_einsum.w`.
      shape, dtype: as stored; numpy's name of the dtype.
      read: an index over the first axes → those values; () for all.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[tuple[int, ...]], np.ndarray]


def find_folder(path: Path) -> Path | None:
    """The folder with the arrays: `path` itself, or `default`, or the only one in it, and so on
    once more (a step of a run, the folder of a download); None where there is none.
    """
    try:
        for _ in range(3):
            if _has_arrays(path):
                return path
            inner = [e for e in path.iterdir() if e.is_dir() and not e.name.startswith(".")]
            named = [entry for entry in inner if entry.name == "default"] or inner
            if len(named) != 1:
                return None
            path = named[0]
    except OSError:
        pass
    return None


def _has_arrays(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (METADATA_NAME, MANIFEST_NAME)):
        return True
    # Before there was _METADATA; TensorFlow has a file of that name too.
    return (folder / _LEGACY_NAME).is_file() and (
        (folder / "transformer").is_dir() or any(any(folder.glob(f"*/{n}")) for n in _DRIVERS)
    )


def read_arrays(folder: Path) -> dict[str, Array]:
    """Every array of a folder by name, in the order of their names.

    Raises:
        CheckpointError: damaged, an array missing that `_METADATA` names, or sizes that the
            bytes in the folder cannot hold.
    """
    import tensorstore as ts

    folder = Path(os.path.abspath(folder))
    described = _described(folder)
    base = {"driver": "file", "path": f"{folder}/"}
    merged = (folder / MANIFEST_NAME).is_file()
    kvstore = {"driver": "ocdbt", "base": base} if merged else base
    try:
        drivers = dict(_database_arrays(ts, kvstore) if merged else _folder_arrays(folder))
    except Exception as error:  # TensorStore raises whatever its status says
        raise _damaged(folder, error) from None
    names = drivers.keys() if described is None else described.names
    for name in sorted(names):
        if name not in drivers:
            raise CheckpointError(
                f"{folder} lacks the array {name!r} that its {METADATA_NAME} names",
                "a whole checkpoint", "copy or download it again",
            )  # fmt: skip
    if not names:
        raise CheckpointError(f"{folder} holds no arrays", "a checkpoint that Orbax wrote")
    opened = {}
    for name in sorted(names):
        spec = {
            "driver": drivers[name],
            "kvstore": {**kvstore, "path": name + "/"} if merged
            else {**base, "path": f"{folder}/{name}/"},
            # Elsewhere a piece that is not stored is all zeros.
            "fill_missing_data_reads": described is None or not described.zeros_are_stored,
        }  # fmt: skip
        opened[name] = ts.open(spec, read=True, open=True)
    stores = {name: _result(folder, future) for name, future in opened.items()}
    _check_sizes(folder, stores)
    return {name: _array(folder, name, store) for name, store in stores.items()}


@dataclasses.dataclass(frozen=True)
class _Described:
    """What `_METADATA` says."""

    names: frozenset[str]
    zeros_are_stored: bool


def _described(folder: Path) -> _Described | None:
    path = folder / METADATA_NAME
    if not path.is_file():
        return None
    raw = read_json(path)
    tree = raw.get("tree_metadata")
    if not isinstance(tree, dict) or not tree:
        raise CheckpointError(f"{path} has no tree_metadata", "a tree that Orbax wrote")
    names = set()
    for key, node in tree.items():
        try:
            kind = node["value_metadata"].get("value_type")
            steps = [step["key"] for step in node["key_metadata"]]
        except (TypeError, KeyError, AttributeError):
            raise CheckpointError(
                f"{path}: the entry {key[:80]!r} is damaged", "key_metadata and value_metadata",
                "copy the file again",
            ) from None  # fmt: skip
        if kind not in _NO_ARRAY:
            names.add(".".join(map(str, steps)))
    stored = raw.get("store_array_data_equal_to_fill_value") is True
    return _Described(frozenset(names), stored)


def _database_arrays(ts: Any, kvstore: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, driver) of every array in an OCDBT database."""
    keys = ts.KvStore.open(kvstore).result(_SECONDS).list().result(_SECONDS)
    for key in keys:
        name, _, last = key.decode("utf-8", "replace").rpartition("/")
        if name and last in _DRIVERS:
            yield name, _DRIVERS[last]


def _folder_arrays(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, driver) of every array with a folder of its own; links are not followed."""
    for number, (place, inner, files) in enumerate(os.walk(folder)):
        if number > _MAX_ARRAYS:
            raise ValueError(f"more than {_MAX_ARRAYS} folders")
        if Path(place) == folder:
            inner[:] = [name for name in inner if not name.startswith(_BESIDE)]
            continue
        for last in _DRIVERS.keys() & set(files):
            yield Path(place).relative_to(folder).as_posix(), _DRIVERS[last]
            inner.clear()


def _check_sizes(folder: Path, stores: Mapping[str, Any]) -> None:
    """Refuse shapes that would have us reserve memory for what is not there."""
    present = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):  # a link that leads nowhere
                present += os.path.getsize(os.path.join(place, file))
    left = _FREE_BYTES + _MAX_RATIO * present
    for name, store in stores.items():
        item = store.dtype.numpy_dtype.itemsize if store.dtype.numpy_dtype is not None else 1
        layout = store.chunk_layout
        chunks = [layout.read_chunk.shape, layout.write_chunk.shape]
        whole = math.prod(store.shape) * item
        largest = max((math.prod(chunk or ()) * item for chunk in chunks), default=0)
        if len(store.shape) > _MAX_RANK or whole > left or largest > left:
            raise CheckpointError(
                f"{folder}: {name} claims {list(store.shape)} {store.dtype.name} in pieces of "
                f"{list(chunks[0] or ())}, and all files are {present} bytes long",
                "sizes that fit the files", "do not trust this checkpoint",
            )  # fmt: skip
        left -= whole


def _array(folder: Path, name: str, store: Any) -> Array:
    def read(index: tuple[int, ...]) -> np.ndarray:
        part = store[index] if index else store
        # No deadline: how long a large array may take is the disk's affair.
        values: np.ndarray = _result(folder, part.read(), None)
        return values

    return Array(name, tuple(store.shape), store.dtype.name, read)


def _put(store: Any, values: np.ndarray, step: int) -> None:
    for start in range(0, len(values), step):
        piece = values[start : start + step]
        store[start : start + len(piece)].write(piece).result()


def _result(folder: Path, future: Any, seconds: float | None = _SECONDS) -> Any:
    try:
        return future.result(seconds)
    except Exception as error:
        raise _damaged(folder, error) from None


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{folder} is damaged or no Orbax checkpoint ({_reason(error)})",
        "a whole folder as Orbax writes it", "copy or download it again",
    )  # fmt: skip


def _reason(error: Exception) -> str:
    # TensorStore adds where in its sources it happened.
    said = str(error).partition(" [source locations")[0].partition(" [tensorstore_spec")[0]
    return said[:300] or type(error).__name__


class Writer:
    """Writes arrays one after the other into a new folder; `finish` makes it a checkpoint."""

    def __init__(self, folder: Path) -> None:
        import tensorstore as ts

        self._ts = ts
        self._folder = Path(os.path.abspath(folder))
        # The caller settles everything on the disk at once.
        self._context = ts.Context({"file_io_sync": False})
        self._tree: dict[str, Any] = {}

    def write(
        self, steps: tuple[str, ...], shape: tuple[int, ...], dtype: str, depth: int,
        parts: Iterable[tuple[tuple[int | slice, ...], np.ndarray]],
    ) -> None:  # fmt: skip
        """Writes one array, which its parts must cover.

        Args:
          steps: its place in the tree.
          shape: of the whole.
          dtype: numpy's name.
          depth: leading axes that places index.
          parts: (place, values): `depth` numbers, and a slice where the values are not all the
            rows there.

        Raises:
            OSError: the disk is full or will not take it.
        """
        ts = self._ts
        rows, *rest = shape[depth:]
        step = min(rows, max(1, _PIECE_BYTES // (math.prod(rest) * ITEM_BYTES[dtype])))
        spec = {
            "driver": "zarr",
            "kvstore": {
                "driver": "ocdbt", "base": {"driver": "file", "path": f"{self._folder}/"},
                "path": ".".join(steps) + "/",
            },
            "metadata": {
                "shape": shape, "chunks": [1] * depth + [step, *rest],
                # Packing saves a fifth of bfloat16 weights and takes four times as long.
                "dtype": _ZARR_DTYPES[dtype], "compressor": None,
            },
            "store_data_equal_to_fill_value": True,
        }  # fmt: skip
        try:
            store = ts.open(spec, create=True, context=self._context).result()
            for place, values in parts:
                _put(store[place][ts.d[:].translate_to[0]], values, step)
                del values  # before the next is read
        except (ValueError, RuntimeError) as error:  # TensorStore's words for any status
            raise OSError(_reason(error)) from None
        self._tree[str(steps)] = {
            "key_metadata": [{"key": step, "key_type": 2} for step in steps],
            # Orbax restores this on any device, whatever the one it was written on.
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }

    def finish(self) -> None:
        """Writes what Orbax reads first."""
        metadata = {
            "tree_metadata": self._tree, "use_ocdbt": True, "use_zarr3": False,
            "store_array_data_equal_to_fill_value": True, "custom_metadata": None,
        }  # fmt: skip
        (self._folder / METADATA_NAME).write_text(json.dumps(metadata), "utf-8")
