"""DoRA, rsLoRA and patterns: each path its own rank and scale, each row its own length."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIGS, GEMMA1, GEMMA3, assert_close, hidden, ids, rows, weights

from gemkit.adapt.lora import (
    Adapter,
    Lora,
    adapter_sizes,
    attach,
    count_adapter,
    exceptions,
    fitted,
    init_adapter,
    merge,
)
from gemkit.errors import UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.linear import LoraWeight, linear, merged, row_norms
from gemkit.model.weights import flatten
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.packing import Example, epoch_batches
from gemkit.train.step import init_state, make_train_step

every_config = pytest.mark.parametrize("name", CONFIGS)
DORA = Lora(rank=3, alpha=5.0, dora=True)
MIXED = Lora(
    rank=4, alpha=6.0, rslora=True, rank_pattern={"down": 2, "layers.0.attn.*": 3},
    alpha_pattern={"layers.1.*": 9.0},
)  # fmt: skip
KINDS = {
    "dora": DORA, "mixed": MIXED, "both": dataclasses.replace(MIXED, dora=True),
    "rslora": Lora(rank=4, rslora=True),
}  # fmt: skip
PATH = "layers.1.mlp.down"


def random_adapter(config: GemmaConfig, lora: Lora) -> Adapter:
    """An adapter away from its start: b not zero, magnitudes not the rows' norms."""
    draw = np.random.default_rng(4)

    def moved(leaf: jax.Array) -> jax.Array:
        start = np.asarray(leaf) if leaf.ndim == 1 else 0.0
        return jnp.asarray(start + draw.normal(size=leaf.shape) * 0.2, jnp.float32)

    return jax.tree.map(moved, init_adapter(config, lora, 0, weights(config)))


def expected(path: str, adapter: Adapter, lora: Lora) -> np.ndarray:
    """The adapted matrix as the papers define it, in float64."""
    base = np.asarray(dict(flatten(weights(GEMMA1)))[path], np.float64)
    parts = {name: np.asarray(leaf, np.float64) for name, leaf in adapter[path].items()}
    total = base + lora.scale_of(path) * parts["b"].T @ parts["a"]
    if "m" in parts:
        total *= (parts["m"] / np.linalg.norm(total, axis=1))[:, None]
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_is_that_of_the_papers(kind: str) -> None:
    lora, adapter = KINDS[kind], random_adapter(GEMMA1, KINDS[kind])
    leaves = dict(flatten(attach(weights(GEMMA1), adapter, lora)))
    for path in (PATH, "layers.0.attn.q"):
        matrix = expected(path, adapter, lora)
        x = np.random.default_rng(0).normal(size=(2, 3, matrix.shape[1]))
        assert_close(merged(leaves[path]), matrix, 1e-6)
        assert_close(linear(jnp.asarray(x, jnp.float32), leaves[path]), x @ matrix.T, 1e-5)


@every_config
@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_attached(name: str, kind: str) -> None:
    config, lora = CONFIGS[name], KINDS[kind]
    params, batch = weights(config), rows([ids(21), ids(8, 1)], 21)
    adapted = attach(params, random_adapter(config, lora), lora)
    attached, folded = hidden(adapted, config, **batch), merge(adapted)
    assert jax.tree.structure(folded) == jax.tree.structure(params)
    assert_close(hidden(folded, config, **batch), attached, 1e-4)
    assert np.abs(attached - hidden(params, config, **batch)).max() > 0.1


