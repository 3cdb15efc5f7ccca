"""`fit` and `evaluate`: gemkit's batches and steps, told of in Keras' words."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.compat.keras.callbacks import History
from gemkit.compat.keras_nlp.optimizer import OWN_WAY, make_rule, rate_of
from gemkit.compat.keras_nlp.progress import ProgressLines
from gemkit.compat.keras_nlp.rows import Rows
from gemkit.compat.keras_nlp.summary import Counts
from gemkit.errors import UsageError
from gemkit.train.padded import padded_batches
from gemkit.train.step import init_state, make_train_step, make_valid_step

Logs = dict[str, float]


@dataclasses.dataclass
class Memory:
    """What lives between two calls of `fit`.

    Attributes:
      state: of the optimizer, None before the first step.
      shapes: of what it was for; an adapter that was added makes it void.
      steps: made so far.
      compiled: the step, if its learning rate is the same in every call.
    """

    state: Any = None
    shapes: Any = None
    steps: int = 0
    compiled: Any = None

    def counted(self, counts: Counts, optimizer: Any) -> Counts:
        """The figures of a summary with the optimizer's: its memory, step, and rate if fixed.

        Keras keeps a number as a variable of its own, a schedule it computes.
        """
        if not self.steps:
            return counts
        leaves = [leaf for leaf in jax.tree.leaves(self.state) if jnp.ndim(leaf)]
        own = 1 if callable(rate_of(optimizer)) else 2
        return dataclasses.replace(counts, optimizer=sum(leaf.size for leaf in leaves) + own)


def run(
    model: Any, rows: Rows, valid: Rows | None, epochs: int, verbose: Any, callbacks: Any
) -> History:
    """Trains a model's backbone; returns its history."""
    if epochs < 1:
        raise UsageError(f"epochs is {epochs}", "at least 1")
    backbone, memory = model.backbone, model.memory
    batches = list(_batches(rows))
    step, rule = _step(model, epochs * len(batches))
    # The step consumes its state; until an epoch is done, the model keeps what it has.
    state = init_state(jax.tree.map(jnp.array, backbone.trained), rule, 0)
    if memory.state is not None:
        state, memory.state = dataclasses.replace(state, optimizer=memory.state), None
    frozen = {} if backbone.lora is None else backbone.base
    told = _Told(model, epochs, len(batches), verbose, callbacks)
    for epoch in range(epochs):
        sums = _Sums()
        told.begin(epoch)
        for number, (arrays, held) in enumerate(batches):
            told.begin_batch(number)
            state, result = step(state, frozen, arrays)
            memory.steps += 1
            sums.add(result.sums, result.divisor, held)
            told.end_batch(number, sums.means(model.measure_names))
            if model.stop_training:
                break
        backbone.trained = jax.tree.map(jnp.array, state.trained)
        logs = sums.means(model.measure_names)
        if valid is not None:
            logs |= {f"val_{name}": value for name, value in measures(model, valid).items()}
        told.end(epoch, logs)
        if model.stop_training:
            break
    memory.state = state.optimizer
    told.finish()
    return told.history


def _step(model: Any, steps: int) -> tuple[Any, Any]:
    """The compiled step and its rule, for so many more steps."""
    backbone, memory = model.backbone, model.memory
    shapes = jax.tree.map(jnp.shape, backbone.trained)
    if memory.shapes != shapes:
        memory.state, memory.shapes, memory.steps, memory.compiled = None, shapes, 0, None
    if memory.compiled is None or callable(rate_of(model.optimizer)):
        rule = make_rule(model.optimizer, memory.steps + steps)
        memory.compiled = make_train_step(backbone.model_config, backbone.lora, rule), rule
    step, rule = memory.compiled
    return step, rule


def _batches(rows: Rows) -> Iterator[tuple[dict[str, Any], int]]:
    """Arrays and number of rows of each batch; of its targets only those marked count."""
    ids = [example.ids for example in rows.examples]
    for batch in padded_batches(ids, rows.length, rows.batch_size):
        held = [number for row in batch.examples for number in row]
        # Rows may be cut, and never hold more targets than the padded length.
        marks = [rows.examples[number].target[1 : rows.length + 1] for number in held]
        weights = np.zeros_like(batch.target_weights)
        joined = np.concatenate([np.asarray(m, np.float32) for m in marks])
        weights[: len(joined)] = joined
        yield {**batch.arrays(), "target_weights": weights}, len(held)


class _Told:
    """Callbacks and people who are told how a run goes."""

    def __init__(
        self, model: Any, epochs: int, steps: int, verbose: Any, callbacks: Any
    ) -> None:
        self.history = History()
        given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
        self._callbacks = [*(c for c in given if c is not None), self.history]
        self._lines = ProgressLines(verbose, epochs, steps)
        self._optimizer, self._rate = model.optimizer, _fixed_rate(model.optimizer)
        model.stop_training = False
        for callback in self._callbacks:
            callback.set_params({"verbose": verbose, "epochs": epochs, "steps": steps})
            callback.set_model(model)
        self._tell("on_train_begin")

    def begin(self, epoch: int) -> None:
        """Before an epoch."""
        self._lines.begin(epoch)
        self._tell("on_epoch_begin", epoch)
        if _fixed_rate(self._optimizer) != self._rate:
            raise UsageError(
                "a callback has changed the learning rate", "a schedule as learning_rate", OWN_WAY
            )

    def begin_batch(self, number: int) -> None:
        """Before a step of an epoch."""
        self._tell("on_train_batch_begin", number)

    def end_batch(self, number: int, logs: Logs) -> None:
        """After it."""
        self._tell("on_train_batch_end", number, logs)
        self._lines.step(number + 1, logs)

    def end(self, epoch: int, logs: Logs) -> None:
        """After an epoch."""
        self._lines.end(logs)
        self._tell("on_epoch_end", epoch, logs)

    def finish(self) -> None:
        """After the last one."""
        self._tell("on_train_end")

    def _tell(self, event: str, *about: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(*about)


def _fixed_rate(optimizer: Any) -> float | None:
    rate = rate_of(optimizer)
    return None if callable(rate) else float(rate)


@dataclasses.dataclass
class _Sums:
    """An epoch so far: losses count by rows, accuracies by tokens."""

    rows: float = 0
    loss: float = 0
    targets: float = 0
    right: float = 0

    def add(self, sums: Any, divisor: Any, rows: int) -> None:
        """A batch's sums over its targets."""
        loss, weight, correct, slots = map(float, jax.device_get((*sums, divisor)))
        self.rows += rows
        self.loss += loss / slots * rows
        self.targets += weight
        self.right += correct

    def means(self, names: Sequence[str]) -> Logs:
        """Loss and accuracies by name, in the alphabetical order Keras has."""
        found = {"loss": self.loss / max(self.rows, 1)}
        found |= {name: self.right / max(self.targets, 1) for name in names}
        return dict(sorted(found.items()))


def measures(model: Any, rows: Rows) -> Logs:
    """Loss and accuracies of rows, as `evaluate` reports them."""
    backbone = model.backbone
    step = make_valid_step(backbone.model_config, backbone.lora)
    frozen = {} if backbone.lora is None else backbone.base
    total = _Sums()
    for arrays, held in _batches(rows):
        total.add(step(backbone.trained, frozen, arrays), arrays["divisor"], held)
    return total.means(model.measure_names)
