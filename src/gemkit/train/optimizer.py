"""Optimizers by name: optax chains, schedules and decay exclusions."""

import dataclasses
import math
import re
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gemkit.errors import UsageError

OptimizerName = Literal["adamw", "keras_adamw", "sgd", "adafactor"]
ScheduleName = Literal["cosine", "linear", "constant"]

OPTIMIZERS = ("adamw", "keras_adamw", "sgd", "adafactor")
SCHEDULES = ("cosine", "linear", "constant")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """How weights are updated.

    Attributes:
      name: adamw, sgd, adafactor, or keras_adamw: Adam with Keras's epsilon, 1e-7 beside the
        root of the uncorrected second moment, which holds small gradients back in early steps.
      learning_rate: peak of the schedule.
      schedule: cosine or linear down to zero, or constant.
      warmup: steps of linear warm-up if at least 1, a share of all steps below 1.
      weight_decay: decoupled (Loshchilov and Hutter 2019), times the learning rate.
      no_decay: regular expressions; a path such as `layers.3.attn.q` that one of them finds is
        not decayed.
      clip_norm: global gradient norm that is not exceeded; None or infinity for no clipping.
    """

    name: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    schedule: ScheduleName = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ("norm", "bias", "scale")
    clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UsageError(f"optimizer {self.name!r}", f"one of {', '.join(OPTIMIZERS)}")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule {self.schedule!r}", f"one of {', '.join(SCHEDULES)}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise UsageError(f"learning rate is {self.learning_rate}", "a positive number")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UsageError(f"clip_norm is {self.clip_norm}", "a positive number")
        if self.clip_norm == math.inf:
            object.__setattr__(self, "clip_norm", None)
        for name in ("warmup", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}", "a number of at least 0")
        for pattern in self.no_decay:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(
                    f"no_decay pattern {pattern!r} is broken ({error})", "a regular expression"
                ) from None


def learning_rates(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """Step → learning rate over a run of `steps` optimizer steps."""
    warmup = settings.warmup if settings.warmup >= 1 else settings.warmup * steps
    warm = min(round(warmup), max(steps - 1, 0))
    peak, rest = settings.learning_rate, max(steps - warm, 1)
    if settings.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest)
    elif settings.schedule == "linear":
        after = optax.linear_schedule(peak, 0.0, rest)
    else:
        after = optax.constant_schedule(peak)
    if warm == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(peak / warm, peak, warm), after], [warm])


class _Moments(NamedTuple):
    steps: jax.Array
    first: Any
    second: Any


def scale_by_keras_adam(
    b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-7
) -> optax.GradientTransformation:
    """Adam's update as keras `optimizers/adam.py` computes it."""

    def init(tree: Any) -> _Moments:
        zeros = jax.tree.map(jnp.zeros_like, tree)
        return _Moments(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, tree))

    def update(gradients: Any, state: _Moments, tree: Any = None) -> tuple[Any, _Moments]:
        steps = state.steps + 1
        first = jax.tree.map(lambda m, g: m + (g - m) * (1 - b1), state.first, gradients)
        second = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - b2), state.second, gradients)
        passed = steps.astype(jnp.float32)
        factor = jnp.sqrt(1 - b2**passed) / (1 - b1**passed)
        scaled = jax.tree.map(
            lambda m, v: m * factor.astype(m.dtype) / (jnp.sqrt(v) + epsilon), first, second
        )
        return scaled, _Moments(steps, first, second)

    return optax.GradientTransformation(init, update)


def make_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """The optax chain: clipping, the named rule, decay where allowed, the schedule."""
    rates = learning_rates(settings, steps)

    def decayed(tree: Any) -> Any:
        def allowed(path: Any, leaf: Any) -> bool:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return not any(re.search(pattern, name) for pattern in settings.no_decay)

        return jax.tree_util.tree_map_with_path(allowed, tree)

    rules = {
        "adamw": lambda: optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        "keras_adamw": scale_by_keras_adam,
        "sgd": optax.identity,
        "adafactor": lambda: optax.chain(
            optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)
        ),
    }
    parts = [] if settings.clip_norm is None else [optax.clip_by_global_norm(settings.clip_norm)]
    parts.append(rules[settings.name]())
    if settings.weight_decay:
        parts.append(optax.add_decayed_weights(settings.weight_decay, mask=decayed))
    parts.append(optax.scale_by_learning_rate(rates))
    return optax.chain(*parts)
