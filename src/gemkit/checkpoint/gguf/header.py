"""The head of a GGUF file: its metadata, and where its tensors lie.

Read by hand and strictly, for a file may come from a stranger: no count, length or offset is
believed before it is compared with the size of the file. Arrays are found now and read when
they are asked for. Source: ggml `docs/gguf.md`, versions 2 and 3.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemkit.checkpoint.gguf.blocks import TYPES, BlockType
from gemkit.errors import CheckpointError

MAGIC = b"GGUF"

# Codes of metadata types, and the layouts of those of fixed size.
_NUMBERS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9
_LENGTH = struct.Struct("<Q")

# The longest of any model has some 1000 tensors and 100 keys.
_MAX_ENTRIES = 2**16
_MAX_NAME = 255
_MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class Array:
    """An array of the metadata, not read yet: `count` values of type `code` from `start`."""

    code: int
    count: int
    start: int


@dataclass(frozen=True)
class Info:
    """Where a tensor lies: `nbytes` from `start`; its shape is numpy's, rows last."""

    name: str
    shape: tuple[int, ...]
    kind: BlockType
    start: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """What precedes the numbers.

    Attributes:
      path: of the file.
      values: metadata, numbers and strings.
      arrays: metadata, arrays.
      tensors: name → where it lies; each within the file, none across another.
      data: the file, mapped.
    """

    path: Path
    values: Mapping[str, Any]
    arrays: Mapping[str, Array]
    tensors: Mapping[str, Info]
    data: mmap.mmap

    def strings(self, key: str) -> list[str] | None:
        """An array of strings; None where there is none.

        Raises:
            CheckpointError: it holds other things, or a string that is not UTF-8.
        """
        array = self.arrays.get(key)
        if array is None:
            return None
        if array.code != _STRING:
            raise damaged(self.path, f"{key} is no array of strings")
        found, at, length = [], array.start, _LENGTH.unpack_from
        for _ in range(array.count):
            start = at + 8
            at = start + length(self.data, at)[0]
            try:
                found.append(self.data[start:at].decode())
            except UnicodeDecodeError:
                raise damaged(self.path, f"{key} at byte {start} is not UTF-8") from None
        return found

    def numbers(self, key: str) -> np.ndarray | None:
        """An array of numbers or truth values; None where there is none.

        Raises:
            CheckpointError: it holds strings.
        """
        array = self.arrays.get(key)
        if array is None:
            return None
        if array.code == _STRING:
            raise damaged(self.path, f"{key} is no array of numbers")
        dtype = np.dtype(_NUMBERS.get(array.code, "<B"))
        found = np.frombuffer(self.data, dtype, array.count, array.start).copy()
        return found != 0 if array.code == _BOOL else found


def damaged(path: Path, what: str) -> CheckpointError:
    """The error to raise about a file that is not as it should be."""
    return CheckpointError(
        f"{path} is damaged: {what}", "a whole GGUF file", "copy or download it again"
    )


