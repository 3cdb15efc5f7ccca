"""The weights table: every parameter's path, shape, logical axes and initialiser.

`init`, counts, summaries, memory plans, LoRA targets and checkpoint validation derive from it.
Parameters are nested dicts and lists; a path such as `layers.3.attn.q` names a leaf.
Matrices are stored (out, in): rows are contiguous as in safetensors and GGUF files.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gemkit.model.config import GemmaConfig

Params = dict[str, Any]
Init = Literal["embedding", "fan_in", "zeros"]


@dataclasses.dataclass(frozen=True)
class Weight:
    """A row of the table. `path` may hold `*` for the layer; `axes` are letters, `NH` is N*H."""

    path: str
    axes: tuple[str, ...]
    init: Init
    present: Callable[[GemmaConfig], bool] = lambda config: True
    linear: bool = False


def _post_norms(config: GemmaConfig) -> bool:
    return config.post_norms


def _qk_norm(config: GemmaConfig) -> bool:
    return config.qk_norm


WEIGHTS: tuple[Weight, ...] = (
    Weight("embed", ("V", "D"), "embedding"),
    Weight("layers.*.pre_attn_norm", ("D",), "zeros"),
    Weight("layers.*.attn.q", ("NH", "D"), "fan_in", linear=True),
    Weight("layers.*.attn.k", ("KH", "D"), "fan_in", linear=True),
    Weight("layers.*.attn.v", ("KH", "D"), "fan_in", linear=True),
    Weight("layers.*.attn.o", ("D", "NH"), "fan_in", linear=True),
    Weight("layers.*.attn.q_norm", ("H",), "zeros", _qk_norm),
    Weight("layers.*.attn.k_norm", ("H",), "zeros", _qk_norm),
    Weight("layers.*.post_attn_norm", ("D",), "zeros", _post_norms),
    Weight("layers.*.pre_ffw_norm", ("D",), "zeros"),
    Weight("layers.*.mlp.gate", ("F", "D"), "fan_in", linear=True),
    Weight("layers.*.mlp.up", ("F", "D"), "fan_in", linear=True),
    Weight("layers.*.mlp.down", ("D", "F"), "fan_in", linear=True),
    Weight("layers.*.post_ffw_norm", ("D",), "zeros", _post_norms),
    Weight("final_norm", ("D",), "zeros"),
)


@dataclasses.dataclass(frozen=True)
class Spec:
    """One concrete parameter of one model."""

    path: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: Init
    linear: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def axis_sizes(config: GemmaConfig) -> dict[str, int]:
    """Length of every logical axis of the table."""
    c = config
    return {
        "V": c.vocab_size, "D": c.hidden_size, "F": c.intermediate_size, "H": c.head_dim,
        "NH": c.num_heads * c.head_dim, "KH": c.num_kv_heads * c.head_dim,
    }  # fmt: skip


def specs(config: GemmaConfig) -> dict[str, Spec]:
    """Path → Spec of every parameter, in the order of the forward pass."""
    sizes = axis_sizes(config)

    def spec(row: Weight, path: str) -> Spec:
        return Spec(path, tuple(sizes[a] for a in row.axes), row.axes, row.init, row.linear)

    present = [row for row in WEIGHTS if row.present(config)]
    paths: dict[str, Spec] = {"embed": spec(present[0], "embed")}
    for layer in range(config.num_layers):
        for row in present:
            if "*" in row.path:
                path = row.path.replace("*", str(layer))
                paths[path] = spec(row, path)
    paths["final_norm"] = spec(present[-1], "final_norm")
    return paths


def count_parameters(config: GemmaConfig) -> int:
    """Number of parameters; the tied embedding counts once.

    >>> from gemkit.model.variants import VARIANTS
    >>> count_parameters(VARIANTS["gemma_2b_en"].config)
    2506172416
    """
    return sum(spec.size for spec in specs(config).values())


def unflatten(leaves: Mapping[str, Any]) -> Params:
    """Path → leaf mapping to the nested tree; numeric steps become list positions."""
    root: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split(".")
        node = root
        for step in parents:
            node = node.setdefault(step, {})
        node[name] = leaf
    return _lists(root)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(step.isdigit() for step in node):
        return [_lists(node[step]) for step in sorted(node, key=int)]
    return {step: _lists(child) for step, child in node.items()}


def flatten(params: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) pairs of a tree; leaf types such as LoRA pairs count as leaves."""
    if isinstance(params, dict | list):
        items = params.items() if isinstance(params, dict) else enumerate(params)
        for step, child in items:
            yield from flatten(child, f"{prefix}.{step}" if prefix else str(step))
    else:
        yield prefix, params


def abstract_params(config: GemmaConfig, dtype: Any = jnp.float32) -> Params:
    """The tree with `jax.ShapeDtypeStruct` leaves: shapes without memory."""
    table = specs(config).items()
    return unflatten({path: jax.ShapeDtypeStruct(spec.shape, dtype) for path, spec in table})


def init_params(config: GemmaConfig, seed: int, dtype: Any = jnp.float32) -> Params:
    """Random weights: normal with variance 1/fan-in for matrices, 1/D for the embedding.

    Norm scales are zero, which the (1 + w) of Gemma's RMSNorm turns into one. Every leaf draws
    from a key of its own, made of the seed and its place in the table.
    """
    root = jax.random.key(seed)
    leaves = {}
    for index, (path, spec) in enumerate(specs(config).items()):
        if spec.init == "zeros":
            leaves[path] = jnp.zeros(spec.shape, dtype)
        else:
            leaves[path] = _normal(jax.random.fold_in(root, index), spec.shape, dtype)
    return unflatten(leaves)


def _normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    # Drawn by blocks of rows: the float32 draw of a 256k-row table must not double its memory.
    scale = 1.0 / math.sqrt(shape[-1])
    rows = max(1, 2**26 // shape[-1])
    blocks = [
        (jax.random.normal(jax.random.fold_in(key, start), (min(rows, shape[0] - start), shape[1]))
         * scale).astype(dtype)
        for start in range(0, shape[0], rows)
    ]  # fmt: skip
    return blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks)
