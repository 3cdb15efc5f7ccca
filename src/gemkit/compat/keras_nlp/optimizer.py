"""What a Keras optimizer, loss or metric asks for, in optax' and gemkit's words.

Settings are read from `get_config`, which Keras' objects and the stand-ins in
`gemkit.compat.keras` both have. Weights are excluded from decay by their names in Keras.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gemkit.compat.keras import losses, metrics, optimizers
from gemkit.errors import UsageError
from gemkit.train.optimizer import scale_by_keras_adam

OWN_WAY = "gemkit.tune has optimizers, schedules and early stopping of its own"
_NAMES: dict[str, Callable[[], Any]] = {
    "adam": optimizers.Adam, "adamw": optimizers.AdamW, "adam_w": optimizers.AdamW,
    "sgd": optimizers.SGD,
}  # fmt: skip
# Settings that have no counterpart → their value when they are off.
_UNKNOWN = {
    "amsgrad": False, "use_ema": False, "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}  # fmt: skip


def optimizer_named(given: Any) -> Any:
    """An optimizer, by its name or as it is; KerasNLP's own choice for "auto".

    Raises:
      UsageError: one that gemkit has no rule for, or with a setting it has none for.
    """
    if isinstance(given, str):
        if given == "auto":
            return optimizers.Adam(2e-5)
        if given.lower() not in _NAMES:
            raise UsageError(f"the optimizer is {given!r}", f"one of {', '.join(_NAMES)}", OWN_WAY)
        return _NAMES[given.lower()]()
    kind = type(given).__name__
    if kind not in ("Adam", "AdamW", "SGD"):
        raise UsageError(f"the optimizer is {kind}", "Adam, AdamW or SGD", OWN_WAY)
    config = given.get_config()
    for name, off in _UNKNOWN.items():
        if config.get(name, off) != off:
            raise UsageError(f"{kind} has {name}={config[name]}", f"{name}={off}", OWN_WAY)
    return given


def check_loss(given: Any) -> None:
    """Accepts cross-entropy of ids under logits, over all tokens of a batch.

    Raises:
      UsageError: another loss.
    """
    if isinstance(given, str) and given == "auto":
        return
    config = given.get_config() if hasattr(given, "get_config") else {}
    wanted = {"from_logits": True, "ignore_class": None, "reduction": "sum_over_batch_size"}
    known = type(given).__name__ == losses.SparseCategoricalCrossentropy.__name__
    for name, value in wanted.items():
        if not known or config.get(name, value) != value:
            what = f"{name}={config.get(name)}" if known else getattr(given, "name", repr(given))
            raise UsageError(
                f"the loss is {what}", "SparseCategoricalCrossentropy(from_logits=True)", OWN_WAY
            )


def metric_names(given: Any) -> tuple[str, ...]:
    """The names under which the accuracy of the weighted tokens is reported.

    Raises:
      UsageError: another metric.
    """
    if isinstance(given, str) and given == "auto":
        given = [metrics.SparseCategoricalAccuracy()]
    names = []
    for metric in given or ():
        by_name = metric in ("accuracy", "acc", "sparse_categorical_accuracy")
        if not by_name and type(metric).__name__ != "SparseCategoricalAccuracy":
            raise UsageError(
                f"a metric is {getattr(metric, 'name', metric)}", "SparseCategoricalAccuracy",
                "gemkit evaluate has others",
            )  # fmt: skip
        names.append(metric if by_name else metric.name)
    return tuple(names)


def rate_of(optimizer: Any) -> Any:
    """Its learning rate: a number, or a schedule to be called with a step."""
    own = getattr(optimizer, "_learning_rate", None)
    return own if callable(own) else optimizer.learning_rate


def make_rule(optimizer: Any, steps: int) -> optax.GradientTransformation:
    """The optax chain of a Keras optimizer.

    Args:
      steps: the schedule is asked for that many; later ones keep the last rate.
    """
    config, rate = optimizer.get_config(), rate_of(optimizer)
    rates = np.asarray([float(rate(n)) if callable(rate) else float(rate) for n in range(steps)])

    def at(count: Any) -> jax.Array:
        return jnp.asarray(rates, jnp.float32)[jnp.minimum(count, steps - 1)]

    if type(optimizer).__name__ == "SGD":
        rule = [optax.scale_by_learning_rate(at)]
        if config["momentum"]:
            # Keras' velocity has the rate of each of its steps in it.
            rule.append(optax.trace(config["momentum"], config["nesterov"]))
    else:
        adam = scale_by_keras_adam(config["beta_1"], config["beta_2"], config["epsilon"])
        rule = [adam, optax.scale_by_learning_rate(at)]
    decay = config.get("weight_decay")
    if decay:
        mask = _decayed(_excluded(optimizer))
        rule.append(optax.add_decayed_weights(lambda count: -decay * at(count), mask))
    return optax.chain(*_clips(config), *rule)


def _clips(config: dict[str, Any]) -> list[optax.GradientTransformation]:
    """The first that is set, as in Keras."""
    if config.get("clipnorm"):
        limit = config["clipnorm"]

        def clipped(gradient: jax.Array) -> jax.Array:
            norm = jnp.sqrt(jnp.sum(jnp.square(gradient)))
            return gradient * (limit / jnp.maximum(norm, limit)).astype(gradient.dtype)

        return [optax.stateless(lambda updates, _: jax.tree.map(clipped, updates))]
    if config.get("global_clipnorm"):
        return [optax.clip_by_global_norm(config["global_clipnorm"])]
    return [optax.clip(config["clipvalue"])] if config.get("clipvalue") else []


def _excluded(optimizer: Any) -> Sequence[str]:
    """Patterns of what `exclude_from_weight_decay` named, in a stand-in and in Keras' own."""
    if hasattr(optimizer, "excluded"):
        return optimizer.excluded
    if getattr(optimizer, "_exclude_from_weight_decay", None):
        raise UsageError(
            "exclude_from_weight_decay got variables", "var_names, parts of their names", OWN_WAY
        )
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    return () if pattern is None else (pattern.pattern,)


def keras_name(path: str) -> str:
    """A weight's name in Keras, by its path in the tree that is trained.

    >>> [keras_name(p) for p in ("layers.0.attn.q.a", "layers.0.pre_attn_norm", "embed")]
    ['lora_kernel_a', 'scale', 'embeddings']
    """
    last = path.rsplit(".", 1)[-1]
    if last in ("a", "b"):
        return f"lora_kernel_{last}"
    return "embeddings" if last == "embed" else "scale" if last.endswith("norm") else "kernel"


def _decayed(excluded: Sequence[str]) -> Callable[[Any], Any]:
    def allowed(path: Any, _: Any) -> bool:
        name = keras_name(jax.tree_util.keystr(path, simple=True, separator="."))
        return not any(re.search(pattern, name) for pattern in excluded)

    return lambda tree: jax.tree_util.tree_map_with_path(allowed, tree)
