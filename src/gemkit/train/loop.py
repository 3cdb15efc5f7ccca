"""The one training loop: examples in, a trained tree and its history out.

Knows nothing of tasks, files or terminals: what to measure and whom to tell are functions.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gemkit.adapt.lora import Lora
from gemkit.errors import TrainingError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.train.optimizer import OptimizerSettings, learning_rates, make_optimizer
from gemkit.train.packing import EpochBatches, Example, choose_shape, epoch_batches
from gemkit.train.step import StepResult, init_state, make_train_step, make_valid_step

Measures = dict[str, float]
Row = dict[str, float]


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """How long and in what portions to train.

    Attributes:
      epochs: passes over the examples; a fraction stops part-way.
      batch_tokens: token slots of a step; short examples share rows.
      seed: of the order, the adapter and the dropout.
      valid_every: steps between validations; None means once an epoch.
      patience: validations without improvement after which training stops; None never.
      metric: what "improvement" means: valid_loss (down) or another measure (up).
      remat: recompute activations in the backward pass, for memory.
    """

    epochs: float = 6
    batch_tokens: int = 512
    seed: int = 0
    valid_every: int | None = None
    patience: int | None = None
    metric: str = "valid_loss"
    remat: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "valid_every", "patience"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{name} is {value}", "a positive number")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed is {self.seed}", "an integer from 0 to 2**32 - 1")


@dataclasses.dataclass
class FitResult:
    """What came out.

    Attributes:
      trained: the best tree by the metric, or the last one without validation.
      history: one row a step {step, epoch, loss, accuracy, learning_rate, tokens, seconds} and
        one a validation {step, epoch, valid_…}.
      best_step: the step `trained` is from.
      stopped: why it ended early ("interrupted", "no improvement"), "" if it did not.
    """

    trained: Any
    history: list[Row]
    best_step: int
    stopped: str = ""


def fit(
    params: Params, config: GemmaConfig, lora: Lora | None, trained: Any,
    examples: Sequence[Example], settings: FitSettings, optimizer: OptimizerSettings,
    measure: Callable[[Any], Measures] | None = None,
    tell: Callable[[Row, int], None] = lambda row, steps: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> FitResult:  # fmt: skip
    """Trains a tree.

    Args:
      params: the frozen weights; unused for full tuning.
      config: of the model.
      lora: of the adapter; None trains all weights.
      trained: the adapter, or all weights, to start from; consumed.
      examples: what to learn.
      settings, optimizer: how.
      measure: validation: trained tree → {"valid_loss": …, "valid_accuracy": …}.
      tell: called with every history row and the number of steps in all.
      interrupted: asked after every step; True ends the run there, after a last validation.

    Raises:
      TrainingError: the loss is not a number.
    """
    shape = choose_shape([len(example.ids) for example in examples], settings.batch_tokens)
    count = math.ceil(settings.epochs)
    slots = max(_epoch(examples, shape, settings.seed, n).target_slots for n in range(count))
    batches = _epoch(examples, shape, settings.seed, 0, slots)
    per_epoch = len(batches)
    steps = max(1, round(per_epoch * settings.epochs))
    rates = learning_rates(optimizer, steps)
    rule = make_optimizer(optimizer, steps)
    run = _Run(settings, measure, tell, steps, per_epoch, rates)
    step = make_train_step(config, lora, rule, settings.remat)
    state = init_state(trained, rule, settings.seed)
    every = settings.valid_every or per_epoch
    for done in range(1, steps + 1):
        epoch, place = divmod(done - 1, per_epoch)
        if place == 0 and epoch > 0:
            batches = _epoch(examples, shape, settings.seed, epoch, slots)
        batch = batches[place]
        run.begin()
        state, result = step(state, params, batch.arrays())
        run.end(done, int((batch.segments > 0).sum()), result)
        ends = interrupted()
        if done % every == 0 or done == steps or ends:
            run.validate(state.trained, done)
        if ends:
            run.stopped = "interrupted"
        if ends or run.is_over():
            break
    if measure is None:
        run.keep(state.trained, done)
    return FitResult(run.best, run.history, run.best_step, run.stopped)


def _epoch(
    examples: Sequence[Example], shape: tuple[int, int], seed: int, epoch: int, slots: int = 0
) -> EpochBatches:
    rows, length = shape
    return epoch_batches(examples, length, rows, seed, epoch, target_slots=slots)


class _Run:
    """Bookkeeping of one run: history, best tree so far, reasons to stop."""

    def __init__(
        self, settings: FitSettings, measure: Callable[[Any], Measures] | None,
        tell: Callable[[Row, int], None], steps: int, epoch_steps: int, rates: Any,
    ) -> None:  # fmt: skip
        self.history: list[Row] = []
        self.best: Any = None
        self.best_step = 0
        self.stopped = ""
        self._settings, self._measure, self._tell = settings, measure, tell
        self._steps, self._epoch_steps, self._rates = steps, epoch_steps, rates
        self._best_value = (-math.inf, -math.inf)
        self._misses = 0
        self._began = 0.0

    def begin(self) -> None:
        self._began = time.perf_counter()

    def end(self, step: int, tokens: int, result: StepResult) -> None:
        loss_sum, weight, correct = (float(x) for x in jax.device_get(result.sums))
        seconds = time.perf_counter() - self._began
        loss = loss_sum / max(weight, 1.0)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {step}", "a finite number",
                "lower --learning-rate, or use --dtype float32; nothing was saved",
            )  # fmt: skip
        self._add(
            {
                "step": step, "epoch": step / self._epoch_steps, "loss": loss,
                "accuracy": correct / max(weight, 1.0),
                "learning_rate": float(self._rates(step - 1)), "tokens": tokens,
                "seconds": seconds, "gradient_norm": float(result.gradient_norm),
            }
        )  # fmt: skip

    def validate(self, trained: Any, step: int) -> None:
        if self._measure is None:
            return
        measures = self._measure(trained)
        self._add({"step": step, "epoch": step / self._epoch_steps, **measures})
        if self._settings.metric not in measures:
            raise UsageError(
                f"metric is {self._settings.metric!r}", f"one of {', '.join(measures)}"
            )  # fmt: skip
        value = measures[self._settings.metric]
        value = -value if self._settings.metric.endswith("loss") else value
        # On few rows accuracy often ties; the loss then tells the better of two.
        reached = (value, -measures["valid_loss"])
        if reached > self._best_value:
            self._best_value, self._misses = reached, 0
            self.keep(trained, step)
        else:
            self._misses += 1

    def keep(self, trained: Any, step: int) -> None:
        # To the host: the next step consumes the device's copy.
        self.best, self.best_step = jax.tree.map(np.array, trained), step

    def is_over(self) -> bool:
        patience = self._settings.patience
        if patience is not None and self._misses >= patience:
            self.stopped = "no improvement"
            return True
        return False

    def _add(self, row: Row) -> None:
        self.history.append(row)
        self._tell(row, self._steps)


def make_loss_measure(
    params: Params, config: GemmaConfig, lora: Lora | None, examples: Sequence[Example],
    batch_tokens: int,
) -> Callable[[Any], Measures]:  # fmt: skip
    """A validation that computes the mean loss per target token: {"valid_loss": …}."""
    shape = choose_shape([len(example.ids) for example in examples], batch_tokens)
    batches = [batch.arrays() for batch in _epoch(examples, shape, 0, 0)]
    step = make_valid_step(config, lora)

    def measure(trained: Any) -> Measures:
        sums = [jax.device_get(step(trained, params, batch)) for batch in batches]
        weight = sum(float(s.weight) for s in sums)
        return {"valid_loss": sum(float(s.loss) for s in sums) / max(weight, 1.0)}

    return measure
