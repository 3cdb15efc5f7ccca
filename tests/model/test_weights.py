"""The weights table: shapes, counts, paths and random weights agree with each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIGS, GEMMA1, GEMMA3, weights

from gemkit.model.weights import (
    WEIGHTS,
    abstract_params,
    axis_sizes,
    count_parameters,
    flatten,
    init_params,
    specs,
    unflatten,
)

every_config = pytest.mark.parametrize("name", CONFIGS)


@every_config
def test_specs_walk_the_forward_pass(name: str) -> None:
    config = CONFIGS[name]
    paths = list(specs(config))
    assert (paths[0], paths[-1]) == ("embed", "final_norm")
    per_layer = [path for path in paths if path.startswith("layers.0.")]
    expected = [
        path.replace(".0.", f".{layer}.", 1)
        for layer in range(config.num_layers) for path in per_layer
    ]  # fmt: skip
    assert paths[1:-1] == expected
    assert ("layers.0.attn.q_norm" in paths) == config.qk_norm
    assert ("layers.0.post_ffw_norm" in paths) == config.post_norms


@every_config
def test_shapes_follow_the_axes(name: str) -> None:
    config = CONFIGS[name]
    sizes = axis_sizes(config)
    for path, spec in specs(config).items():
        assert (spec.path, spec.shape) == (path, tuple(sizes[axis] for axis in spec.axes))
        assert spec.size == math.prod(spec.shape)
    assert specs(config)["layers.1.attn.q"].shape == (32, 24)
    assert specs(config)["layers.1.attn.k"].shape == (16, 24)
    assert specs(config)["layers.1.attn.o"].shape == (24, 32)
    assert specs(config)["layers.1.mlp.down"].shape == (24, 20)
    assert count_parameters(config) == sum(leaf.size for _, leaf in flatten(weights(config)))


def test_linear_rows_are_the_matrices_of_the_layers() -> None:
    assert {row.path.rsplit(".")[-1] for row in WEIGHTS if row.linear} == {
        "q", "k", "v", "o", "gate", "up", "down",
    }  # fmt: skip
    assert all((row.init == "fan_in") == row.linear for row in WEIGHTS)


@every_config
def test_flatten_and_unflatten_are_inverse(name: str) -> None:
    config = CONFIGS[name]
    params = weights(config)
    leaves = dict(flatten(params))
    assert leaves.keys() == specs(config).keys()
    again = unflatten(leaves)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert all(again_leaf is leaves[path] for path, again_leaf in flatten(again))


def test_layers_are_ordered_by_number_whatever_their_order_of_arrival() -> None:
    paths = [f"layers.{layer}.pre_attn_norm" for layer in (10, 2, 0, 1, *range(3, 10))]
    tree = unflatten({path: path for path in paths})
    assert [layer["pre_attn_norm"] for layer in tree["layers"]] == [
        f"layers.{layer}.pre_attn_norm" for layer in range(11)
    ]


@every_config
def test_abstract_shapes_are_those_of_init(name: str) -> None:
    config = CONFIGS[name]
    made = init_params(config, seed=0, dtype=jnp.bfloat16)
    abstract = abstract_params(config, jnp.bfloat16)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), made)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract)


def test_init_is_a_function_of_the_seed() -> None:
    first, again, other = (dict(flatten(init_params(GEMMA3, seed))) for seed in (1, 1, 2))
    assert all(np.array_equal(first[path], again[path]) for path in first)
    drawn = [path for path, spec in specs(GEMMA3).items() if spec.init != "zeros"]
    assert not any(np.array_equal(first[path], other[path]) for path in drawn)
    values = {first[path].ravel()[:4].tobytes() for path in drawn}
    assert len(values) == len(drawn)


def test_init_has_the_deviation_it_promises() -> None:
    for path, leaf in flatten(init_params(GEMMA1, seed=3)):
        if "norm" in path:
            assert not leaf.any()
        else:
            assert float(leaf.std()) * math.sqrt(leaf.shape[1]) == pytest.approx(1, abs=0.12)
            assert abs(float(leaf.mean())) * math.sqrt(leaf.shape[1]) < 0.1
