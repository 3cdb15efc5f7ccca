"""What is read of Keras' objects; that the steps are Keras' own is proved in tests/interop."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.compat.keras import losses, metrics, optimizers
from gemkit.compat.keras_nlp.optimizer import (
    check_loss,
    keras_name,
    make_rule,
    metric_names,
    optimizer_named,
)
from gemkit.errors import UsageError

TREE = {
    "layers.0.attn.q": {"a": jnp.full((2,), 2.0), "b": jnp.full((2,), 2.0)},
    "final_norm": jnp.full((2,), 2.0),
}


def first_step(optimizer: Any, gradient: float = 1.0) -> dict[str, float]:
    """Name of a leaf → what the first step adds to it."""
    rule = make_rule(optimizer, 3)
    slopes = {
        "layers.0.attn.q": {"a": jnp.full((2,), gradient), "b": jnp.full((2,), gradient)},
        "final_norm": jnp.full((2,), gradient),
    }
    updates, _ = rule.update(slopes, rule.init(TREE), TREE)
    pair = updates["layers.0.attn.q"]
    return {
        "a": float(pair["a"][0]), "b": float(pair["b"][0]),
        "norm": float(updates["final_norm"][0]),
    }  # fmt: skip


def test_adam_with_decay_but_for_excluded_names() -> None:
    optimizer = optimizers.AdamW(learning_rate=0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["kernel_b", "scale"])
    # The first step of Adam is the rate; epsilon stands beside sqrt(0.001).
    step = -0.1 * math.sqrt(0.001) / (math.sqrt(0.001) + 1e-7)
    found = first_step(optimizer)
    assert found["a"] == pytest.approx(step - 0.1 * 0.5 * 2.0, rel=1e-5)
    assert found["b"] == found["norm"] == pytest.approx(step, rel=1e-5)


def test_schedules_count_steps() -> None:
    rates = optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.3, 0.2, 0.1])
    rule = make_rule(optimizers.SGD(rates), 3)
    state, tree = rule.init({"x": jnp.ones(())}), {"x": jnp.ones(())}
    made = []
    for _ in range(4):
        updates, state = rule.update(tree, state, tree)
        made.append(float(updates["x"]))
    assert np.allclose(made, [-0.3, -0.2, -0.1, -0.1])  # the last rate stays


@pytest.mark.parametrize("setting, wanted", [
    ({"clipvalue": 0.25}, -0.25),
    ({"clipnorm": 1.0}, -1 / math.sqrt(2)),
    ({"global_clipnorm": 1.0}, -1 / math.sqrt(6)),
    ({"clipnorm": 9.0}, -1.0),
])  # fmt: skip
def test_clipping(setting: dict[str, float], wanted: float) -> None:
    assert first_step(optimizers.SGD(1.0, **setting))["a"] == pytest.approx(wanted, rel=1e-5)


def test_names() -> None:
    assert optimizer_named("auto").learning_rate == 2e-5
    assert type(optimizer_named("AdamW")).__name__ == "AdamW"
    assert keras_name("layers.3.mlp.up") == "kernel"
    assert metric_names("auto") == ("sparse_categorical_accuracy",)
    assert metric_names([metrics.SparseCategoricalAccuracy(name="acc"), "accuracy"]) == (
        "acc", "accuracy",
    )  # fmt: skip
    assert metric_names(None) == ()
    check_loss("auto")
    check_loss(losses.SparseCategoricalCrossentropy(from_logits=True))


class RMSprop:
    """Any other optimizer."""


@pytest.mark.parametrize("refused", [
    lambda: optimizer_named("lion"),
    lambda: optimizer_named(RMSprop()),
    lambda: optimizer_named(optimizers.Adam(amsgrad=True)),
    lambda: optimizer_named(optimizers.Adam(gradient_accumulation_steps=4)),
    lambda: check_loss("sparse_categorical_crossentropy"),
    lambda: check_loss(losses.SparseCategoricalCrossentropy()),
    lambda: check_loss(losses.SparseCategoricalCrossentropy(True, reduction="sum")),
    lambda: check_loss(None),
])  # fmt: skip
def test_what_has_no_counterpart_names_gemkits_own_way(refused: Any) -> None:
    with pytest.raises(UsageError, match="gemkit.tune has"):
        refused()


def test_arguments_keras_has_not() -> None:
    with pytest.raises(UsageError, match="Adam has no beta"):
        optimizers.Adam(beta=1.0)
    with pytest.raises(UsageError, match="var_names"):
        optimizers.Adam().exclude_from_weight_decay(var_list=[object()])
    with pytest.raises(UsageError, match="SparseCategoricalAccuracy"):
        metric_names(["perplexity"])
