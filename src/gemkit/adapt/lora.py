"""LoRA: settings, creation, attachment and merging (Hu et al. 2021, arXiv:2106.09685).

An adapter is a plain dict, path of a matrix → {"a": [R, in], "b": [R, out]}: the tree that is
trained and stored; with DoRA (arXiv:2402.09353) a magnitude "m" [out] joins them. Attaching it
gives the weights tree other leaves; the model does not notice.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp

from gemkit.errors import UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.linear import LoraWeight, merged, row_norms
from gemkit.model.weights import Params, Spec, flatten, specs, unflatten

Adapter = dict[str, dict[str, jax.Array]]
Number = TypeVar("Number", int, float)

ALL_LINEAR = ("q", "k", "v", "o", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class Lora:
    """What to adapt and how much.

    Attributes:
      rank: R, at least 1.
      alpha: numerator of the scale alpha / R; None means R, a scale of 1, as in Keras.
      targets: matrices by short name (q, k, v, o, gate, up, down; `q_proj` works too) or by a
        path pattern such as `layers.1?.attn.*`; by default every linear layer.
      dropout: share of the adapter's inputs dropped while training, in [0, 1). With DoRA the
        base still sees all of them.
      rslora: scale by alpha / sqrt(R) instead (Kalajdzievski 2023, arXiv:2312.03732).
      dora: train the length of every row apart from its direction (Liu et al. 2024,
        arXiv:2402.09353).
      form: "keras" trains what Keras's `enable_lora` does: heads share one B, each has its own A,
        and A starts He-uniform. `plain` gives the same update as every file but Keras's has it.
      rank_pattern, alpha_pattern: target → a rank or alpha of its own, a mapping or pairs; the
        first that names a matrix counts.

    Raises:
      UsageError: a value out of range.

    >>> lora = Lora(rank=8, alpha=16, rank_pattern={"down": 2})
    >>> lora.scale_of("layers.0.attn.q"), lora.scale_of("layers.0.mlp.down")
    (2.0, 8.0)
    """

    rank: int = 4
    alpha: float | None = None
    targets: tuple[str, ...] = ALL_LINEAR
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    form: Literal["peft", "keras"] = "peft"
    rank_pattern: Mapping[str, int] | tuple[tuple[str, int], ...] = ()
    alpha_pattern: Mapping[str, float] | tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        # Settings of compiled steps must be hashable.
        for name in ("rank_pattern", "alpha_pattern"):
            object.__setattr__(self, name, tuple(dict(getattr(self, name)).items()))
        for rank in (self.rank, *dict(self.rank_pattern).values()):
            if rank < 1:
                raise UsageError(f"LoRA rank is {rank}", "a rank of at least 1", "try rank 4")
        for alpha in (self.alpha, *dict(self.alpha_pattern).values()):
            if alpha is not None and not 0 < alpha < math.inf:
                raise UsageError(f"LoRA alpha is {alpha}", "a positive number")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"LoRA dropout is {self.dropout}", "a share from 0 up to below 1")
        if self.form not in ("peft", "keras") or (self.dora and self.form == "keras"):
            kind = f"{self.form!r}{' with DoRA' if self.dora else ''}"
            raise UsageError(f"LoRA form is {kind}", "'peft', or 'keras' without DoRA")
        if not self.targets:
            raise UsageError("no LoRA targets", f"some of {', '.join(ALL_LINEAR)}")

    @property
    def scale(self) -> float:
        """Factor on the product of a and b where no pattern says otherwise."""
        return _scale(self.rank if self.alpha is None else self.alpha, self.rank, self.rslora)

    def rank_of(self, path: str) -> int:
        """R of a matrix."""
        return _first(dict(self.rank_pattern), path, self.rank)

    def alpha_of(self, path: str) -> float:
        """alpha of a matrix; its rank where none is set."""
        usual = self.rank_of(path) if self.alpha is None else self.alpha
        return _first(dict(self.alpha_pattern), path, float(usual))

    def scale_of(self, path: str) -> float:
        """Factor on the product of a matrix' a and b."""
        return _scale(self.alpha_of(path), self.rank_of(path), self.rslora)


