"""`fit` and `evaluate`: gemkit's training loop, told of in Keras' words."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from gemkit.compat.keras.callbacks import History
from gemkit.compat.keras_nlp.optimizer import OWN_WAY, make_rule, rate_of
from gemkit.compat.keras_nlp.progress import ProgressLines
from gemkit.compat.keras_nlp.rows import Rows
from gemkit.compat.keras_nlp.summary import Counts
from gemkit.errors import UsageError
from gemkit.train import loop
from gemkit.train.padded import Means, Padding, make_padded_measure
from gemkit.train.step import TrainState

Logs = dict[str, float]


@dataclasses.dataclass
class Memory:
    """What lives between two calls of `fit`: a `train.loop.Keeper` of the optimizer's state.

    Attributes:
      state: of the optimizer, None before the first run and while one goes on.
      shapes: of what it was for; an adapter that was added makes it void.
      steps: made so far.
      rule: the optimizer, if its learning rate is the same in every call.
    """

    state: Any = None
    shapes: Any = None
    steps: int = 0
    rule: Any = None

    def load(self, like: TrainState) -> tuple[TrainState, loop.Record] | None:
        """Hands the optimizer's state over; the run consumes it."""
        if self.state is None:
            return None
        state, self.state = dataclasses.replace(like, optimizer=self.state), None
        return state, loop.Record()

    def due(self, step: int, ends: bool) -> bool:
        """At the end."""
        return ends

    def save(self, state: TrainState, record: loop.Record) -> None:
        """Takes it back."""
        self.state, self.steps = state.optimizer, self.steps + int(state.step)

    def rule_for(self, optimizer: Any, trained: Any, steps: int) -> Any:
        """The optimizer's rule, for so many more steps of what is trained."""
        shapes = jax.tree.map(jnp.shape, trained)
        if self.shapes != shapes or self.state is None:
            self.state, self.shapes, self.steps = None, shapes, 0
        if self.rule is None or callable(rate_of(optimizer)):
            self.rule = make_rule(optimizer, self.steps + steps)
        return self.rule

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
    backbone, config = model.backbone, model.backbone.model_config
    steps = -(-len(rows.examples) // rows.batch_size)
    rule = model.memory.rule_for(model.optimizer, backbone.trained, epochs * steps)
    told = _Told(model, epochs, steps, verbose, callbacks)
    validate = _measure(model, valid) if valid is not None else lambda trained: {}

    def measure(trained: Any) -> Logs:
        # The next step consumes its state, and callbacks look at the model.
        backbone.trained = jax.tree.map(jnp.array, trained)
        return validate(trained)

    loop.fit(
        _frozen(backbone), config, backbone.lora, jax.tree.map(jnp.array, backbone.trained),
        rows.examples, loop.FitSettings(epochs=epochs, metric=None, padding=_padding(rows)), rule,
        measure, told.row, lambda: bool(model.stop_training), model.memory,
    )  # fmt: skip
    told.finish()
    return told.history


def measures(model: Any, rows: Rows) -> Logs:
    """Loss and accuracies of rows, as `evaluate` reports them."""
    found = _measure(model, rows)(model.backbone.trained)
    return _named(model, found["valid_loss"], found["valid_accuracy"])


def _measure(model: Any, rows: Rows) -> Any:
    backbone = model.backbone
    return make_padded_measure(
        _frozen(backbone), backbone.model_config, backbone.lora, rows.examples, _padding(rows)
    )


def _frozen(backbone: Any) -> Any:
    return {} if backbone.lora is None else backbone.base


def _padding(rows: Rows) -> Padding:
    return Padding(rows.length, rows.batch_size, prompts=False)


def _named(model: Any, loss: float, accuracy: float, prefix: str = "") -> Logs:
    """Loss and accuracies by name, in the alphabetical order Keras has."""
    found = {"loss": loss} | dict.fromkeys(model.measure_names, accuracy)
    return {prefix + name: found[name] for name in sorted(found)}


class _Told:
    """Callbacks and people who are told how a run goes."""

    def __init__(self, model: Any, epochs: int, steps: int, verbose: Any, callbacks: Any) -> None:
        self.history = History()
        given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
        self._callbacks = [*(c for c in given if c is not None), self.history]
        self._lines = ProgressLines(verbose, epochs, steps)
        self._model, self._epochs, self._steps = model, epochs, steps
        self._rate = _fixed_rate(model.optimizer)
        self._epoch = self._batch = 0
        model.stop_training = False
        for callback in self._callbacks:
            callback.set_params({"verbose": verbose, "epochs": epochs, "steps": steps})
            callback.set_model(model)
        self._tell("on_train_begin")
        self._begin()

    def row(self, row: loop.Row, _: int) -> None:
        """A row of the run's history: of a step, or of the end of an epoch."""
        if "loss" in row:
            self._step(row)
        else:
            self._end(row)

    def finish(self) -> None:
        """After the last epoch."""
        self._tell("on_train_end")

    def _begin(self) -> None:
        self._batch, self._means = 0, Means()
        self._lines.begin(self._epoch)
        self._tell("on_epoch_begin", self._epoch)
        if _fixed_rate(self._model.optimizer) != self._rate:
            raise UsageError(
                "a callback has changed the learning rate", "a schedule as learning_rate", OWN_WAY
            )
        self._tell("on_train_batch_begin", 0)

    def _step(self, row: loop.Row) -> None:
        self._means.add(row)
        logs = self._logs()
        self._tell("on_train_batch_end", self._batch, logs)
        self._batch += 1
        self._lines.step(self._batch, logs)
        if self._batch < self._steps and not self._model.stop_training:
            self._tell("on_train_batch_begin", self._batch)

    def _end(self, row: loop.Row) -> None:
        logs = self._logs()
        if "valid_loss" in row:
            logs |= _named(self._model, row["valid_loss"], row["valid_accuracy"], "val_")
        self._lines.end(logs)
        self._tell("on_epoch_end", self._epoch, logs)
        self._epoch += 1
        if self._epoch < self._epochs and not self._model.stop_training:
            self._begin()

    def _logs(self) -> Logs:
        return _named(self._model, self._means.loss, self._means.accuracy)

    def _tell(self, event: str, *about: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(*about)


def _fixed_rate(optimizer: Any) -> float | None:
    rate = rate_of(optimizer)
    return None if callable(rate) else float(rate)
