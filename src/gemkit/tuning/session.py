"""One run: the rows read, the weights trained, the validation rows measured before and after."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.adapt.lora import init_adapter, plain
from gemkit.adapt.quantize import method_of
from gemkit.errors import UsageError
from gemkit.evaluate.likelihood import likelihood_of
from gemkit.evaluate.run import evaluation_needs
from gemkit.language_model import LanguageModel
from gemkit.metrics.scores import METRICS, Scores
from gemkit.progress import free_memory, progress
from gemkit.summary import human_bytes
from gemkit.tasks import Answer, Task
from gemkit.train.data import Table
from gemkit.train.loop import FitResult, Keeper, Measures, Row, fit, make_loss_measure
from gemkit.train.table_files import BadRow
from gemkit.tuning.memory import check_memory, tuning_of
from gemkit.tuning.recipe import GENERATED_ROWS, Recipe
from gemkit.tuning.remark import training_remark as _remark


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of a run."""

    train: Table
    valid: Table | None

    @property
    def skipped(self) -> tuple[BadRow, ...]:
        """Those left out of both files."""
        return (*self.train.skipped, *(self.valid.skipped if self.valid is not None else ()))


@dataclasses.dataclass(frozen=True)
class Measured:
    """The validation rows under one state of the weights.

    Attributes:
      answers: to the rows that are answered; none where the task's measures are of the loss.
      scores: of the answers.
      metrics: all figures by name.
    """

    answers: list[Answer]
    scores: Scores | None
    metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run came to; nothing is measured without validation rows."""

    lm: LanguageModel
    result: FitResult
    before: Measured | None
    after: Measured | None

    @property
    def metrics(self) -> dict[str, float]:
        """Figures after and before."""
        if self.before is None or self.after is None:
            return {}
        before = {f"{name}_before": value for name, value in self.before.metrics.items()}
        return {**self.after.metrics, **before}


def read_split(
    lm: LanguageModel, task: Task, data: str | Path, valid: str | Path | None, recipe: Recipe
) -> tuple[Split, Task]:
    """The rows to train on and to validate with, and the task that fits them.

    Raises:
      DataError: rows that cannot be used. UsageError: columns or a share that cannot.
    """

    def table_of(path: str | Path, task: Task) -> Table:
        table = task.read(path, recipe.skip_bad_rows)
        task = task.found(table)
        if not recipe.skip_bad_rows:
            return table
        return task.without_bad_rows(lm.tokenizer, table, recipe.longest(lm), labelled=True)

    table = table_of(data, task)
    task = task.fitted(table)
    if valid is not None:
        return Split(table, table_of(valid, task)), task
    if recipe.valid_share == 0:
        return Split(table, None), task
    return Split(*task.split(table, recipe.valid_share, recipe.fit.seed)), task


class Session:
    """The parts of one run that several of its steps need."""

    def __init__(
        self, lm: LanguageModel, task: Task, split: Split, recipe: Recipe, show: bool | None,
        watch: Callable[[Row], None] = lambda row: None,
    ) -> None:  # fmt: skip
        if lm.adapter is not None:
            raise UsageError(
                f"{lm.name} already carries an adapter", "a model without one",
                "save it merged first (gemkit merge), or tune its base",
            )  # fmt: skip
        if recipe.lora is None and (bits := method_of(lm.base)) is not None:
            raise UsageError(
                f"{lm.name} is in {bits}, which cannot be trained", "whole weights, or an adapter",
                "leave out quantize, or full",
            )  # fmt: skip
        self.lm, self.task, self.split, self.recipe = lm, task, split, recipe
        self.lora, self.show, self.watch = recipe.lora, show, watch
        self.frozen = lm.base if self.lora is not None else {}
        longest = recipe.longest(lm)
        self.examples = task.examples(lm.tokenizer, split.train, longest)
        self.valid_examples = (
            task.examples(lm.tokenizer, split.valid, longest) if split.valid is not None else []
        )
        self.with_answers, self.with_loss = evaluation_needs(task)
        self.answered = self._answered()
        self._loss: Callable[[Any], Measures] | None = None
        if split.valid is not None:
            self._loss = make_loss_measure(
                self.frozen, lm.config, self.lora, self.valid_examples, recipe.fit.batch_tokens
            )

    def run(self, keeper: Keeper | None = None) -> Outcome:
        """Trains, and measures before and after; `keeper` keeps the state in between."""
        given = tuning_of(self.lm, self.recipe, self.examples)
        self.plan = check_memory(given, free_memory())
        trained: Any = (
            jax.tree.map(jnp.copy, self.lm.base) if self.lora is None
            else init_adapter(self.lm.config, self.lora, self.recipe.fit.seed, self.lm.base)
        )  # fmt: skip
        before = self.measured(self.lm, trained)
        result = self.train(trained, keeper)
        tuned = self.model(result.trained)
        return Outcome(tuned, result, before, self.measured(tuned, result.trained))

    def train(self, trained: Any, keeper: Keeper | None = None) -> FitResult:
        """Trains a tree, which it consumes."""
        lm, recipe = self.lm, self.recipe
        need = human_bytes(self.plan.total)
        stopping = "stopping after this step; Ctrl-C again gives up"
        with (
            progress("tuning", self.show, f"compiling, needs {need}") as update,
            _interruption(lambda: update(None, None, stopping)) as interrupted,
        ):

            def tell(row: Row, steps: int) -> None:
                self.watch(row)
                update(int(row["step"]), steps, stopping if interrupted() else _remark(row))

            return fit(
                self.frozen, lm.config, self.lora, trained, self.examples, recipe.fit,
                recipe.optimizer, self._measure if self._loss else None, tell, interrupted,
                keeper,
            )  # fmt: skip

    def model(self, trained: Any) -> LanguageModel:
        """The user's object with trained weights."""
        lm = self.lm
        if self.lora is None:
            return LanguageModel(lm.name, lm.config, trained, lm.optional_tokenizer)
        lora, adapter = plain(self.lora, trained)
        return LanguageModel(lm.name, lm.config, lm.base, lm.optional_tokenizer, lora, adapter)

    def measured(self, lm: LanguageModel, trained: Any) -> Measured | None:
        """All measures of the task; None without validation rows."""
        if self.split.valid is None or self._loss is None:
            return None
        metrics: dict[str, float] = {}
        if self.with_loss:
            loss = self._loss(trained)["valid_loss"]
            likelihood = likelihood_of(loss, self.valid_examples, lm.tokenizer)
            metrics |= likelihood.figures(self.task.measures).metrics
        answers, scores = self.answers(lm) if self.with_answers else ([], None)
        metrics |= scores.metrics if scores is not None else {}
        return Measured(answers, scores, metrics)

    def answers(self, lm: LanguageModel) -> tuple[list[Answer], Scores]:
        """The answers to validation rows, and their scores."""
        assert self.answered is not None
        with progress("answering validation rows", self.show) as update:
            answers = self.task.predict(lm, self.answered, lambda n, total: update(n, total, ""))
        return answers, self.task.score(answers, self.answered)

    def _measure(self, trained: Any) -> Measures:
        """A validation: the loss, and answers too where they are cheap or tell the best."""
        assert self._loss is not None and self.answered is not None
        measures = self._loss(trained)
        own, chosen = self.task.measures[0], self.recipe.fit.metric
        if METRICS[own].of_loss and chosen == "valid_loss":
            return measures
        answers = self.task.predict(self.model(trained), self.answered)
        scores = self.task.score(answers, self.answered)
        return measures | {f"valid_{name}": value for name, value in scores.metrics.items()}

    def _answered(self) -> Table | None:
        valid, most = self.split.valid, self.recipe.valid_answers
        if valid is None:
            return None
        if most is None and METRICS[self.task.measures[0]].of_loss:
            most = GENERATED_ROWS
        if most is None or most >= len(valid.rows):
            return valid
        return valid.part(np.linspace(0, len(valid.rows) - 1, most).round().astype(int).tolist())


@contextlib.contextmanager
def _interruption(tell: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a question the loop asks between steps; a second one aborts.

    An exception in the middle of a step would lose the state, which the step consumes.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    usual = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        tell()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, usual)