def _scale(alpha: float, rank: int, rslora: bool) -> float:
    return alpha / (math.sqrt(rank) if rslora else rank)


def _first(values: Mapping[str, Number], path: str, usual: Number) -> Number:
    return next((value for target, value in values.items() if _named(target, [path])), usual)


def _named(target: str, paths: Iterable[str]) -> list[str]:
    name = target.strip().removesuffix("_proj")
    return fnmatch.filter(paths, name if "." in name else f"*.{name}")


def target_paths(config: GemmaConfig, targets: Iterable[str]) -> tuple[str, ...]:
    """Paths of the matrices the targets name, in model order.

    Raises:
      UsageError: a target that names no matrix of this model.
    """
    linear = [path for path, spec in specs(config).items() if spec.linear]
    chosen: set[str] = set()
    for target in targets:
        found = _named(target, linear)
        if not found:
            raise UsageError(
                f"LoRA target {target!r} names no matrix of the model",
                f"some of {', '.join(ALL_LINEAR)} or a path pattern such as layers.0.attn.*",
            )
        chosen.update(found)
    return tuple(path for path in linear if path in chosen)


def init_adapter(
    config: GemmaConfig, lora: Lora, seed: int, base: Params | None = None
) -> Adapter:
    """A fresh adapter in float32: `a` uniform in ±1/sqrt(in) as PEFT draws it, `b` zero.

    The adapted model starts as the base model, exactly; with DoRA but for rounding. In Keras's
    form queries, keys and values have `a` [N, R, in] and `b` [R, H], N being their heads.

    Args:
      config: of the model.
      lora: what to adapt.
      seed: of `a`.
      base: the weights, whose row norms are the magnitudes DoRA starts from; plain LoRA needs
        none.

    Raises:
      UsageError: a target or pattern that names no matrix, or DoRA without the weights.
    """
    if lora.dora and base is None:
        raise UsageError("DoRA starts without a base", "the weights it takes its magnitudes from")
    target_paths(config, [*dict(lora.rank_pattern), *dict(lora.alpha_pattern)])
    root, table = jax.random.key(seed), specs(config)
    leaves: dict[str, Any] = dict(flatten(base)) if lora.dora else {}
    adapter = {}
    for index, path in enumerate(target_paths(config, lora.targets)):
        shapes = _shapes(table[path], config.head_dim, lora)
        # He (2015) and PEFT differ by sqrt(6); Keras counts the heads among the inputs.
        wide = math.prod(shapes["a"]) / lora.rank_of(path)
        bound = (math.sqrt(6) if lora.form == "keras" else 1) / math.sqrt(wide)
        a = jax.random.uniform(
            jax.random.fold_in(root, index), shapes["a"], minval=-bound, maxval=bound
        )
        adapter[path] = {"a": a, "b": jnp.zeros(shapes["b"], jnp.float32)}
        if lora.dora:
            adapter[path]["m"] = row_norms(leaves[path])
    return adapter


