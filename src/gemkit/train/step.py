"""Pure training and validation steps.

What is trained is a tree of its own: an adapter, or all weights. The frozen rest is an argument,
so XLA never computes a gradient for it and the backward pass ends at the lowest adapted layer.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gemkit.adapt.lora import Lora, attach
from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.model.transformer import Remat
from gemkit.model.weights import Params
from gemkit.train.loss import Sums, cross_entropy

BatchArrays = Mapping[str, Any]
"""tokens, positions, segments [B, T]; target_index, target_ids, target_weights [M]; and where
the sum of losses is not divided by the sum of the weights, divisor []."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What a step changes: the trained tree, the optimizer's memory, the step, the dropout key.

    `average` is the moving average of the trained tree, None if none is kept.
    """

    trained: Any
    optimizer: Any
    step: jax.Array
    key: jax.Array
    average: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a step reports, float32 scalars: sums over target tokens, what the sum of losses was
    divided by, and the gradient's norm."""

    sums: Sums
    gradient_norm: jax.Array
    divisor: jax.Array


def init_state(
    trained: Any, optimizer: optax.GradientTransformation, seed: int, average: bool = False
) -> TrainState:
    """The state before the first step; `average` keeps a moving average beside the tree."""
    # A buffer of its own: the step consumes both.
    copy = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), trained) if average else None
    step = jnp.zeros((), jnp.int32)
    return TrainState(trained, optimizer.init(trained), step, jax.random.key(seed), copy)


def result_tree(state: TrainState) -> Any:
    """What is validated and kept: the average where there is one, else the trained tree."""
    if state.average is None:
        return state.trained
    return jax.tree.map(lambda a, leaf: a.astype(leaf.dtype), state.average, state.trained)


def assemble(
    frozen: Params, trained: Any, lora: Lora | None, key: jax.Array | None = None
) -> Params:
    """The model's weights: adapter over the frozen base, or the trained weights themselves."""
    return trained if lora is None else attach(frozen, trained, lora, key)


def loss_sums(
    params: Params, config: GemmaConfig, batch: BatchArrays, *, frozen_head: bool,
    remat: Remat = "off",
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
    remat: Remat = "off", accumulate: int = 1, ema: float | None = None,
) -> Callable[[TrainState, Params, BatchArrays], tuple[TrainState, StepResult]]:  # fmt: skip
    """A jitted (state, frozen weights, batch) → (state, result); the old state is consumed.

    The same arguments give the same function, so that a second run need not compile it again.

    Args:
      remat: which activations the backward pass computes again, see `transformer.hidden`.
      accumulate: batches a step; with more than one, the batch's arrays have them as a leading
        axis. Their losses are summed and divided once, so every target token counts the same.
      ema: decay of the moving average of the trained tree (Polyak and Juditsky 1992), at step t
        at most (1 + t) / (10 + t), so that it forgets the start.
    """
    return _train_step(config, _hashable(lora), optimizer, remat, accumulate, ema)


@functools.lru_cache(maxsize=4)
def _train_step(
    config: GemmaConfig, lora: Lora | None, optimizer: optax.GradientTransformation,
    remat: Remat, accumulate: int, ema: float | None,
) -> Any:  # fmt: skip
    def sum_gradients(
        trained: Any, frozen: Params, batch: BatchArrays, key: jax.Array
    ) -> tuple[Any, Sums]:
        def total(trained: Any) -> tuple[jax.Array, Sums]:
            params = assemble(frozen, trained, lora, key)
            sums = loss_sums(params, config, batch, frozen_head=lora is not None, remat=remat)
            return sums.loss, sums

        return jax.grad(total, has_aux=True)(trained)

    def accumulated(
        trained: Any, frozen: Params, batches: BatchArrays, key: jax.Array
    ) -> tuple[Any, Sums]:
        def add(totals: Any, item: tuple[jax.Array, BatchArrays]) -> tuple[Any, None]:
            index, batch = item
            found = sum_gradients(trained, frozen, batch, jax.random.fold_in(key, index))
            return jax.tree.map(lambda t, new: t + new.astype(t.dtype), totals, found), None

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), trained)
        nothing = Sums(*(jnp.zeros((), jnp.float32) for _ in Sums._fields))
        items = (jnp.arange(accumulate), dict(batches))
        return jax.lax.scan(add, (zeros, nothing), items)[0]

    def step(
        state: TrainState, frozen: Params, batch: BatchArrays
    ) -> tuple[TrainState, StepResult]:
        key = jax.random.fold_in(state.key, state.step)
        find = sum_gradients if accumulate == 1 else accumulated
        slopes, sums = find(state.trained, frozen, batch, key)
        divisor = jnp.sum(batch["divisor"]) if "divisor" in batch else sums.weight
        divisor = jnp.maximum(divisor, 1.0)
        gradients = jax.tree.map(
            lambda slope, leaf: (slope / divisor.astype(slope.dtype)).astype(leaf.dtype),
            slopes, state.trained,
        )  # fmt: skip
        # optax raises floats to integer counts, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optimizer.update(gradients, state.optimizer, state.trained)
            trained = optax.apply_updates(state.trained, updates)
        average = _averaged(state.average, trained, state.step, ema)
        norm = optax.tree.norm(gradients)
        after = TrainState(trained, memory, state.step + 1, state.key, average)
        return after, StepResult(sums, norm, divisor)

    return jax.jit(step, donate_argnums=0, compiler_options=_compiler_options())


def _compiler_options() -> dict[str, str]:
    """What keeps XLA:CPU from trading memory for time behind our back.

    It drops the barriers of `jax.checkpoint` before it merges equal computations, so nothing was
    computed again; and it takes conversions out of loops, so a whole table was kept in float32.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_disable_hlo_passes": "cse_barrier_expander,while-loop-invariant-code-motion"}


def _averaged(average: Any, trained: Any, step: jax.Array, ema: float | None) -> Any:
    if ema is None:
        return average
    passed = step.astype(jnp.float32) + 1
    decay = jnp.minimum(ema, (1 + passed) / (10 + passed))
    return jax.tree.map(
        lambda old, new: old * decay + new.astype(jnp.float32) * (1 - decay), average, trained
    )


def make_valid_step(
    config: GemmaConfig, lora: Lora | None
) -> Callable[[Any, Params, BatchArrays], Sums]:
    """A jitted (trained tree, frozen weights, batch) → sums, without dropout.

    The same arguments give the same function.
    """
    return _valid_step(config, _hashable(lora))


@functools.lru_cache(maxsize=4)
def _valid_step(config: GemmaConfig, lora: Lora | None) -> Any:
    def step(trained: Any, frozen: Params, batch: BatchArrays) -> Sums:
        return loss_sums(assemble(frozen, trained, lora), config, batch, frozen_head=True)

    return jax.jit(step)


def _hashable(lora: Lora | None) -> Lora | None:
    return lora and dataclasses.replace(lora, targets=tuple(lora.targets))
