"""GGUF's tensor types: what a block of each holds, and rows of floats ↔ blocks.

Blocks are taken apart and put together by the `gguf` library, some rows at a time, so that a
tensor needs no memory besides itself and its result. Source: ggml's `ggml-common.h`, gguf-py
`quants.py`.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gemkit.errors import CheckpointError


class BlockType(NamedTuple):
    """How a tensor's numbers are stored.

    Attributes:
      name: as ggml writes it.
      values: numbers of a row that one block holds.
      nbytes: bytes of a block.
      dtype: numpy's name of plain numbers; "" for quantised ones.
    """

    name: str
    values: int
    nbytes: int
    dtype: str = ""


# By ggml's code.
TYPES = {
    0: BlockType("F32", 1, 4, "float32"),
    1: BlockType("F16", 1, 2, "float16"),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    30: BlockType("BF16", 1, 2, "bfloat16"),
}
CODES = {kind.name: code for code, kind in TYPES.items()}

# A block's scale is a float16: the largest magnitude divided by this.
_STEPS = {"Q8_0": 127, "Q4_0": 8}

_CHUNK = 2**18  # numbers taken apart or put together at once


def dtype_of(kind: BlockType) -> np.dtype[Any]:
    """numpy's dtype of what `decode` gives."""
    return np.dtype(ml_dtypes.bfloat16 if kind.dtype == "bfloat16" else kind.dtype or "float32")


def decode(raw: np.ndarray, kind: BlockType, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a tensor.

    Args:
      raw: its bytes, uint8 [n].
      kind: its type.
      shape: rows last, as numpy has it.

    Returns:
      A view of `raw` for plain numbers, else float32.
    """
    if kind.dtype:
        return raw.view(dtype_of(kind)).reshape(shape)
    from gguf import GGMLQuantizationType, quants

    blocks, out = raw.reshape(-1, kind.nbytes), np.empty(shape, np.float32)
    flat, code = out.reshape(-1, kind.values), GGMLQuantizationType[kind.name]

    def fill(part: slice) -> None:
        # A damaged scale is infinite or no number; then so are the values.
        with np.errstate(all="ignore"):
            # In one row: the library would take only a few at a time.
            flat[part] = quants.dequantize(blocks[part].reshape(1, -1), code).reshape(
                -1, kind.values
            )

    _by_parts(fill, len(blocks), kind)
    return out


def encode(values: np.ndarray, kind: BlockType) -> np.ndarray:
    """The bytes of a tensor of this type, uint8 [n]; the inverse of `decode`.

    Raises:
        CheckpointError: a number is none, or too large for a block's scale.
    """
    if kind.dtype:
        with np.errstate(over="ignore"):
            plain = np.ascontiguousarray(values.astype(dtype_of(kind), copy=False))
        return plain.reshape(-1).view(np.uint8)
    from gguf import GGMLQuantizationType, quants

    rows = np.ascontiguousarray(values).reshape(-1, kind.values)
    out, code = np.empty((len(rows), kind.nbytes), np.uint8), GGMLQuantizationType[kind.name]
    limit = np.float32(_STEPS[kind.name] * float(np.finfo(np.float16).max))

    def fill(part: slice) -> None:
        chunk = rows[part].astype(np.float32)
        # A comparison that also fails for what is not a number.
        if not np.abs(chunk).max() <= limit:
            raise CheckpointError(
                f"a weight is {chunk.flat[np.abs(chunk).argmax()]}",
                f"numbers up to {limit:g}, the largest that {kind.name} holds",
                "store it as float32",
            )  # fmt: skip
        out[part] = quants.quantize(chunk.reshape(1, -1), code).reshape(-1, kind.nbytes)

    _by_parts(fill, len(rows), kind)
    return out.reshape(-1)


def _by_parts(fill: Callable[[slice], None], count: int, kind: BlockType) -> None:
    """Calls `fill` for all blocks, a part of them at a time, parts side by side."""
    step = _CHUNK // kind.values
    parts = [slice(start, start + step) for start in range(0, count, step)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, parts):
            pass
