"""LoRA: what is adapted, how much of it there is, and that attaching and merging agree."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIGS, GEMMA1, GEMMA2, GEMMA3, assert_close, hidden, ids, rows, weights

from gemkit.adapt.lora import (
    ALL_LINEAR,
    Adapter,
    Lora,
    attach,
    count_adapter,
    init_adapter,
    merge,
    target_paths,
)
from gemkit.errors import UsageError
from gemkit.model import transformer
from gemkit.model.linear import LoraWeight, linear, merged
from gemkit.model.variants import VARIANTS
from gemkit.model.weights import flatten, specs

every_config = pytest.mark.parametrize("name", CONFIGS)
LORA = Lora(rank=3, alpha=5.0)


def random_adapter(config: Any, lora: Lora = LORA) -> Adapter:
    """An adapter whose b is not zero, as after training."""
    draw = np.random.default_rng(4)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) * 0.2, jnp.float32),
        init_adapter(config, lora, seed=0),
    )


@every_config
def test_a_fresh_adapter_changes_nothing_at_all(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    batch = rows([ids(21), ids(8, 1)], 21)
    adapted = attach(params, init_adapter(config, LORA, seed=0), LORA)
    kinds = {path: type(leaf) is LoraWeight for path, leaf in flatten(adapted)}
    assert kinds == {path: spec.linear for path, spec in specs(config).items()}
    # Op by op: compiled programs may round in another order.
    fresh, plain = (transformer.hidden(tree, config, **batch) for tree in (adapted, params))
    assert np.array_equal(fresh, plain)


@every_config
def test_merged_is_attached(name: str) -> None:
    config, params = CONFIGS[name], weights(CONFIGS[name])
    batch = rows([ids(21), ids(8, 1)], 21)
    adapted = attach(params, random_adapter(config), LORA)
    attached = hidden(adapted, config, **batch)
    folded = merge(adapted)
    assert jax.tree.structure(folded) == jax.tree.structure(params)
    assert_close(hidden(folded, config, **batch), attached)
    assert np.abs(attached - hidden(params, config, **batch)).max() > 0.1


def test_the_update_is_scaled_b_times_a() -> None:
    params, adapter = weights(GEMMA1), random_adapter(GEMMA1)
    path = "layers.1.mlp.down"
    pair = {key: np.asarray(leaf, np.float64) for key, leaf in adapter[path].items()}
    base = np.asarray(dict(flatten(params))[path], np.float64)
    expected = base + 5 / 3 * pair["b"].T @ pair["a"]
    leaf = dict(flatten(attach(params, adapter, LORA)))[path]
    assert_close(merged(leaf), expected, 1e-6)
    x = np.random.default_rng(0).normal(size=(4, 20))
    assert_close(linear(jnp.asarray(x, jnp.float32), leaf), x @ expected.T, 1e-5)


def test_adapters_of_two_tunings_stack() -> None:
    first, second = random_adapter(GEMMA1), random_adapter(GEMMA1, Lora(2, targets=("q",)))
    once = attach(weights(GEMMA1), first, LORA)
    both = attach(once, second, Lora(2, targets=("q",)))
    batch = rows([ids(9)], 9)
    assert_close(hidden(merge(both), GEMMA1, **batch), hidden(both, GEMMA1, **batch))


@pytest.mark.parametrize("lora, scale", [
    (Lora(rank=8), 1.0), (Lora(rank=8, alpha=16), 2.0), (Lora(rank=8, alpha=4.0), 0.5),
])  # fmt: skip
def test_scale(lora: Lora, scale: float) -> None:
    assert lora.scale == scale


def test_merging_keeps_the_dtype_and_rounds_once() -> None:
    params = weights(GEMMA1, "bfloat16")
    adapter = random_adapter(GEMMA1)
    folded = dict(flatten(merge(attach(params, adapter, LORA))))
    assert {leaf.dtype.name for leaf in folded.values()} == {"bfloat16"}
    path = "layers.0.attn.q"
    base = dict(flatten(params))[path].astype(jnp.float32)
    exact = base + LORA.scale * adapter[path]["b"].T @ adapter[path]["a"]
    assert_close(folded[path], exact, 2**-8)


def test_an_adapter_in_float32_leaves_bfloat16_activations_alone() -> None:
    config, params = GEMMA2, weights(GEMMA2, "bfloat16")
    states = hidden(attach(params, random_adapter(config), LORA), config, **rows([ids(9)], 9))
    assert states.dtype == jnp.bfloat16


TARGETS: dict[tuple[str, ...], list[str]] = {
    ("q", "v"): ["layers.0.attn.q", "layers.0.attn.v", "layers.1.attn.q", "layers.1.attn.v"],
    ("v_proj", "q_proj", "q"): [
        "layers.0.attn.q", "layers.0.attn.v", "layers.1.attn.q", "layers.1.attn.v",
    ],
    ("layers.1.attn.*",): [f"layers.1.attn.{name}" for name in "qkvo"],
    ("layers.?.mlp.down", " o "): [
        "layers.0.attn.o", "layers.0.mlp.down", "layers.1.attn.o", "layers.1.mlp.down",
    ],
    ("layers.0.*",): [
        *(f"layers.0.attn.{name}" for name in "qkvo"),
        *(f"layers.0.mlp.{name}" for name in ("gate", "up", "down")),
    ],
}  # fmt: skip


@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_targets_by_name_and_pattern(targets: tuple[str, ...]) -> None:
    assert list(target_paths(GEMMA1, targets)) == TARGETS[targets]
    assert list(init_adapter(GEMMA1, Lora(targets=targets), 0)) == TARGETS[targets]


@every_config
def test_all_linear_layers_by_default(name: str) -> None:
    config = CONFIGS[name]
    linears = [path for path, spec in specs(config).items() if spec.linear]
    assert len(linears) == 7 * config.num_layers
    assert list(target_paths(config, Lora().targets)) == linears
    assert {path.rsplit(".")[-1] for path in linears} == set(ALL_LINEAR)


@pytest.mark.parametrize(
    "target", ["query", "embed", "final_norm", "layers.7.attn.q", "mlp.up", "", "q_norm"]
)
def test_a_target_that_names_nothing(target: str) -> None:
    with pytest.raises(UsageError, match="names no matrix of the model") as caught:
        target_paths(GEMMA3, ("q", target))
    assert repr(target) in str(caught.value)


@pytest.mark.parametrize("settings, message", [
    ({"rank": 0}, "LoRA rank is 0"),
    ({"rank": -4}, "LoRA rank is -4"),
    ({"alpha": 0.0}, "LoRA alpha is 0.0"),
    ({"alpha": math.nan}, "LoRA alpha is nan"),
    ({"dropout": 1.0}, "LoRA dropout is 1.0"),
    ({"dropout": -0.1}, "LoRA dropout is -0.1"),
    ({"targets": ()}, "no LoRA targets"),
])  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Lora(**settings)


def test_a_fresh_adapter_is_drawn_as_promised() -> None:
    adapter = init_adapter(GEMMA3, LORA, seed=1)
    table = specs(GEMMA3)
    for path, pair in adapter.items():
        rows_, columns = table[path].shape
        assert (pair["a"].shape, pair["b"].shape) == ((3, columns), (3, rows_))
        assert pair["a"].dtype == pair["b"].dtype == jnp.float32
        assert not pair["b"].any()
        assert 0.8 < float(np.abs(pair["a"]).max()) * math.sqrt(columns) <= 1
    again, other = init_adapter(GEMMA3, LORA, seed=1), init_adapter(GEMMA3, LORA, seed=2)
    assert all(np.array_equal(adapter[path]["a"], again[path]["a"]) for path in adapter)
    drawn = {pair["a"].ravel()[:3].tobytes() for pair in [*adapter.values(), *other.values()]}
    assert len(drawn) == 2 * len(adapter)


def test_dropout_needs_a_key() -> None:
    lora = Lora(rank=3, dropout=0.5)
    params, adapter = weights(GEMMA1), random_adapter(GEMMA1, lora)
    batch = rows([ids(9)], 9)

    def states(key: jax.Array | None, lora: Lora = lora) -> np.ndarray:
        return np.asarray(hidden(attach(params, adapter, lora, key), GEMMA1, **batch))

    plain, key = states(None, Lora(rank=3)), jax.random.key(0)
    assert np.array_equal(states(None), plain)
    assert np.array_equal(states(key, Lora(rank=3)), plain)
    assert np.abs(states(key) - plain).max() > 0.1
    assert np.array_equal(states(key), states(key))
    assert not np.array_equal(states(key), states(jax.random.key(1)))


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    ones = jnp.ones((4000, 8), jnp.float32)
    leaf = LoraWeight(
        jnp.zeros((8, 8)), jnp.eye(8), jnp.eye(8), 1.0, dropout=0.25, dropout_key=jax.random.key(3)
    )
    kept = np.asarray(linear(ones, leaf))
    assert np.isclose(kept, 0).mean() == pytest.approx(0.25, abs=0.01)
    assert kept.mean() == pytest.approx(1, abs=0.01)
    assert set(np.unique(kept.round(5))) == {0.0, np.float32(1 / 0.75).round(5)}


def test_every_matrix_drops_differently() -> None:
    adapter = random_adapter(GEMMA1)
    lora = Lora(rank=3, dropout=0.5)
    leaves = dict(flatten(attach(weights(GEMMA1), adapter, lora, jax.random.key(0))))
    keys = {
        jax.random.key_data(leaf.dropout_key).tobytes()
        for leaf in leaves.values() if isinstance(leaf, LoraWeight)
    }  # fmt: skip
    assert len(keys) == len(adapter)


@every_config
@pytest.mark.parametrize("targets", [ALL_LINEAR, ("q", "v"), ("layers.*.mlp.*", "layers.0.attn.o")])
def test_counts_are_those_of_the_arrays(name: str, targets: tuple[str, ...]) -> None:
    config, lora = CONFIGS[name], Lora(rank=3, targets=targets)
    adapter = init_adapter(config, lora, seed=0)
    assert count_adapter(config, lora) == sum(leaf.size for leaf in jax.tree.leaves(adapter))


def test_counts_for_gemma_2b_in_our_form_and_in_that_of_keras() -> None:
    config, rank = VARIANTS["gemma_2b_en"].config, 4
    assert count_adapter(config, Lora(rank=rank, targets=("q", "v"))) == 460_800
    # Keras: a of [heads, D, R] and b of [R, H], which the heads of a layer share.
    per_layer = sum(
        rank * (heads * config.hidden_size + config.head_dim)
        for heads in (config.num_heads, config.num_kv_heads)
    )
    assert config.num_layers * per_layer == 1_363_968
    assert "460,800" in (count_adapter.__doc__ or "")
    assert "1,363,968" in (count_adapter.__doc__ or "")
