"""Pure training and validation steps.

What is trained is a tree of its own: an adapter, or all weights. The frozen rest is an argument,
so XLA never computes a gradient for it and the backward pass ends at the lowest adapted layer.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gemkit.adapt.lora import Lora, attach
from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.train.loss import Sums, cross_entropy

BatchArrays = Mapping[str, Any]
"""tokens, positions, segments [B, T]; target_index, target_ids, target_weights [M]."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What a step changes: the trained tree, the optimizer's memory, the step, the dropout key."""

    trained: Any
    optimizer: Any
    step: jax.Array
    key: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a step reports, float32 scalars: sums over target tokens and the gradient's norm."""

    sums: Sums
    gradient_norm: jax.Array


def init_state(trained: Any, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step."""
    step = jnp.zeros((), jnp.int32)
    return TrainState(trained, optimizer.init(trained), step, jax.random.key(seed))


def assemble(
    frozen: Params, trained: Any, lora: Lora | None, key: jax.Array | None = None
) -> Params:
    """The model's weights: adapter over the frozen base, or the trained weights themselves."""
    return trained if lora is None else attach(frozen, trained, lora, key)


def loss_sums(
    params: Params, config: GemmaConfig, batch: BatchArrays, *, frozen_head: bool,
    remat: bool = False,
) -> Sums:  # fmt: skip
    """Loss over the targets of a batch; logits exist at target positions only."""
    states = transformer.hidden(
        params, config, batch["tokens"], batch["positions"], batch["segments"],
        at=batch["target_index"], remat=remat,
    )  # fmt: skip
    return cross_entropy(
        params["embed"], config, states, batch["target_ids"], batch["target_weights"],
        frozen_head=frozen_head,
    )  # fmt: skip


def make_train_step(
    config: GemmaConfig, lora: Lora | None, optimizer: optax.GradientTransformation,
    remat: bool = False,
) -> Callable[[TrainState, Params, BatchArrays], tuple[TrainState, StepResult]]:  # fmt: skip
    """A jitted (state, frozen weights, batch) → (state, result); the old state is consumed."""

    def objective(
        trained: Any, frozen: Params, batch: BatchArrays, key: jax.Array
    ) -> tuple[jax.Array, Sums]:
        params = assemble(frozen, trained, lora, key)
        sums = loss_sums(params, config, batch, frozen_head=lora is not None, remat=remat)
        return sums.loss / jnp.maximum(sums.weight, 1.0), sums

    def step(
        state: TrainState, frozen: Params, batch: BatchArrays
    ) -> tuple[TrainState, StepResult]:
        key = jax.random.fold_in(state.key, state.step)
        gradients, sums = jax.grad(objective, has_aux=True)(state.trained, frozen, batch, key)
        # optax raises floats to integer counts, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optimizer.update(gradients, state.optimizer, state.trained)
            trained = optax.apply_updates(state.trained, updates)
        norm = optax.tree.norm(gradients)
        return TrainState(trained, memory, state.step + 1, state.key), StepResult(sums, norm)

    return jax.jit(step, donate_argnums=0)


def make_valid_step(
    config: GemmaConfig, lora: Lora | None
) -> Callable[[Any, Params, BatchArrays], Sums]:
    """A jitted (trained tree, frozen weights, batch) → sums, without dropout."""

    def step(trained: Any, frozen: Params, batch: BatchArrays) -> Sums:
        return loss_sums(assemble(frozen, trained, lora), config, batch, frozen_head=True)

    return jax.jit(step)