def _shapes(spec: Spec, head_dim: int, lora: Lora) -> dict[str, tuple[int, ...]]:
    rank, (rows, columns) = lora.rank_of(spec.path), spec.shape
    heads = rows // head_dim if spec.axes[0] in ("NH", "KH") else 1
    if lora.form == "peft" or heads == 1:
        return {"a": (rank, columns), "b": (rank, rows)}
    return {"a": (heads, rank, columns), "b": (rank, rows // heads)}


def _unshared(pair: Mapping[str, jax.Array]) -> Mapping[str, jax.Array]:
    """A pair whose heads share a B as one of rank N * R, its B block diagonal."""
    a, b = pair["a"], pair["b"]
    if a.ndim == 2:
        return pair
    blocks = jnp.kron(jnp.eye(a.shape[0], dtype=b.dtype), b)
    return {**pair, "a": a.reshape(-1, a.shape[-1]), "b": blocks}


def plain(lora: Lora, adapter: Adapter) -> tuple[Lora, Adapter]:
    """An adapter in Keras's form as a usual one of the same update, to keep or to write."""
    if lora.form == "peft":
        return lora, adapter
    made = {path: dict(_unshared(pair)) for path, pair in adapter.items()}
    return dataclasses.replace(fitted(lora, made), form="peft"), made


def attach(
    params: Params, adapter: Mapping[str, Mapping[str, jax.Array]], lora: Lora,
    dropout_key: jax.Array | None = None,
) -> Params:  # fmt: skip
    """The weights tree with the adapter's matrices as `LoraWeight` leaves.

    With `dropout_key` every matrix gets its own key derived from it; without, dropout is off.
    DoRA's norms are computed here, once for a step or an answer, and are constants to gradients
    (section 4.3 of its paper).
    """
    leaves = dict(flatten(params))
    for index, (path, pair) in enumerate(adapter.items()):
        key = None
        if dropout_key is not None and lora.dropout > 0:
            key = jax.random.fold_in(dropout_key, index)
        pair = _unshared(pair)
        leaf = LoraWeight(
            leaves[path], pair["a"], pair["b"], lora.scale_of(path), lora.dropout, key
        )  # fmt: skip
        if "m" in pair:
            # Without its key: the norms need no dropout, nor a compilation of their own for it.
            plain = dataclasses.replace(leaf, dropout=0.0, dropout_key=None)
            norms = row_norms(jax.lax.stop_gradient(plain))
            leaf = dataclasses.replace(leaf, row_scale=pair["m"] / norms)
        leaves[path] = leaf
    return unflatten(leaves)


def merge(params: Params) -> Params:
    """The tree with every `LoraWeight` folded into its base matrix."""
    return unflatten({path: merged(leaf) for path, leaf in flatten(params)})


def adapter_sizes(config: GemmaConfig, lora: Lora) -> dict[str, int]:
    """Path → trainable parameters: R * (in + out) for each target, with DoRA out more."""
    table = specs(config)
    return {
        path: sum(map(math.prod, _shapes(table[path], config.head_dim, lora).values()))
        + lora.dora * table[path].shape[0]
        for path in target_paths(config, lora.targets)
    }


def count_adapter(config: GemmaConfig, lora: Lora) -> int:
    """Trainable parameters of all targets.

    This is the form of the paper and of PEFT, with a B of its own for every head. Keras shares
    one B between the heads of a layer and so counts more A and less B: for Gemma 2B, rank 4 on
    query and value, 1,363,968 there (and with `form="keras"`) and 460,800 here.
    """
    return sum(adapter_sizes(config, lora).values())


def fitted(lora: Lora, adapter: Mapping[str, Mapping[str, Any]]) -> Lora:
    """The settings that say exactly what an adapter's arrays are, every scale as it was.

    Targets become the adapter's paths, ranks those of the arrays, alphas what keeps the scales.
    """
    ranks = {path: int(pair["a"].shape[0]) for path, pair in adapter.items()}
    alphas = {
        path: lora.alpha_of(path) if rank == lora.rank_of(path)
        else lora.scale_of(path) * (math.sqrt(rank) if lora.rslora else rank)
        for path, rank in ranks.items()
    }  # fmt: skip
    alpha = float(lora.rank if lora.alpha is None else lora.alpha)
    return dataclasses.replace(
        lora, alpha=alpha, targets=tuple(adapter), dora=any("m" in p for p in adapter.values()),
        rank_pattern=exceptions(ranks, lora.rank), alpha_pattern=exceptions(alphas, alpha),
    )  # fmt: skip


def exceptions(values: Mapping[str, Number], usual: Number) -> dict[str, Number]:
    """Target → value where it is not the usual one: by short name where a kind agrees.

    >>> exceptions({"layers.0.attn.q": 2, "layers.1.attn.q": 2, "layers.1.attn.v": 4}, 4)
    {'q': 2}
    """
    kinds: dict[str, set[Number]] = {}
    for path, value in values.items():
        kinds.setdefault(path.rsplit(".", 1)[-1], set()).add(value)
    found: dict[str, Number] = {}
    for path, value in values.items():
        kind = path.rsplit(".", 1)[-1]
        if value != usual:
            found[kind if len(kinds[kind]) == 1 else path] = value
    return found
