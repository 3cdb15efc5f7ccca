"""The parameter tree of 2024 and gemkit's weights, either from the other.

Both ways are plain rearrangements of arrays, so gradients pass through them. Fused arrays are the
names table's `name#0`, `name#1`; see `gemkit.checkpoint.flax.weights`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp

from gemkit.checkpoint.flax.config import gates_by_width
from gemkit.checkpoint.names import cells
from gemkit.errors import UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten, specs, unflatten

Tree = dict[str, Any]
_Q, _KV, _QKV, _GATING = "attn/q_einsum/w", "attn/kv_einsum/w", "attn/qkv_einsum/w", "gating_einsum"


def to_tree(config: GemmaConfig, params: Params) -> Tree:
    """gemkit's weights → {"embedder": {"input_embedding": …}, "layer_0": …, "final_norm": …}."""
    table = cells(config, "flax")
    stored = {
        table[path].name: table[path].layout.store(leaf, config.head_dim)
        for path, leaf in flatten(params)
    }
    arrays: dict[str, Any] = {}
    for name, members in _fused(config, stored).items():
        parts = [stored[member] for member in members]
        if name.endswith(_GATING) and _by_width(config):
            parts = [part.T for part in parts]
        arrays[name] = jnp.stack(parts) if "#" in members[-1] else parts[0]
    return _nested(arrays)


def from_tree(config: GemmaConfig, tree: Mapping[str, Any]) -> Params:
    """The reverse.

    Raises:
      UsageError: a tree without one of the arrays.
    """
    arrays = dict(_paths(tree))
    table, stored = cells(config, "flax"), {}
    for name, members in _fused(config, [cell.name for cell in table.values()]).items():
        if name not in arrays:
            raise UsageError(
                f"the parameters have no {name}; they begin {', '.join([*arrays][:2])}",
                "the tree params['transformer']",
                "pass that to Sampler, and {'params': that} to Transformer.apply",
            )  # fmt: skip
        for number, member in enumerate(members):
            part = arrays[name][number] if "#" in members[-1] else arrays[name]
            turned = name.endswith(_GATING) and _by_width(config)
            stored[member] = part.T if turned else part
    shapes = specs(config)
    leaves = {
        path: cell.layout.load(stored[cell.name], config.head_dim) for path, cell in table.items()
    }
    # The tables of the first checkpoints have rows that no token uses.
    leaves["embed"] = leaves["embed"][: shapes["embed"].shape[0]]
    return unflatten(leaves)


def _by_width(config: GemmaConfig) -> bool:
    return gates_by_width(config.post_norms, config.qk_norm, config.hidden_size)


def _fused(config: GemmaConfig, names: Any) -> dict[str, list[str]]:
    """Path in the tree → the table's names of what lies in that array, in its order."""
    fused: dict[str, list[str]] = {}
    for name in names:
        place = name.partition("#")[0]
        if config.num_heads == config.num_kv_heads and place.endswith((_Q, _KV)):
            place = f"{place.partition('/')[0]}/{_QKV}"
        fused.setdefault(place, []).append(name)
    return fused


def _nested(arrays: Mapping[str, Any]) -> Tree:
    root: Tree = {}
    for path, array in arrays.items():
        *parents, name = path.split("/")
        node = root
        for step in parents:
            node = node.setdefault(step, {})
        node[name] = array
    return root


def _paths(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for step, child in tree.items():
        if isinstance(child, Mapping):
            yield from _paths(child, f"{prefix}{step}/")
        else:
            yield f"{prefix}{step}", child
