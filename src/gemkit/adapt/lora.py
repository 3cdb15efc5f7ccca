"""LoRA: settings, creation, attachment and merging (Hu et al. 2021, arXiv:2106.09685).

An adapter is a plain dict, path of a matrix → {"a": [R, in], "b": [R, out]}: the tree that is
trained and stored. Attaching it gives the weights tree other leaves; the model does not notice.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from gemkit.errors import UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.linear import LoraWeight, merged
from gemkit.model.weights import Params, flatten, specs, unflatten

Adapter = dict[str, dict[str, jax.Array]]

ALL_LINEAR = ("q", "k", "v", "o", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class Lora:
    """What to adapt and how much.

    Attributes:
      rank: R, at least 1.
      alpha: numerator of the scale alpha / R; None means R, a scale of 1, as in Keras.
      targets: matrices by short name (q, k, v, o, gate, up, down; `q_proj` works too) or by a
        path pattern such as `layers.1?.attn.*`; by default every linear layer.
      dropout: share of the adapter's inputs dropped while training, in [0, 1).

    Raises:
      UsageError: a value out of range.
    """

    rank: int = 4
    alpha: float | None = None
    targets: tuple[str, ...] = ALL_LINEAR
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"LoRA rank is {self.rank}", "a rank of at least 1", "try rank 4")
        if self.alpha is not None and not self.alpha > 0:
            raise UsageError(f"LoRA alpha is {self.alpha}", "a positive number")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"LoRA dropout is {self.dropout}", "a share from 0 up to below 1")
        if not self.targets:
            raise UsageError("no LoRA targets", f"some of {', '.join(ALL_LINEAR)}")

    @property
    def scale(self) -> float:
        """Factor on the product of a and b."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


def target_paths(config: GemmaConfig, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Paths of the matrices the targets name, in model order.

    Raises:
      UsageError: a target that names no matrix of this model.
    """
    linear = [path for path, spec in specs(config).items() if spec.linear]
    chosen: set[str] = set()
    for target in targets:
        name = target.strip().removesuffix("_proj")
        pattern = name if "." in name else f"*.{name}"
        found = fnmatch.filter(linear, pattern)
        if not found:
            raise UsageError(
                f"LoRA target {target!r} names no matrix of the model",
                f"some of {', '.join(ALL_LINEAR)} or a path pattern such as layers.0.attn.*",
            )
        chosen.update(found)
    return tuple(path for path in linear if path in chosen)


def init_adapter(config: GemmaConfig, lora: Lora, seed: int) -> Adapter:
    """A fresh adapter in float32: `a` uniform in ±1/sqrt(in) as PEFT draws it, `b` zero.

    The adapted model starts as the base model, exactly.
    """
    root, table = jax.random.key(seed), specs(config)
    adapter = {}
    for index, path in enumerate(target_paths(config, lora.targets)):
        rows, columns = table[path].shape
        bound = 1 / math.sqrt(columns)
        a = jax.random.uniform(
            jax.random.fold_in(root, index), (lora.rank, columns), minval=-bound, maxval=bound
        )
        adapter[path] = {"a": a, "b": jnp.zeros((lora.rank, rows), jnp.float32)}
    return adapter


def attach(
    params: Params, adapter: Mapping[str, Mapping[str, jax.Array]], lora: Lora,
    dropout_key: jax.Array | None = None,
) -> Params:  # fmt: skip
    """The weights tree with the adapter's matrices as `LoraWeight` leaves.

    With `dropout_key` every matrix gets its own key derived from it; without, dropout is off.
    """
    leaves = dict(flatten(params))
    for index, (path, pair) in enumerate(adapter.items()):
        key = None
        if dropout_key is not None and lora.dropout > 0:
            key = jax.random.fold_in(dropout_key, index)
        leaves[path] = LoraWeight(
            leaves[path], pair["a"], pair["b"], lora.scale, lora.dropout, key
        )  # fmt: skip
    return unflatten(leaves)


def merge(params: Params) -> Params:
    """The tree with every `LoraWeight` folded into its base matrix."""
    return unflatten({path: merged(leaf) for path, leaf in flatten(params)})


def count_adapter(config: GemmaConfig, lora: Lora) -> int:
    """Trainable parameters: R * (in + out) for each target.

    This is the form of the paper and of PEFT, with a B of its own for every head. Keras shares
    one B between the heads of a layer and so counts more A and less B: for Gemma 2B, rank 4 on
    query and value, 1,363,968 there and 460,800 here.
    """
    table = specs(config)
    return sum(lora.rank * sum(table[path].shape) for path in target_paths(config, lora.targets))
