"""How to tune, whatever the model, the task and the data."""

import dataclasses
import difflib
import inspect
from typing import Any

from gemkit.adapt.lora import Lora
from gemkit.errors import UsageError
from gemkit.language_model import LanguageModel
from gemkit.metrics.scores import METRICS
from gemkit.tasks import Task
from gemkit.train.loop import FitSettings
from gemkit.train.optimizer import OptimizerSettings

ADAPTER_RATE, FULL_RATE = 5e-3, 5e-4
"""Peak learning rates where none is given."""
GENERATED_ROWS = 64
"""Validation rows that are answered, where answers are generated, which takes its time."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a run.

    Attributes:
      fit: of the training.
      optimizer: `OptimizerSettings`, or any optax transformation.
      lora: of the adapter; None trains all weights.
      valid_share: of the rows, where no validation file is given.
      max_length: most tokens of an example; None is the model's context.
      skip_bad_rows: leave out rows that cannot be used instead of stopping.
      valid_answers: validation rows that are answered before and after, evenly spaced; None is
        all of them, or `GENERATED_ROWS` where answers are generated.
    """

    fit: FitSettings = FitSettings()
    optimizer: Any = OptimizerSettings()
    lora: Lora | None = None
    valid_share: float = 0.1
    max_length: int | None = None
    skip_bad_rows: bool = False
    valid_answers: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_length", "valid_answers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "at least 1")

    def longest(self, lm: LanguageModel) -> int:
        """Most tokens of an example."""
        return min(self.max_length or lm.config.max_positions, lm.config.max_positions)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in run.json."""
        every = dataclasses.asdict(self)
        if not isinstance(self.optimizer, OptimizerSettings):
            every["optimizer"] = "one of optax"
        return {**every.pop("fit"), **every}


def make_recipe(task: Task, **settings: Any) -> Recipe:
    """The recipe from the keyword arguments of `gemkit.tune`.

    Args:
      settings: fields of `Recipe`, `FitSettings` and `OptimizerSettings`, whose `name` is called
        `optimizer` and may be an optax transformation, and `full`. Where they are not given,
        `learning_rate` is 5e-3 for adapters and 5e-4 for all weights, `metric` is the task's
        own, `lora` is rank 4 on every linear layer.

    Raises:
      UsageError: one that is unknown, out of range or contradicts another.
    """
    if unknown := [name for name in settings if name not in DEFAULTS]:
        near = difflib.get_close_matches(unknown[0], DEFAULTS, 1)
        raise UsageError(
            f"unknown setting {unknown[0]!r}", "one that gemkit.tune has",
            f"did you mean {near[0]}?" if near else "",
        )  # fmt: skip
    given = {**DEFAULTS, **settings}
    full, lora = given.pop("full"), given.pop("lora")
    if full and lora is not None:
        raise UsageError("both full and lora are given", "one of them")
    if given["learning_rate"] is None:
        given["learning_rate"] = FULL_RATE if full else ADAPTER_RATE
    given["metric"] = chosen_metric(task, given["metric"])
    given["name"] = own = given.pop("optimizer")
    fit: Any
    optimizer: Any
    if not isinstance(own, str):
        given["name"] = OptimizerSettings.name
        if more := [name for name in settings if name in _defaults(OptimizerSettings)]:
            raise UsageError(
                f"{more[0]} is given beside an optax optimizer", "it in that optimizer"
            )  # fmt: skip
    fit, optimizer = (
        kind(**{name: given.pop(name) for name in _defaults(kind)})
        for kind in (FitSettings, OptimizerSettings)
    )
    optimizer = optimizer if isinstance(own, str) else own
    return Recipe(fit, optimizer, None if full else lora or Lora(), **given)


def _defaults(kind: type) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def _all_defaults() -> dict[str, Any]:
    own = {**_defaults(Recipe), "full": False, "learning_rate": None, "metric": None}
    optimizer = _defaults(OptimizerSettings)
    own["optimizer"] = optimizer.pop("name")
    del own["fit"]
    return {**_defaults(FitSettings), **optimizer, **own}


DEFAULTS = _all_defaults()
"""Keyword arguments of `gemkit.tune` → what they are where not given."""


def valid_metrics(task: Task) -> tuple[str, ...]:
    """What may tell the best validation of a task; those that follow from the loss say the same."""
    answered = (name for name in task.measures if not METRICS[name].of_loss)
    return ("valid_loss", *(f"valid_{name}" for name in answered))


def chosen_metric(task: Task, metric: str | None) -> str:
    """The metric asked for, or the task's own.

    Raises:
      UsageError: one the task has not.
    """
    known = valid_metrics(task)
    metric = f"valid_{task.measures[0]}" if metric is None else metric
    if metric not in known:
        raise UsageError(f"metric is {metric!r}", f"one of {', '.join(known)}")
    return metric