def read_header(path: Path) -> Header:
    """The head of a file.

    Raises:
        CheckpointError: no GGUF file, of another version, damaged, cut short, or with a type of
            tensor that gemkit does not read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if magic != MAGIC:
                raise CheckpointError(
                    f"{path} begins with {magic!r}", "a GGUF file", "copy or download it again"
                )
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", "a GGUF file") from None
    cursor = _Cursor(data, path, len(MAGIC))
    _check_version(path, cursor.number("<I"))
    tensors, keys = (cursor.count(word) for word in ("tensors", "keys"))
    values: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for _ in range(keys):
        key = cursor.name()
        if key in values or key in arrays:
            raise damaged(path, f"the key {key} is there twice")
        value = cursor.value(key)
        if isinstance(value, Array):
            arrays[key] = value
        else:
            values[key] = value
    infos = [cursor.info() for _ in range(tensors)]
    return Header(path, values, arrays, _placed(path, infos, cursor, values), data)


def _check_version(path: Path, version: int) -> None:
    if version not in (2, 3):
        swapped = version & 0xFFFF == 0
        raise CheckpointError(
            f"{path} is of GGUF version {int.from_bytes(version.to_bytes(4, 'big'), 'little')}, "
            "written on a big-endian machine" if swapped else
            f"{path} is of GGUF version {version}",
            "version 2 or 3, little-endian", "convert the original model again",
        )  # fmt: skip


class _Cursor:
    """Reads one thing after another; whatever would lie behind the file's end is an error."""

    def __init__(self, data: mmap.mmap, path: Path, at: int) -> None:
        self.data, self.path, self.at, self.end = data, path, at, len(data)

    def skip(self, size: int, what: str) -> int:
        """Where `size` bytes begin that lie within the file; the cursor moves behind them."""
        start = self.at
        if size > self.end - start:
            raise damaged(
                self.path, f"{what} at byte {start} needs {size} bytes, {self.end - start} are left"
            )
        self.at = start + size
        return start

    def number(self, layout: str) -> Any:
        start = self.skip(struct.calcsize(layout), "a number")
        return struct.unpack_from(layout, self.data, start)[0]

    def count(self, what: str) -> int:
        """A number of entries, each of which takes more than 8 bytes."""
        count: int = self.number("<Q")
        if count > min(_MAX_ENTRIES, (self.end - self.at) // 8):
            raise damaged(self.path, f"it claims {count} {what}")
        return count

    def string(self, what: str) -> str:
        size = self.number("<Q")
        start = self.skip(size, what)
        try:
            return self.data[start : start + size].decode()
        except UnicodeDecodeError:
            raise damaged(self.path, f"{what} at byte {start} is not UTF-8") from None

    def name(self) -> str:
        """A short name."""
        start = self.at
        (size,) = _LENGTH.unpack_from(self.data, self.skip(8, "a name"))
        self.at = start
        name = self.string("a name") if 0 < size <= _MAX_NAME else ""
        if not name.isprintable() or not name:
            raise damaged(self.path, f"the name at byte {start} is not printable")
        return name

    def value(self, key: str) -> Any:
        code = self.number("<I")
        if code in _NUMBERS:
            return self.number(_NUMBERS[code])
        if code == _BOOL:
            return self.number("<B") != 0
        if code == _STRING:
            return self.string(key)
        if code == _ARRAY:
            return self.array(key)
        raise damaged(self.path, f"{key} is of the unknown type {code}")

    def array(self, key: str) -> Array:
        code, count = self.number("<I"), self.number("<Q")
        array = Array(code, count, self.at)
        if code == _STRING:
            self._skip_strings(key, count)
        elif code in _NUMBERS or code == _BOOL:
            self.skip(count * struct.calcsize(_NUMBERS.get(code, "<B")), key)
        else:
            raise damaged(self.path, f"{key} is an array of the type {code}")
        return array

    def _skip_strings(self, key: str, count: int) -> None:
        # A vocabulary has hundreds of thousands, so this is no place for calls.
        at, last, length = self.at, self.end - 8, _LENGTH.unpack_from
        if count > (self.end - at) // 8:
            raise damaged(self.path, f"{key} claims {count} strings")
        for _ in range(count):
            if at > last:
                raise damaged(self.path, f"{key} goes beyond the end")
            at += 8 + length(self.data, at)[0]
        if at > self.end:
            raise damaged(self.path, f"{key} goes beyond the end")
        self.at = at

    def info(self) -> Info:
        """A tensor's entry; `start` still counts from the first tensor."""
        name = self.name()
        dimensions = self.number("<I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise damaged(self.path, f"{name} has {dimensions} dimensions")
        sizes = [self.number("<Q") for _ in range(dimensions)]
        code, start = self.number("<I"), self.number("<Q")
        if code not in TYPES:
            known = ", ".join(kind.name for kind in TYPES.values())
            raise CheckpointError(
                f"{self.path} stores {name} as ggml type {code}", known,
                "take a file of another quantisation of the model",
            )  # fmt: skip
        kind = TYPES[code]
        blocks, rest = divmod(sizes[0], kind.values)
        for size in sizes[1:]:
            blocks *= size
        if rest or not blocks:
            raise damaged(self.path, f"{name} has the sizes {sizes} as {kind.name}")
        return Info(name, tuple(reversed(sizes)), kind, start, blocks * kind.nbytes)


def _placed(
    path: Path, infos: list[Info], cursor: _Cursor, values: Mapping[str, Any]
) -> dict[str, Info]:
    """The tensors with `start` counted from the file's beginning."""
    align = values.get("general.alignment", 32)
    if not isinstance(align, int) or align < 8 or align > 2**20 or align % 8:
        raise damaged(path, f"general.alignment is {align!r}")
    first = (cursor.at + align - 1) // align * align
    placed: dict[str, Info] = {}
    free = 0
    for info in sorted(infos, key=lambda info: info.start):
        if info.name in placed:
            raise damaged(path, f"{info.name} is there twice")
        if info.start < free or info.start % align:
            raise damaged(path, f"{info.name} begins at byte {info.start} of the data")
        free = info.start + info.nbytes
        if first + free > cursor.end:
            raise damaged(
                path, f"{info.name} ends at byte {first + free} and the file at {cursor.end}"
            )
        placed[info.name] = Info(
            info.name, info.shape, info.kind, first + info.start, info.nbytes
        )  # fmt: skip
    return placed
