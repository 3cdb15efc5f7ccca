"""Keras' LoRA files (`.lora.h5`), read exactly and written exactly or as nearly as they allow.

Keras' EinsumDense adapts a kernel [..., out] by A [..., R] and B [R, out] of its last axis. Query
and key/value kernels are (N, D, H), so each head has an A of its own and all heads share B; in
the weights table, whose matrices are (N*H, D), that is an adapter of rank N*R. The reverse holds
only for adapters that have such a B. Layers are numbered as Keras walks them. Sources: keras
`layers/core/einsum_dense.py`; keras-hub `models/backbone.py`.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.adapt.lora import Adapter, Lora
from gemkit.atomic import new_file
from gemkit.checkpoint.files import FLOAT_DTYPES, Stored
from gemkit.checkpoint.keras.weights import datasets
from gemkit.checkpoint.keras.write import new_hdf5, write_array
from gemkit.checkpoint.names import INPUT_HEADS, cells, stored_shape
from gemkit.errors import CheckpointError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

# Weights of a block in the order of Keras' walk, which visits children last to first; None is a
# layer of layers: the block itself and the attention.
_WALK = (
    None, "mlp.down", "mlp.up", "mlp.gate", "post_ffw_norm", "pre_ffw_norm", None, "attn.o",
    "attn.k_norm", "attn.q_norm", "attn.v", "attn.k", "attn.q", "post_attn_norm", "pre_attn_norm",
)  # fmt: skip
# What `enable_lora(rank)` adapts; for more, Keras wants `target_layer_names`.
_USUAL = ("q", "v")
LAYER_NAMES = {
    "q": "query", "k": "key", "v": "value", "o": "attention_output", "gate": "ffw_gating",
    "up": "ffw_gating_2", "down": "ffw_linear",
}  # fmt: skip

_RANK, _A, _B = "lora/vars/rank", "lora_kernel_a", "lora_kernel_b"
_MATRIX = re.compile(rf"lora/(\d{{1,9}})/vars/({_A}|{_B})")
_MAX_RANK = 2**14
# Singular values below this share of the largest are rounding.
_NEGLIGIBLE = 1e-6


def layer_numbers(config: GemmaConfig) -> dict[str, int]:
    """Path of each matrix → its layer's number in a `.lora.h5` file.

    >>> from gemkit.model.variants import GEMMA_2B
    >>> layer_numbers(GEMMA_2B)["layers.1.attn.q"]
    21
    """
    table = specs(config)
    numbers, number = {}, 1  # 0 is the embedding
    for block in range(config.num_layers):
        for name in _WALK:
            path = f"layers.{block}.{name}"
            if name is None or path in table:
                if name is not None and table[path].linear:
                    numbers[path] = number
                number += 1
    return numbers


def loading_hint(adapter: Mapping[str, Any]) -> str | None:
    """What to do in Keras before `load_lora_weights`, where it would leave something out.

    A file holds what the adapter adapts, but Keras reads query and value only unless told before.
    """
    kinds = {path.rsplit(".", 1)[-1] for path in adapter} | set(_USUAL)
    if kinds == set(_USUAL):
        return None
    names = json.dumps([name for kind, name in LAYER_NAMES.items() if kind in kinds])
    return f"in Keras, call backbone.enable_lora(rank, target_layer_names={names}) first"


class _Place(NamedTuple):
    """One matrix in Keras: its layer's number, its kernel's shape, heads that share a B."""

    number: int
    kernel: tuple[int, ...]
    heads: int


def _places(config: GemmaConfig) -> dict[str, _Place]:
    table, shapes = cells(config, "keras"), specs(config)
    places = {}
    for path, number in layer_numbers(config).items():
        layout = table[path].layout
        kernel = stored_shape(layout, shapes[path].shape, config.head_dim)
        places[path] = _Place(number, kernel, kernel[0] if layout is INPUT_HEADS else 1)
    return {path: places[path] for path in shapes if path in places}


def read_adapter(path: Path, config: GemmaConfig) -> tuple[Lora, Adapter]:
    """Reads an adapter that `save_lora_weights` wrote, as the weights table's, exactly.

    Returns:
      Lora of scale 1, Keras' own, whose rank is the file's and whose rank_pattern has N*R for
      queries and K*R for keys and values; and the adapter, float32.

    Raises:
        CheckpointError: damaged, or not all of it is an adapter of this model.
    """
    stored = datasets(path)
    rank, pairs = _pairs(path, stored)
    places = _places(config)
    paths = {place.number: name for name, place in places.items()}
    odd = sorted(pairs.keys() - paths.keys())
    if odd:
        raise CheckpointError(
            f"{path} adapts layer {odd[0]}, which is no matrix of this model",
            "an adapter of this model", "name the base it was trained on",
        )  # fmt: skip
    kinds = [kind for kind in LAYER_NAMES
             if any(_kind(paths[number]) == kind for number in pairs)]  # fmt: skip
    missing = [name for name, place in places.items()
               if _kind(name) in kinds and place.number not in pairs]  # fmt: skip
    if missing:
        raise CheckpointError(
            f"{path} lacks {missing[0]} (layer {places[missing[0]].number})",
            "all layers of a kind", "name the base it was trained on",
        )  # fmt: skip
    adapter = {
        name: _expanded(path, name, place, rank, pairs[place.number])
        for name, place in places.items()
        if place.number in pairs
    }
    heads = {_kind(name): places[name].heads for name in adapter}
    ranks = {kind: rank * count for kind, count in heads.items() if count > 1}
    return Lora(rank, targets=tuple(kinds), rank_pattern=ranks), adapter


def _kind(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _pairs(path: Path, stored: Mapping[str, Stored]) -> tuple[int, dict[int, dict[str, Stored]]]:
    """The rank, and number of the layer → name → matrix."""
    found = stored.get(_RANK)
    if found is None or found.shape != () or not found.dtype.startswith(("int", "uint")):
        raise CheckpointError(f"{path} has no whole number {_RANK}", "a .lora.h5 file of Keras")
    rank = int(found.read())
    if not 1 <= rank <= _MAX_RANK:
        raise CheckpointError(f"{path}: {_RANK} is {rank}", f"a rank from 1 to {_MAX_RANK}")
    pairs: dict[int, dict[str, Stored]] = {}
    for name, tensor in stored.items():
        if name == _RANK:
            continue
        match = _MATRIX.fullmatch(name)
        if match is None:
            raise CheckpointError(f"{path} holds {name}", "a .lora.h5 file of Keras")
        pairs.setdefault(int(match[1]), {})[match[2]] = tensor
    if not pairs:
        raise CheckpointError(f"{path} holds no matrices", "a .lora.h5 file of Keras")
    return rank, pairs


def _expanded(
    path: Path, name: str, place: _Place, rank: int, pair: Mapping[str, Stored]
) -> dict[str, jax.Array]:
    wanted = {_A: (*place.kernel[:-1], rank), _B: (rank, place.kernel[-1])}
    for part, shape in wanted.items():
        if part not in pair or pair[part].shape != shape or pair[part].dtype not in FLOAT_DTYPES:
            found = f"{pair[part].dtype}{list(pair[part].shape)}" if part in pair else "absent"
            raise CheckpointError(
                f"{path}: {part} of {name} (layer {place.number}) is {found}",
                f"floats {list(shape)}", "name the base it was trained on",
            )  # fmt: skip
    a, b = (pair[part].read().astype(np.float32) for part in (_A, _B))
    rows = _rows(_Form(a.reshape(place.heads, -1, rank), b))
    return {"a": jnp.asarray(rows[0]), "b": jnp.asarray(rows[1])}


def write_adapter(
    path: Path, config: GemmaConfig, lora: Lora, adapter: Adapter,
    approximate: bool = False, rank: int | None = None,
) -> float:  # fmt: skip
    """Writes a file that `load_lora_weights` reads; queries and values left alone get zeros.

    Any adapter fits if the rank is large enough: N times its own holds a B for each head. So by
    default it must fit at its own rank, as one read from Keras does.

    Args:
      approximate: write the nearest update (least squares) if the exact one does not fit.
      rank: R of the file; None for what is needed, or the adapter's own if that is less.

    Returns:
      The part of the update that was lost, |written - given| / |given| in the Frobenius norm; 0
      where nothing but rounding was.

    Raises:
        UsageError: the update does not fit.
        CheckpointError: it has DoRA's magnitudes, or is of another model.
    """
    places = _places(config)
    given = {name: _checked(places, name, pair, lora) for name, pair in adapter.items()}
    needs = {name: len(_form(places[name].heads, *given[name]).b) for name in given}
    needed = max([1, *needs.values()])
    own = max([1, *(len(a) for a, _ in given.values())])
    chosen = min(needed, own) if rank is None else rank
    if not 1 <= chosen <= _MAX_RANK:
        raise UsageError(f"the rank is {chosen}", f"a rank from 1 to {_MAX_RANK}")
    if needed > chosen and not approximate:
        worst = max(needs, key=needs.__getitem__)
        raise UsageError(
            f"{worst} needs rank {needed} where all heads share one B, and the file has {chosen}",
            "an adapter as Keras trains it",
            f"--rank {needed} keeps it, --approximate the nearest of rank {chosen}",
        )  # fmt: skip
    kinds = {_kind(name) for name in given} | set(_USUAL)
    wanted = {name: place for name, place in places.items() if _kind(name) in kinds}
    with new_file(path, CheckpointError) as unfinished:
        lost = _write_file(unfinished, chosen, wanted, given)
    if needed <= chosen:
        return 0.0
    total = sum(float(np.sum((a @ a.T) * (b @ b.T))) for a, b in given.values())
    return math.sqrt(lost / total)


def _checked(
    places: Mapping[str, _Place], name: str, pair: Mapping[str, Any], lora: Lora
) -> tuple[np.ndarray, np.ndarray]:
    """a [R, in] and b [R, out] of a matrix, scaled, in float64."""
    if name not in places or pair.keys() != {"a", "b"}:
        raise CheckpointError(
            f"the adapter has {', '.join(pair)} for {name}", "a and b for each matrix",
            "merge it into the model instead",
        )  # fmt: skip
    a, b = (np.asarray(pair[part], np.float64) for part in ("a", "b"))
    kernel, heads = places[name].kernel, places[name].heads
    rows, columns = math.prod(kernel[:-1]) // heads, heads * kernel[-1]
    if a.shape != (len(a), rows) or b.shape != (len(a), columns):
        raise CheckpointError(
            f"{name} has a {list(a.shape)} and b {list(b.shape)}",
            f"[R, {rows}] and [R, {columns}]", "name the base it was trained on",
        )  # fmt: skip
    return a, b * lora.scale_of(name)  # Keras' files have no scale


def _write_file(
    path: Path, rank: int, places: Mapping[str, _Place],
    given: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> float:  # fmt: skip
    """The square of what was lost."""
    lost = 0.0
    with new_hdf5(path) as file:
        write_array(file, _RANK, np.asarray(rank, np.int64))
        for name, (number, kernel, heads) in places.items():
            a = np.zeros((*kernel[:-1], rank), np.float32)
            b = np.zeros((rank, kernel[-1]), np.float32)
            if name in given:
                form = _form(heads, *given[name], rank)
                kept = len(form.b)
                a[..., :kept] = form.a.reshape(*kernel[:-1], kept)
                b[:kept] = form.b
                lost += form.lost
            write_array(file, f"lora/{number}/vars/{_A}", a)
            write_array(file, f"lora/{number}/vars/{_B}", b)
    return lost


class _Form(NamedTuple):
    """An update as Keras has it: a [heads, in, R], b [R, out], and the square of what was lost."""

    a: np.ndarray
    b: np.ndarray
    lost: float = 0.0


def _rows(form: _Form) -> tuple[np.ndarray, np.ndarray]:
    """a [heads*R, in], b [heads*R, heads*out] of the same update: rows for each head."""
    heads, columns, rank = form.a.shape
    a = form.a.transpose(0, 2, 1).reshape(heads * rank, columns)
    return a, np.kron(np.eye(heads, dtype=form.b.dtype), form.b)


def _form(heads: int, a: np.ndarray, b: np.ndarray, rank: int = _MAX_RANK) -> _Form:
    """The update aᵀ b in Keras' form, exact and unchanged if it has it, else the nearest.

    Args:
      a: [R, in].
      b: [R, heads*out].
      rank: at most.
    """
    own, out = len(a) // heads, b.shape[1] // heads
    if len(a) == own * heads and own <= rank:
        form = _Form(a.reshape(heads, own, -1).transpose(0, 2, 1), b[:own, :out])
        if np.array_equal(_rows(form)[1], b):
            return form
    # Side by side, the heads' updates are one matrix [out, heads*in]; of all of its rank, the
    # first singular vectors make the nearest (Eckart & Young 1936). `a` is first reduced to R.
    q, triangle = np.linalg.qr(a.T)
    side_by_side = np.einsum("rno,kr->onk", b.reshape(len(b), heads, out), triangle)
    u, strengths, v = np.linalg.svd(side_by_side.reshape(out, -1), full_matrices=False)
    kept = min(rank, int(np.sum(strengths > _NEGLIGIBLE * strengths[0])))
    root = np.sqrt(strengths[:kept])
    per_head = (v[:kept] * root[:, None]).reshape(kept, heads, q.shape[1])
    return _Form(
        np.einsum("ik,rnk->nir", q, per_head), (u[:, :kept] * root).T,
        float(np.sum(strengths[kept:] ** 2)),
    )  # fmt: skip