@every_config
def test_a_fresh_dora_adapter_changes_nothing(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    batch = rows([ids(21)], 21)
    adapter = init_adapter(config, DORA, 0, params)
    for path, leaf in flatten(params):
        if path in adapter:
            assert_close(adapter[path]["m"], np.linalg.norm(np.asarray(leaf), axis=1), 1e-6)
    fresh = hidden(attach(params, adapter, DORA), config, **batch)
    assert_close(fresh, hidden(params, config, **batch), 1e-5)


def test_norms_are_constants_to_the_gradient() -> None:
    """Section 4.3 of the paper; the reference forms the matrix."""
    adapter = random_adapter(GEMMA1, DORA)[PATH]
    base = dict(flatten(weights(GEMMA1)))[PATH]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, base.shape[1])), jnp.float32)

    def ours(pair: dict[str, jax.Array]) -> jax.Array:
        tree = attach({"w": base}, {"w": pair}, DORA)
        return jnp.sin(linear(x, tree["w"])).sum()

    def plainly(pair: dict[str, jax.Array]) -> jax.Array:
        total = base + DORA.scale * pair["b"].T @ pair["a"]
        norms = jax.lax.stop_gradient(jnp.linalg.norm(total, axis=1))
        return jnp.sin(x @ (total * (pair["m"] / norms)[:, None]).T).sum()

    found, wanted = jax.jit(jax.grad(ours))(adapter), jax.grad(plainly)(adapter)
    for part in ("a", "b", "m"):
        assert_close(found[part], wanted[part], 1e-4)


def test_norms_of_every_kind_of_leaf() -> None:
    lora, first = Lora(2, alpha=1.5), random_adapter(GEMMA1, DORA)
    second = random_adapter(GEMMA1, lora)
    for tree in (
        weights(GEMMA1), attach(weights(GEMMA1), second, lora),
        attach(attach(weights(GEMMA1), first, DORA), second, lora),
    ):  # fmt: skip
        leaf = dict(flatten(tree))[PATH]
        assert_close(row_norms(leaf), np.linalg.norm(np.asarray(merged(leaf)), axis=1), 1e-5)


def test_dora_over_an_adapted_model() -> None:
    once = attach(weights(GEMMA1), random_adapter(GEMMA1, Lora(2)), Lora(2))
    both = attach(once, random_adapter(GEMMA1, DORA), DORA)
    batch = rows([ids(9)], 9)
    assert_close(hidden(merge(both), GEMMA1, **batch), hidden(both, GEMMA1, **batch), 1e-4)


def test_a_row_of_zeros_stays_finite() -> None:
    pair = {"a": jnp.ones((2, 4)), "b": jnp.zeros((2, 3)), "m": jnp.ones(3)}
    leaf = attach({"w": jnp.zeros((3, 4))}, {"w": pair}, DORA)["w"]
    assert not np.asarray(linear(jnp.ones((1, 4)), leaf)).any()


def test_dora_in_bfloat16() -> None:
    params = weights(GEMMA3, "bfloat16")
    adapter = random_adapter(GEMMA3, DORA)
    adapted = attach(params, adapter, DORA)
    states = hidden(adapted, GEMMA3, **rows([ids(9)], 9))
    assert states.dtype == jnp.bfloat16
    leaf = dict(flatten(adapted))[PATH]
    assert leaf.row_scale.dtype == jnp.float32
    exact = attach(jax.tree.map(lambda w: w.astype(jnp.float32), params), adapter, DORA)
    assert_close(leaf.row_scale, dict(flatten(exact))[PATH].row_scale, 2**-7)
    assert merged(leaf).dtype == jnp.bfloat16


def test_plain_lora_has_no_factor() -> None:
    adapted = attach(weights(GEMMA1), random_adapter(GEMMA1, Lora(3)), Lora(3))
    leaves = [leaf for _, leaf in flatten(adapted) if isinstance(leaf, LoraWeight)]
    assert leaves and all(leaf.row_scale is None for leaf in leaves)


def test_ranks_and_scales_by_path() -> None:
    found = {path: (MIXED.rank_of(path), MIXED.alpha_of(path)) for path in (
        "layers.0.attn.q", "layers.0.mlp.up", "layers.0.mlp.down", "layers.1.mlp.down",
        "layers.1.attn.o",
    )}  # fmt: skip
    assert list(found.values()) == [(3, 6.0), (4, 6.0), (2, 6.0), (2, 9.0), (4, 9.0)]
    for path, (rank, alpha) in found.items():
        assert MIXED.scale_of(path) == alpha / math.sqrt(rank)
        assert dataclasses.replace(MIXED, rslora=False).scale_of(path) == alpha / rank
    assert (MIXED.scale, Lora(rank=9, rslora=True).scale) == (3.0, 3.0)
    # Without an alpha it is the rank, each path's own.
    assert Lora(rank=4, rank_pattern={"q": 2}).scale_of("layers.0.attn.q") == 1.0


