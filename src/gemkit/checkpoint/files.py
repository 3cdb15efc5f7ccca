"""What checkpoint folders of any format hold: JSON objects and tensors not read yet.

Files come from strangers: sizes, types and file names are checked before they are used.
"""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemkit.errors import CheckpointError, ConfigError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.text.tokenizer import FILE_NAMES, Tokenizer

# numpy's names of the dtypes that weights may have in a file.
FLOAT_DTYPES = ("float32", "bfloat16", "float16")
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

AHEAD_BYTES = 2**28
"""Fetched beyond a tensor that is read: a quarter of a second of a quick disk."""
_MAX_JSON_BYTES = 256 * 2**20

# Largest value believed of each size, so that a damaged file cannot ask for endless work.
SIZE_LIMITS = {
    "num_layers": 1000, "hidden_size": 2**20, "intermediate_size": 2**22, "num_heads": 2**12,
    "num_kv_heads": 2**12, "head_dim": 2**14, "vocab_size": 2**24, "max_positions": 2**31 - 1,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor in a file, not read yet.

    Attributes:
      name: as the file spells it.
      shape: as the file has it.
      dtype: numpy's name of it, or the file's own word where numpy has none.
      read: gives the values, as a view of the mapped file where the format allows.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of the values, for a dtype that weights may have."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclasses.dataclass(frozen=True)
class Tensors:
    """The tensors of one checkpoint, by the names table's spelling.

    Attributes:
      found: every tensor that may be a weight of the model.
      spell: turns a name of the table into this checkpoint's own spelling, for messages.
      unused: names of tensors that are no part of the text model, such as a vision tower's.
    """

    found: Mapping[str, Stored]
    spell: Callable[[str], str]
    unused: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """An opened checkpoint of any format.

    Attributes:
      config: the model's shape.
      tensors: its weights, not read yet.
      tokenizer: reads its vocabulary; None where the checkpoint has none.
    """

    config: GemmaConfig
    tensors: Tensors
    tokenizer: Callable[[], Tokenizer] | None = None


def read_ahead(path: Path, start: int, size: int) -> None:
    """Asks the system to fetch a part of a file, and some that follows, while others are copied."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), start, size + AHEAD_BYTES, os.POSIX_FADV_WILLNEED)


def tokenizer_in(folder: Path) -> Callable[[], Tokenizer] | None:
    """Reads the vocabulary that lies in a folder; None where there is none."""
    found = next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)
    return None if found is None else lambda: Tokenizer.from_file(found)


def float_dtype(dtype: Any) -> str:
    """numpy's name of a dtype weights may have.

    Raises:
        UsageError: it is no such dtype.
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in FLOAT_DTYPES:
        raise UsageError(f"dtype is {name}", ", ".join(FLOAT_DTYPES))
    return name


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: unreadable, not JSON, or JSON but no object.
    """
    todo = "copy the file again"
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path} is {path.stat().st_size} bytes long", "a small file")
        value = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise CheckpointError(f"{path} is not JSON ({reason})", "a JSON object", todo) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a JSON {type(value).__name__}", "an object", todo)
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def shard_path(folder: Path, name: Any, index: Path) -> Path:
    """The file an index names, which must lie directly in its folder and exist.

    Raises:
        CheckpointError: the name leads elsewhere, or there is no such file.
    """
    plain = isinstance(name, str) and Path(name).name == name and name not in ("", "..")
    if not plain or "\\" in name or "\0" in name:
        raise CheckpointError(
            f"{index} names the shard {name!r}", "a file in the same folder",
            "do not trust this checkpoint",
        )  # fmt: skip
    if not (folder / name).is_file():
        raise CheckpointError(
            f"{folder} lacks the shard {name} that {index.name} names",
            "every shard in the folder", "copy or download the missing file",
        )  # fmt: skip
    return folder / name


@dataclasses.dataclass(frozen=True)
class Settings:
    """Typed access to a JSON object of settings; `where` names it in messages."""

    values: Mapping[str, Any]
    where: str

    def integer(self, key: str, limit: int) -> int:
        """A whole number from 1 to `limit`."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
            raise self.error(key, f"a whole number from 1 to {limit}")
        return value

    def number(self, key: str) -> float:
        """A number above 0."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.error(key, "a number above 0")
        if value > 1e30:
            raise self.error(key, "a number below 1e30")
        return float(value)

    def optional(self, key: str) -> float | None:
        """A number above 0, or None where the setting is absent or null."""
        return None if self.values.get(key) is None else self.number(key)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def error(self, key: str, expected: str, todo: str = "") -> ConfigError:
        """The error to raise about one setting."""
        value = json.dumps(self.values.get(key))
        short = value if len(value) <= 80 else value[:77] + "..."
        return ConfigError(f"{self.where}: {key} is {short}", expected, todo)
