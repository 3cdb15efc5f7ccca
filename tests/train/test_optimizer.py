"""Optimizers: schedules at their ends, what is decayed, and settings that make no sense."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import GEMMA1, GEMMA3, weights

from gemkit.adapt.lora import Lora, init_adapter
from gemkit.errors import UsageError
from gemkit.model.weights import flatten
from gemkit.train.optimizer import (
    OPTIMIZERS,
    SCHEDULES,
    OptimizerSettings,
    learning_rates,
    make_optimizer,
)


def rates(steps: int = 100, **settings: Any) -> list[float]:
    schedule = learning_rates(OptimizerSettings(learning_rate=0.5, **settings), steps)
    with jax.numpy_dtype_promotion("standard"):
        return [float(schedule(step)) for step in range(steps + 1)]


@pytest.mark.parametrize("name, middle, end", [
    ("cosine", 0.25, 0.0), ("linear", 0.25, 0.0), ("constant", 0.5, 0.5),
])  # fmt: skip
def test_schedules_at_their_ends(name: Any, middle: float, end: float) -> None:
    found = rates(schedule=name, warmup=0)
    assert found[0] == pytest.approx(0.5)
    assert found[50] == pytest.approx(middle)
    assert found[100] == pytest.approx(end, abs=1e-7)
    assert found == sorted(found, reverse=True)
    assert 0 < found[99] <= 0.5


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [20, 0.2])
def test_warm_up_is_a_line_to_the_peak(name: Any, warmup: float) -> None:
    found = rates(schedule=name, warmup=warmup)
    assert found[0] == pytest.approx(0.5 / 20)
    assert found[10] == pytest.approx(0.5 / 20 + 0.475 / 2)
    assert found[20] == pytest.approx(0.5) == max(found)
    assert found[100] == pytest.approx(0.5 if name == "constant" else 0.0, abs=1e-7)


def test_cosine_is_a_cosine() -> None:
    found = rates(schedule="cosine", warmup=0)
    assert found[25] == pytest.approx(0.25 * (1 + math.cos(math.pi / 4)))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 0.05, 0.9, 1, 500])
@pytest.mark.parametrize("name", SCHEDULES)
def test_short_runs_reach_the_peak(name: Any, warmup: float, steps: int) -> None:
    found = rates(steps, schedule=name, warmup=warmup)[:steps]
    assert max(found) == pytest.approx(0.5)
    assert min(found) > 0


def shrunk(tree: Any, **settings: Any) -> dict[str, bool]:
    """Path → whether a step with gradients of 0 shrinks the leaf, which it does by lr * decay."""
    settings = {"weight_decay": 0.1, "schedule": "constant", "warmup": 0} | settings
    optimizer = make_optimizer(OptimizerSettings(learning_rate=0.5, **settings), 10)
    ones = jax.tree.map(lambda _: jnp.ones(3), tree)
    zeros = jax.tree.map(lambda _: jnp.zeros(3), tree)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(zeros, optimizer.init(ones), ones)
    found = {}
    for path, update in flatten(updates):
        values = np.asarray(update)
        assert values == pytest.approx(-0.05) or not values.any()
        found[path] = bool(values.any())
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norm_scales_are_not_decayed(name: str) -> None:
    found = shrunk(weights(GEMMA3), name=name)
    assert found == {path: "norm" not in path for path in found}
    assert sum(found.values()) == 1 + 7 * GEMMA3.num_layers


def test_decay_of_an_adapter() -> None:
    adapter = init_adapter(GEMMA1, Lora(), seed=0)
    assert all(shrunk(adapter).values())
    assert not any(shrunk(adapter, weight_decay=0.0).values())


@pytest.mark.parametrize("pattern, spared", [
    ("embed", ["embed"]),
    (r"layers\.1\.attn\.[qk]$", ["layers.1.attn.k", "layers.1.attn.q"]),
    (r"^layers\.0\.mlp", ["layers.0.mlp.down", "layers.0.mlp.gate", "layers.0.mlp.up"]),
])  # fmt: skip
def test_decay_exclusions_are_patterns_of_dotted_paths(pattern: str, spared: list[str]) -> None:
    found = shrunk(weights(GEMMA1), no_decay=(pattern,))
    assert sorted(path for path, decayed in found.items() if not decayed) == spared
    adapter = init_adapter(GEMMA1, Lora(targets=("q",)), seed=0)
    found = shrunk(adapter, no_decay=(r"layers\.0\.attn\.q\.b",))
    assert [path for path, decayed in found.items() if not decayed] == ["layers.0.attn.q.b"]


def minimised(name: str, **settings: Any) -> tuple[float, float]:
    """A quadratic's value before and after 60 steps."""
    goal = {"a": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": jnp.ones(5)}
    at = jax.tree.map(jnp.zeros_like, goal)
    chosen = OptimizerSettings(name=name, learning_rate=0.05, **settings)  # type: ignore[arg-type]
    optimizer = make_optimizer(chosen, 60)
    memory = optimizer.init(at)

    @jax.jit
    def step(at: Any, memory: Any) -> tuple[Any, Any, jax.Array]:
        def value(at: Any) -> jax.Array:
            return sum(((at[key] - goal[key]) ** 2).sum() for key in goal)

        height, slope = jax.value_and_grad(value)(at)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optimizer.update(slope, memory, at)
            return optax.apply_updates(at, updates), memory, height

    heights = []
    for _ in range(60):
        at, memory, height = step(at, memory)
        heights.append(float(height))
    return heights[0], heights[-1]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name: str, schedule: str) -> None:
    before, after = minimised(name, schedule=schedule, weight_decay=0.01)
    assert after < 0.5 * before


def test_gradients_are_clipped_to_the_norm() -> None:
    slope = {"a": jnp.asarray([30.0, 40.0])}
    for clip, expected in ((1.0, [-0.6, -0.8]), (None, [-30.0, -40.0]), (100.0, [-30.0, -40.0])):
        settings = OptimizerSettings(
            name="sgd", learning_rate=1.0, schedule="constant", warmup=0, clip_norm=clip
        )
        optimizer = make_optimizer(settings, 10)
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = optimizer.update(slope, optimizer.init(slope), slope)
        assert updates["a"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("settings, message", [
    ({"name": "adam"}, "optimizer 'adam'; expected one of adamw, keras_adamw, sgd, adafactor"),
    ({"schedule": "step"}, "schedule 'step'; expected one of cosine, linear, constant"),
    ({"learning_rate": 0.0}, "learning rate is 0.0; expected a positive number"),
    ({"learning_rate": -1e-3}, "learning rate is -0.001; expected a positive number"),
    ({"learning_rate": math.inf}, "learning rate is inf"),
    ({"learning_rate": math.nan}, "learning rate is nan"),
    ({"warmup": -1}, "warmup is -1; expected a number of at least 0"),
    ({"warmup": math.inf}, "warmup is inf"),
    ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ({"weight_decay": math.nan}, "weight_decay is nan"),
    ({"clip_norm": 0.0}, "clip_norm is 0.0; expected a positive number"),
    ({"clip_norm": -1.0}, "clip_norm is -1.0"),
    ({"no_decay": ("norm", "(")}, "no_decay pattern '\\('"),
])  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        OptimizerSettings(**settings)
