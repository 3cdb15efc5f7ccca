"""Whom `fit` tells how it goes, by Keras' names. Keras' own callbacks are told the same."""

from collections.abc import Callable as Function
from typing import Any

from gemkit.compat.missing import names_missing

Logs = dict[str, float]


class Callback:
    """Base of all: methods to override. `model.stop_training = True` ends the run."""

    model: Any = None
    params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Called first."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """verbose, epochs and steps of the run."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch, from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch, with its means."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a step, from 0."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a step, with the means of its epoch so far."""


class History(Callback):
    """What `fit` returns: `history` has a list per measure, an entry per epoch."""

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Keeps the epoch's means."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """Functions by the name of the method they stand for."""

    def __init__(self, **functions: Function[..., None] | None) -> None:
        for name, function in functions.items():
            if function is not None:
                setattr(self, name, function)


class EarlyStopping(Callback):
    """Ends the run when a measure has not improved for `patience` epochs.

    Args:
      monitor: the measure.
      min_delta: what counts as an improvement.
      patience: epochs without one.
      mode: "min", "max", or "auto": max for accuracies.
      restore_best_weights: go back to the best epoch's.
    """

    def __init__(
        self, monitor: str = "val_loss", min_delta: float = 0, patience: int = 0,
        verbose: int = 0, mode: str = "auto", baseline: float | None = None,
        restore_best_weights: bool = False, start_from_epoch: int = 0,
    ) -> None:  # fmt: skip
        self.monitor, self.min_delta, self.patience = monitor, abs(min_delta), patience
        rising = mode == "max" or (mode == "auto" and monitor.endswith(("acc", "accuracy")))
        self._sign = 1.0 if rising else -1.0
        self.baseline, self.restore_best_weights = baseline, restore_best_weights
        self.start_from_epoch = start_from_epoch

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Starts counting."""
        self.wait, self.best, self.best_epoch = 0, self.baseline, 0
        self.best_weights: Any = None
        self.stopped_epoch = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Looks at the measure."""
        value = (logs or {}).get(self.monitor)
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.best is None or self._sign * (value - self.best) > self.min_delta:
            self.wait, self.best, self.best_epoch = 0, value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
        elif self.wait >= self.patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Goes back to the best weights if asked to."""
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)


class TerminateOnNaN(Callback):
    """Ends the run when the loss is not a number; `fit` does so by itself, with an error."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Looks at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if loss != loss or loss in (float("inf"), float("-inf")):
            self.model.stop_training = True


__getattr__ = names_missing(
    __name__, "one of those here; gemkit.tune has patience, checkpoint_every and tensorboard"
)
