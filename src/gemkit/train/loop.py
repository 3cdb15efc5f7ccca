"""The one training loop: examples in, a trained tree and its history out.

Knows nothing of tasks, files or terminals: what to measure, whom to tell and where to keep the
state of an unfinished run are functions and objects of the caller.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import optax

from gemkit.adapt.lora import Lora
from gemkit.errors import TrainingError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.transformer import Remat
from gemkit.model.weights import Params
from gemkit.progress import peak_memory
from gemkit.train.feed import Feed, Portion, prefetched
from gemkit.train.optimizer import OptimizerSettings, learning_rates, make_optimizer
from gemkit.train.packing import Example, choose_shape, epoch_batches
from gemkit.train.padded import Padding
from gemkit.train.step import (
    StepResult,
    TrainState,
    init_state,
    make_train_step,
    make_valid_step,
    result_tree,
)

Measures = dict[str, float]
Row = dict[str, float]
REMATS = ("off", "layer", "full")


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """How long and in what portions to train.

    Attributes:
      epochs: passes over the examples; a fraction stops part-way.
      batch_tokens: token slots of a batch; short examples share rows.
      seed: of the order, the adapter and the dropout.
      valid_every: steps between validations; None means once an epoch.
      patience: validations without improvement after which training stops; None never.
      metric: what "improvement" means: valid_loss (down) or another measure (up); None to keep
        the last weights, whatever was measured.
      remat: recompute activations in the backward pass, for memory: "off", "layer" or "full", see
        `model.transformer.hidden`.
      accumulate: batches a step, for a larger step in the memory of one batch.
      ema: decay of a moving average of the trained weights, such as 0.999. The average is then
        what is validated, kept and returned. None keeps the weights themselves.
      padding: rows as Keras's `fit` makes them, instead of packed ones, see `train.padded`.
    """

    epochs: float = 6
    batch_tokens: int = 512
    seed: int = 0
    valid_every: int | None = None
    patience: int | None = None
    metric: str | None = "valid_loss"
    remat: Remat = "off"
    accumulate: int = 1
    ema: float | None = None
    padding: Padding | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "valid_every", "patience", "accumulate"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{name} is {value}", "a positive number")
        if self.metric is None and self.patience is not None:
            raise UsageError(f"patience is {self.patience} without a metric", "one to improve on")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed is {self.seed}", "an integer from 0 to 2**32 - 1")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UsageError(f"ema is {self.ema}", "a decay between 0 and 1", "such as 0.999")
        if isinstance(self.remat, bool):
            object.__setattr__(self, "remat", "full" if self.remat else "off")
        if self.remat not in REMATS:
            raise UsageError(f"remat is {self.remat!r}", f"one of {', '.join(REMATS)}")


@dataclasses.dataclass
class FitResult:
    """What came out.

    Attributes:
      trained: the best tree by the metric, or the last one without metric or validation.
      history: one row a step {step, epoch, loss, accuracy, learning_rate, tokens, slots, rows,
        targets, seconds, gradient_norm, peak_memory} and one a validation {step, epoch, valid_…}.
        There is no learning_rate if the optimizer is not ours.
      best_step: the step `trained` is from.
      stopped: why it ended early ("interrupted", "no improvement"), "" if it did not.
    """

    trained: Any
    history: list[Row]
    best_step: int
    stopped: str = ""


@dataclasses.dataclass
class Record:
    """What a run remembers besides its state: all that stopping and going on depends on.

    Attributes:
      history: rows so far.
      best, best_step, best_value: the best tree (on the host), its step, its measures.
      misses: validations since then.
    """

    history: list[Row] = dataclasses.field(default_factory=list)
    best: Any = None
    best_step: int = 0
    best_value: tuple[float, float] = (-math.inf, -math.inf)
    misses: int = 0


class Keeper(Protocol):
    """Where the state of an unfinished run is kept, see `train.checkpoints`."""

    def load(self, like: TrainState) -> tuple[TrainState, Record] | None:
        """The newest state kept, in the shape of `like`; None if the run is new."""

    def due(self, step: int, ends: bool) -> bool:
        """Whether to keep the state after this step; `ends` says there is no further one."""

    def save(self, state: TrainState, record: Record) -> None:
        """Keeps a state; a failure to do so does not raise."""


def fit(
    params: Params, config: GemmaConfig, lora: Lora | None, trained: Any,
    examples: Sequence[Example], settings: FitSettings,
    optimizer: OptimizerSettings | optax.GradientTransformation,
    measure: Callable[[Any], Measures] | None = None,
    tell: Callable[[Row, int], None] = lambda row, steps: None,
    interrupted: Callable[[], bool] = lambda: False, keeper: Keeper | None = None,
) -> FitResult:  # fmt: skip
    """Trains a tree.

    Args:
      params: the frozen weights; unused for full tuning.
      config: of the model.
      lora: of the adapter; None trains all weights.
      trained: the adapter, or all weights, to start from; consumed.
      examples: what to learn.
      settings: how long and in what portions.
      optimizer: settings of ours, or any optax transformation; that has its own learning rate.
      measure: validation: trained tree → {"valid_loss": …, "valid_accuracy": …}; for the call
        only, the next step consumes the tree.
      tell: called with every history row and the number of steps in all.
      interrupted: asked after every step and validation; True for good ends the run, validated.
      keeper: what keeps the state, and brings back that of a run that was cut off.

    Raises:
      TrainingError: the loss is not a number.
    """
    s = settings
    feed = Feed(examples, s.batch_tokens, s.accumulate, s.seed, s.epochs, s.padding)
    steps = max(1, round(feed.per_epoch * s.epochs))
    rule, rates = optimizer, None
    if isinstance(optimizer, OptimizerSettings):
        rule, rates = make_optimizer(optimizer, steps), learning_rates(optimizer, steps)
    step = make_train_step(config, lora, rule, s.remat, s.accumulate, s.ema)
    state = init_state(trained, rule, s.seed, average=s.ema is not None)
    found = keeper.load(state) if keeper is not None else None
    state, record = found or (state, Record())
    for row in record.history:
        tell(row, steps)
    run = _Run(record, settings, measure, tell, steps, feed.per_epoch, rates)
    every = s.valid_every or feed.per_epoch
    done = int(state.step)
    rest = range(done, done if run.is_over() else max(done, steps))
    with prefetched(feed.portions(rest.start, rest.stop)) as portions:
        for done, portion in enumerate(portions, rest.start + 1):
            began = time.perf_counter()
            state, result = step(state, params, portion.arrays)
            run.end(done, portion, result, began)
            if judged := done % every == 0 or done == steps or interrupted():
                run.validate(result_tree(state), done)
            stopping = judged and interrupted()
            ends = run.is_over() or done == steps or stopping
            if keeper is not None and (stopping or keeper.due(done, ends)):
                keeper.save(state, record)
            if ends:
                run.stopped = run.stopped or ("interrupted" if done < steps else "")
                break
    if measure is None or s.metric is None:
        run.keep(result_tree(state), done)
    return FitResult(record.best, record.history, record.best_step, run.stopped)


class _Run:
    """Bookkeeping of one run: history, best tree so far, reasons to stop."""

    def __init__(
        self, record: Record, settings: FitSettings, measure: Callable[[Any], Measures] | None,
        tell: Callable[[Row, int], None], steps: int, epoch_steps: int, rates: Any,
    ) -> None:  # fmt: skip
        self.stopped = ""
        self._record, self._settings, self._measure, self._tell = record, settings, measure, tell
        self._steps, self._epoch_steps, self._rates = steps, epoch_steps, rates

    def end(self, step: int, portion: Portion, result: StepResult, began: float) -> None:
        numbers = jax.device_get((result.sums, result.divisor, result.gradient_norm))
        (loss_sum, weight, correct), divisor, norm = jax.tree.map(float, numbers)
        loss = loss_sum / divisor
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {step}", "a finite number",
                "lower --learning-rate, or use --dtype float32; nothing was saved",
            )  # fmt: skip
        row = {
            "step": step, "epoch": step / self._epoch_steps, "loss": loss,
            "accuracy": correct / max(weight, 1.0), "tokens": portion.tokens,
            "slots": portion.slots, "rows": portion.rows, "targets": weight,
            "seconds": time.perf_counter() - began, "gradient_norm": norm,
            "peak_memory": peak_memory(),
        }  # fmt: skip
        if self._rates is not None:
            row["learning_rate"] = float(self._rates(step - 1))
        self._add(row)

    def validate(self, trained: Any, step: int) -> None:
        if self._measure is None:
            return
        measures = self._measure(trained)
        self._add({"step": step, "epoch": step / self._epoch_steps, **measures})
        metric = self._settings.metric
        if metric is None:
            return
        if metric not in measures:
            raise UsageError(f"metric is {metric!r}", f"one of {', '.join(measures)}")
        value = -measures[metric] if metric.endswith("loss") else measures[metric]
        # On few rows accuracy often ties; the loss then tells the better of two.
        reached = (value, -measures["valid_loss"])
        if reached > self._record.best_value:
            self._record.best_value, self._record.misses = reached, 0
            self.keep(trained, step)
        else:
            self._record.misses += 1

    def keep(self, trained: Any, step: int) -> None:
        # To the host: the next step consumes the device's copy.
        self._record.best = jax.tree.map(np.array, trained)
        self._record.best_step = step

    def is_over(self) -> bool:
        patience = self._settings.patience
        if patience is not None and self._record.misses >= patience:
            self.stopped = "no improvement"
            return True
        return False

    def _add(self, row: Row) -> None:
        self._record.history.append(row)
        self._tell(row, self._steps)


def make_loss_measure(
    params: Params, config: GemmaConfig, lora: Lora | None, examples: Sequence[Example],
    batch_tokens: int,
) -> Callable[[Any], Measures]:  # fmt: skip
    """A validation that computes the mean loss per target token: {"valid_loss": …}."""
    rows, length = choose_shape([len(example.ids) for example in examples], batch_tokens)
    batches = [batch.arrays() for batch in epoch_batches(examples, length, rows, 0, 0)]
    step = make_valid_step(config, lora)

    def measure(trained: Any) -> Measures:
        sums = [jax.device_get(step(trained, params, batch)) for batch in batches]
        weight = sum(float(s.weight) for s in sums)
        return {"valid_loss": sum(float(s.loss) for s in sums) / max(weight, 1.0)}

    return measure