def test_the_first_pattern_that_fits_counts() -> None:
    lora = Lora(rank_pattern=(("layers.0.*", 2), ("q_proj", 7)))
    assert [lora.rank_of(f"layers.{layer}.attn.q") for layer in (0, 1)] == [2, 7]


def test_mappings_are_frozen() -> None:
    again = Lora(rank_pattern=(("q", 2),), alpha_pattern=(("v", 3.0),))
    lora = Lora(rank_pattern={"q": 2}, alpha_pattern={"v": 3.0})
    assert (lora, hash(lora)) == (again, hash(again))
    assert dataclasses.asdict(lora)["rank_pattern"] == (("q", 2),)


@every_config
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_the_arrays(name: str, kind: str) -> None:
    config, lora = CONFIGS[name], KINDS[kind]
    adapter = init_adapter(config, lora, 0, weights(config))
    sizes = {path: sum(leaf.size for leaf in pair.values()) for path, pair in adapter.items()}
    assert adapter_sizes(config, lora) == sizes
    assert count_adapter(config, lora) == sum(sizes.values())
    assert {pair["a"].shape[0] for pair in adapter.values()} == {
        lora.rank_of(path) for path in adapter
    }


@pytest.mark.parametrize(("settings", "message"), [
    ({"rank_pattern": {"q": 0}}, "LoRA rank is 0"),
    ({"alpha_pattern": {"q": -1.0}}, "LoRA alpha is -1.0"),
    ({"alpha_pattern": {"q": math.inf}}, "LoRA alpha is inf"),
    ({"rank_pattern": {"query": 2}}, "LoRA target 'query' names no matrix"),
    ({"alpha_pattern": {"layers.9.*": 2.0}}, "names no matrix"),
])  # fmt: skip
def test_patterns_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        init_adapter(GEMMA1, Lora(**settings), seed=0)


def test_dora_needs_the_weights() -> None:
    with pytest.raises(UsageError, match="DoRA starts without a base"):
        init_adapter(GEMMA1, DORA, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_settings_say_what_the_arrays_are(kind: str) -> None:
    lora, adapter = KINDS[kind], random_adapter(GEMMA1, KINDS[kind])
    again = fitted(lora, adapter)
    assert again.targets == tuple(adapter) and again.dora == lora.dora
    for path, pair in adapter.items():
        assert again.rank_of(path) == pair["a"].shape[0]
        assert again.scale_of(path) == lora.scale_of(path)
    # Arrays of another rank than the settings say keep their scale too.
    cut = {path: {"a": pair["a"][:1], "b": pair["b"][:1]} for path, pair in adapter.items()}
    other = fitted(lora, cut)
    assert {other.rank_of(path) for path in cut} == {1}
    assert not other.dora
    for path in cut:
        assert other.scale_of(path) == pytest.approx(lora.scale_of(path), rel=1e-12)


def test_exceptions_are_said_briefly() -> None:
    values = {f"layers.{i}.attn.{name}": 4 for i in range(2) for name in "qkvo"}
    assert exceptions(values, 4) == {}
    values |= {"layers.0.attn.q": 2, "layers.1.attn.q": 2, "layers.1.attn.v": 8}
    assert exceptions(values, 4) == {"q": 2, "layers.1.attn.v": 8}


def test_training_moves_every_part() -> None:
    config, params = GEMMA3, weights(GEMMA3)
    lora = dataclasses.replace(DORA, dropout=0.1)
    rule = make_optimizer(
        OptimizerSettings(learning_rate=0.01, schedule="constant", warmup=0), 10
    )  # fmt: skip
    fresh = init_adapter(config, lora, 0, params)
    state = init_state(jax.tree.map(jnp.copy, fresh), rule, seed=0)
    step = make_train_step(config, lora, rule)
    example = Example(ids(12), [False] * 4 + [True] * 8)
    batch = epoch_batches([example], row_length=12, rows=1, seed=0, epoch=0)[0]
    losses = []
    for _ in range(4):
        state, result = step(state, params, batch.arrays())
        losses.append(float(result.sums.loss))
    assert losses[-1] < losses[0]
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), fresh, state.trained)
    assert all(distance > 0 for _, distance in flatten(moved))
