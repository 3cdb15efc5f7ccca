"""Weights in 8 or 4 bits, for a frozen base: the matrices by rule, norms as they are.

8 bits: every row [in] is divided by its largest absolute value over 127 and rounded. 4 bits:
every group of 32 along the input is divided by its value of the largest size over -8 and rounded,
so that this one comes out exactly; what llama.cpp calls Q4_0, 4.5 bits a weight. Both are
symmetric: zero stays zero. An adapter on top is trained in float32 (Dettmers et al. 2023,
arXiv:2305.14314, with another 4-bit code).
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.errors import UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.linear import QuantizedWeight, restored
from gemkit.model.weights import Params, Spec, flatten, specs

Method = Literal["int8", "int4"]
Parts = tuple[jax.Array, jax.Array]
GROUP = 32
BLOCK_ELEMENTS = 2**22
"""Of a matrix quantised at once."""

# Bits of the matrices of layers, and of the embedding, whose rows are also the head's answers.
RULES: dict[str, tuple[int, int]] = {"int8": (8, 8), "int4": (4, 8)}


@dataclasses.dataclass(frozen=True)
class Loss:
    """What quantising did to one kind of matrix.

    Attributes:
      kind: short name, such as q or embed.
      bits: 8 or 4.
      mean, largest: of its matrices' relative errors |W - Q| / |W|, Frobenius norms.
      before, after: bytes.
    """

    kind: str
    bits: int
    mean: float
    largest: float
    before: int
    after: int


def check_method(method: str) -> None:
    """Raises UsageError for a method there is not."""
    if method not in RULES:
        raise UsageError(f"quantize is {method!r}", f"one of {', '.join(RULES)}")


def bits_of(spec: Spec, method: str) -> int | None:
    """Bits of a parameter under a method; None if it stays as it is, which norms do.

    Rows that are no multiple of 32 long take 8 bits where others take 4.
    """
    if len(spec.shape) != 2:
        return None
    layers, table = RULES[method]
    bits = layers if spec.linear else table
    return 8 if spec.shape[1] % GROUP else bits


def leaf_bits(config: GemmaConfig, method: str | None) -> dict[str, int]:
    """Path → bits of the matrices that a method changes; None changes none."""
    if method is None:
        return {}
    check_method(method)
    found = {path: bits_of(spec, method) for path, spec in specs(config).items()}
    return {path: bits for path, bits in found.items() if bits is not None}


def quantized_bytes(config: GemmaConfig, method: str, itemsize: int) -> int:
    """Memory of a model's weights under a method; `itemsize` is that of the norms.

    >>> from gemkit.model.variants import GEMMA_2B
    >>> [round(quantized_bytes(GEMMA_2B, method, 2) / 2**30, 2) for method in ("int8", "int4")]
    [2.34, 1.53]
    """
    check_method(method)
    total = 0
    for spec in specs(config).values():
        bits = bits_of(spec, method)
        if bits is None:
            total += spec.size * itemsize
        elif bits == 8:
            total += spec.size + 4 * spec.shape[0]
        else:
            total += spec.size // 2 + 2 * spec.size // GROUP
    return total


def in_bits(matrix: jax.Array, bits: int) -> QuantizedWeight:
    """A matrix [out, in] in 8 or 4 bits; some rows after the other, so that little is float32."""
    count, width = matrix.shape
    size = min(count, max(1, BLOCK_ELEMENTS // width))
    values, scales = (
        jnp.zeros(part.shape, part.dtype) for part in jax.eval_shape(_RULES[bits], matrix)
    )
    for first in range(0, count, size):
        values, scales = _with_rows((values, scales), matrix, np.int32(first), size, bits)
    return QuantizedWeight(values, scales, bits, matrix.dtype)


def quantize(params: Params, config: GemmaConfig, method: str) -> tuple[Params, list[Loss]]:
    """The tree with its matrices in few bits, and what that did to them.

    `params` is consumed: its matrices are replaced one by one, so that the whole never exists
    twice.

    Raises:
      UsageError: no such method, or weights that carry an adapter or are quantised already.
    """
    check_method(method)
    found: dict[str, list[tuple[int, float, int, int]]] = {}
    for path, bits in leaf_bits(config, method).items():
        holder, name = _place(params, path)
        leaf = holder[name]
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise UsageError(f"{path} is a {type(leaf).__name__}", "plain weights to quantise")
        small = in_bits(jnp.asarray(leaf), bits)
        error = float(_relative_error(jnp.asarray(leaf), small))
        before = leaf.nbytes
        holder[name] = small
        del leaf
        row = (bits, error, before, small.nbytes)
        found.setdefault(path.rsplit(".", 1)[-1], []).append(row)
    return params, list(_losses(found))


def method_of(params: Params) -> str | None:
    """The method a tree was quantised by, None for plain weights."""
    kinds = {leaf.bits for _, leaf in flatten(params) if isinstance(leaf, QuantizedWeight)}
    return None if not kinds else "int4" if 4 in kinds else "int8"


def _losses(found: dict[str, list[tuple[int, float, int, int]]]) -> Iterator[Loss]:
    for kind, rows in found.items():
        bits, errors, before, after = zip(*rows, strict=True)
        yield Loss(kind, bits[0], sum(errors) / len(rows), max(errors), sum(before), sum(after))


def _place(params: Params, path: str) -> tuple[Any, Any]:
    """The container of a leaf and its key there."""
    node: Any = params
    *parents, name = path.split(".")
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node[step]
    return node, name


@functools.partial(jax.jit, static_argnums=(3, 4), donate_argnums=0)
def _with_rows(held: Parts, matrix: jax.Array, first: Any, size: int, bits: int) -> Parts:
    """The parts with `size` rows quantised; near the end, rows before `first` once more."""
    rows = jax.lax.dynamic_slice_in_dim(matrix, first, size)
    values, scales = (
        jax.lax.dynamic_update_slice_in_dim(part, new, first, 0)
        for part, new in zip(held, _RULES[bits](rows), strict=True)
    )
    return values, scales


def _eight(matrix: jax.Array) -> Parts:
    wide = matrix.astype(jnp.float32)
    scales = jnp.max(jnp.abs(wide), axis=1, keepdims=True) / 127
    return jnp.round(wide / _divisible(scales)).astype(jnp.int8), scales


def _four(matrix: jax.Array) -> Parts:
    groups = matrix.astype(jnp.float32).reshape(matrix.shape[0], -1, GROUP)
    places = jnp.argmax(jnp.abs(groups), axis=-1, keepdims=True)
    scales = (jnp.take_along_axis(groups, places, axis=-1) / -8).astype(jnp.float16)
    numbers = jnp.round(groups / _divisible(scales.astype(jnp.float32))) + 8
    numbers = jnp.clip(numbers, 0, 15).astype(jnp.uint8)
    packed = numbers[..., : GROUP // 2] | (numbers[..., GROUP // 2 :] << 4)
    return packed.reshape(matrix.shape[0], -1), scales[..., 0]


_RULES = {8: _eight, 4: _four}


def _divisible(scales: jax.Array) -> jax.Array:
    return jnp.where(scales == 0, 1.0, scales)


@jax.jit
def _relative_error(matrix: jax.Array, weight: QuantizedWeight) -> jax.Array:
    wide = matrix.astype(jnp.float32)
    lost = jnp.linalg.norm(wide - restored(weight, jnp.float32))
    return lost / jnp.maximum(jnp.linalg.norm(wide), 1e-30)
