"""`gemkit.tune`: task + model + data → a tuned model and a run directory."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gemkit import __version__
from gemkit.adapt.lora import Lora, init_adapter
from gemkit.checkpoint.hub import locate
from gemkit.checkpoint.peft import write_adapter
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import ModelNotFoundError, UsageError
from gemkit.evaluate.metrics import ClassificationScores, score_labels
from gemkit.evaluate.report import write_report
from gemkit.evaluate.run import labelled_rows
from gemkit.evaluate.run_folder import new_run_folder
from gemkit.language_model import Choice, LanguageModel
from gemkit.progress import progress
from gemkit.tasks.classify import Classify
from gemkit.train.data import Table, file_hash, read_table, split_rows, write_table
from gemkit.train.loop import FitResult, FitSettings, Measures, fit, make_loss_measure
from gemkit.train.optimizer import OptimizerSettings
from gemkit.train.table_files import BadRow

MEASURES = ("valid_loss", "valid_accuracy", "valid_macro_f1")
VERSIONED = ("jax", "jaxlib", "numpy", "optax", "sentencepiece", "safetensors")


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """What `tune` returns.

    Attributes:
      lm: the model with its adapter (or its new weights).
      history: per step loss, tokens, seconds; per validation the measures.
      metrics: of the validation rows, before and after.
      out: the run directory, None if none was asked for.
      stopped: "" or why it ended early.
      skipped: the rows left out, those of both files.
    """

    lm: LanguageModel
    history: list[dict[str, float]]
    metrics: dict[str, float]
    out: Path | None
    stopped: str = ""
    skipped: tuple[BadRow, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Split:
    train: Table
    valid: Table | None

    @property
    def skipped(self) -> tuple[BadRow, ...]:
        return (*self.train.skipped, *(self.valid.skipped if self.valid is not None else ()))


def tune(
    lm: LanguageModel, task: Classify, data: str | Path, valid: str | Path | None = None, *,
    valid_share: float = 0.1, lora: Lora | None = None, full: bool = False,
    epochs: float = FitSettings.epochs, batch_tokens: int = FitSettings.batch_tokens,
    learning_rate: float | None = None, optimizer: Any = OptimizerSettings.name,
    schedule: Any = OptimizerSettings.schedule, warmup: float = OptimizerSettings.warmup,
    weight_decay: float = OptimizerSettings.weight_decay,
    clip_norm: float | None = OptimizerSettings.clip_norm, seed: int = 0,
    max_length: int | None = None, valid_every: int | None = None, patience: int | None = None,
    metric: str = "valid_accuracy", remat: bool = False, skip_bad_rows: bool = False,
    out: str | Path | None = None, show_progress: bool | None = None,
) -> TuneResult:  # fmt: skip
    """Tunes a model on a labelled file.

    Args:
      lm: the model; it is not changed.
      task: what to learn, such as `gemkit.tasks.Classify(text="comment", label="label")`.
      data: table file with the training rows.
      valid: table file with validation rows; None splits off `valid_share` of `data` (0: none).
      lora: adapter settings; None is rank 4 on every linear layer.
      full: train all weights instead.
      epochs, batch_tokens, valid_every, patience, metric, seed, remat: see
        `train.loop.FitSettings`.
      learning_rate: peak; None is 5e-3 for adapters, 5e-4 for all weights.
      optimizer, schedule, warmup, weight_decay, clip_norm: see
        `train.optimizer.OptimizerSettings`.
      max_length: most tokens of an example; None is the model's context.
      skip_bad_rows: leave out rows that cannot be read instead of stopping.
      out: run directory to write; must not exist or be empty.
      show_progress: None shows a bar on a terminal.

    Returns:
      The tuned model; the weights of the best validation by `metric`.

    Raises:
      DataError: rows that cannot be used. UsageError: settings that cannot.
      TrainingError: the loss is not a number.
    """
    if full and lora is not None:
        raise UsageError("both full and lora are given", "one of them")
    if metric not in MEASURES:
        raise UsageError(f"metric is {metric!r}", f"one of {', '.join(MEASURES)}")
    rate = learning_rate if learning_rate is not None else (5e-4 if full else 5e-3)
    recipe = _Recipe(
        FitSettings(epochs, batch_tokens, seed, valid_every, patience, metric, remat),
        OptimizerSettings(optimizer, rate, schedule, warmup, weight_decay, clip_norm=clip_norm),
        None if full else lora or Lora(), valid_share, max_length, skip_bad_rows,
    )  # fmt: skip
    with new_run_folder(out) as folder:
        split, task = _read(lm, task, data, valid, recipe)
        session = _Session(lm, task, split, recipe, show_progress)
        return session.run(data, valid, folder, None if out is None else Path(out))


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """How to tune, whatever the model and the data."""

    fit: FitSettings
    optimizer: OptimizerSettings
    lora: Lora | None
    valid_share: float
    max_length: int | None
    skip_bad_rows: bool

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise UsageError(f"max_length is {self.max_length}", "at least 1")

    def longest(self, lm: LanguageModel) -> int:
        return min(self.max_length or lm.config.max_positions, lm.config.max_positions)

    def to_dict(self) -> dict[str, Any]:
        every = dataclasses.asdict(self)
        return {**every.pop("fit"), **every}


class _Session:
    """The parts of one run that several of its steps need."""

    def __init__(
        self, lm: LanguageModel, task: Classify, split: _Split, recipe: _Recipe, show: bool | None
    ) -> None:
        if lm.adapter is not None:
            raise UsageError(
                f"{lm.name} already carries an adapter", "a model without one",
                "save it merged first (gemkit merge), or tune its base",
            )  # fmt: skip
        self.lm, self.task, self.split, self.recipe = lm, task, split, recipe
        self.lora, self.show = recipe.lora, show
        longest = recipe.longest(lm)
        self.examples = task.examples(lm.tokenizer, split.train, longest)
        self.valid_examples = (
            task.examples(lm.tokenizer, split.valid, longest) if split.valid is not None else []
        )

    def run(
        self, data: str | Path, valid: str | Path | None, folder: Path | None, out: Path | None
    ) -> TuneResult:
        """Trains, measures before and after, and writes what `folder` holds of it."""
        before = self.predict(self.lm)
        result = self.train()
        tuned = self.model(result.trained)
        after = self.predict(tuned)
        metrics, scores = self.metrics(before, after)
        if folder is not None:
            run = _describe(self, data, valid, metrics, result)
            _write(folder, run, tuned, self, result, scores, before, after)
        return TuneResult(
            tuned, result.history, metrics, out, result.stopped, self.split.skipped
        )  # fmt: skip

    def train(self) -> FitResult:
        lm, recipe = self.lm, self.recipe
        trained: Any = (
            jax.tree.map(jnp.copy, lm.base) if self.lora is None
            else init_adapter(lm.config, self.lora, recipe.fit.seed, lm.base)
        )  # fmt: skip
        stopping = "stopping after this step; Ctrl-C again gives up"
        with (
            progress("tuning", self.show, "compiling") as update,
            _interruption(lambda: update(None, None, stopping)) as interrupted,
        ):

            def tell(row: dict[str, float], steps: int) -> None:
                update(int(row["step"]), steps, stopping if interrupted() else _remark(row))

            return fit(
                lm.base if self.lora is not None else {}, lm.config, self.lora, trained,
                self.examples, recipe.fit, recipe.optimizer, self._measure(), tell, interrupted,
            )  # fmt: skip

    def _measure(self) -> Any:
        if self.split.valid is None:
            return None
        valid, truth = self.split.valid, self.task.truth(self.split.valid)
        frozen = self.lm.base if self.lora is not None else {}
        loss = make_loss_measure(
            frozen, self.lm.config, self.lora, self.valid_examples, self.recipe.fit.batch_tokens
        )

        def measure(trained: Any) -> Measures:
            answers = [c.choice for c in self.task.predict(self.model(trained), valid)]
            scores = score_labels(truth, answers, self.task.labels)
            return {
                **loss(trained), "valid_accuracy": scores.accuracy,
                "valid_macro_f1": scores.macro_f1,
            }  # fmt: skip

        return measure

    def model(self, trained: Any) -> LanguageModel:
        lm = self.lm
        if self.lora is None:
            return LanguageModel(lm.name, lm.config, trained, lm.optional_tokenizer)
        return LanguageModel(lm.name, lm.config, lm.base, lm.optional_tokenizer, self.lora, trained)

    def predict(self, lm: LanguageModel) -> list[Choice] | None:
        if self.split.valid is None:
            return None
        with progress("labelling validation rows", self.show) as update:
            return self.task.predict(lm, self.split.valid, lambda n, total: update(n, total, ""))

    def metrics(
        self, before: list[Choice] | None, after: list[Choice] | None
    ) -> tuple[dict[str, float], ClassificationScores | None]:
        if self.split.valid is None or before is None or after is None:
            return {}, None
        truth = self.task.truth(self.split.valid)
        first = score_labels(truth, [c.choice for c in before], self.task.labels)
        scores = score_labels(truth, [c.choice for c in after], self.task.labels)
        found = {
            "accuracy": scores.accuracy, "macro_f1": scores.macro_f1,
            "accuracy_before": first.accuracy, "macro_f1_before": first.macro_f1,
            "rows": scores.count,
        }  # fmt: skip
        return found, scores


def _read(
    lm: LanguageModel, task: Classify, data: str | Path, valid: str | Path | None, recipe: _Recipe
) -> tuple[_Split, Classify]:
    def table_of(path: str | Path, task: Classify) -> Table:
        table = read_table(path, skip_bad_rows=recipe.skip_bad_rows)
        task = task.for_labels(table)
        if not recipe.skip_bad_rows:
            return table
        return task.without_bad_rows(lm.tokenizer, table, recipe.longest(lm), labelled=True)

    table = table_of(data, task)
    task = task.fitted(table)
    if valid is not None:
        return _Split(table, table_of(valid, task)), task
    if recipe.valid_share == 0:
        return _Split(table, None), task
    kept, held = split_rows(task.truth(table), recipe.valid_share, recipe.fit.seed)
    return _Split(table.part(kept), dataclasses.replace(table.part(held), skipped=[])), task


def _remark(row: dict[str, float]) -> str:
    if "loss" not in row:
        measured = {k.removeprefix("valid_"): v for k, v in row.items() if k.startswith("valid_")}
        return "  ".join(f"{name} {value:.3f}" for name, value in measured.items())
    speed = row["tokens"] / max(row["seconds"], 1e-9)
    return f"loss {row['loss']:.3f}  {speed:,.0f} tokens/s"


def _describe(
    session: _Session, data: str | Path, valid: str | Path | None, metrics: dict[str, float],
    result: FitResult,
) -> dict[str, Any]:  # fmt: skip
    lm, task, split = session.lm, session.task, session.split
    files = {"train": data} if valid is None else {"train": data, "valid": valid}
    return {
        "gemkit": __version__,
        "task": {"name": task.name, **task.to_dict()},
        "model": {"name": lm.name, "sha256": lm.base_hash, "path": _model_path(lm.name)},
        "data": {
            name: {"path": str(Path(path).resolve()), "sha256": file_hash(path)}
            for name, path in files.items()
        },
        "rows": {
            "train": len(split.train.rows), "valid": len(split.valid.rows) if split.valid else 0,
            "skipped": len(split.skipped),
        },
        "settings": {**session.recipe.to_dict(), "dtype": lm.base["embed"].dtype.name},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONED},
        },
        "seed": session.recipe.fit.seed, "metrics": metrics, "best_step": result.best_step,
        "stopped": result.stopped,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _model_path(name: str) -> str:
    try:
        return str(locate(name).resolve())
    except ModelNotFoundError:
        return name


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


def _write(
    folder: Path, run: dict[str, Any], tuned: LanguageModel, session: _Session,
    result: FitResult, scores: ClassificationScores | None, before: list[Choice] | None,
    after: list[Choice] | None,
) -> None:  # fmt: skip
    if session.lora is None:
        save_checkpoint(folder / "model", tuned.config, tuned.base, tuned.optional_tokenizer)
    else:
        (folder / "adapter").mkdir()
        write_adapter(
            folder / "adapter", tuned.config, session.lora, result.trained, tuned.name,
            run["model"]["sha256"],
        )  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in result.history)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    (folder / "run.json").write_text(
        json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    samples = []
    if session.split.valid is not None and before is not None and after is not None:
        valid, task = session.split.valid, session.task
        assert task.text is not None
        texts, truth = valid.texts(task.text), task.truth(valid)
        samples = [
            {"text": text, "truth": label, "before": b.choice, "after": a.choice,
             "before_probability": max(b.probabilities), "after_probability": max(a.probabilities)}
            for text, label, b, a in zip(texts, truth, before, after, strict=True)
        ]  # fmt: skip
        columns, rows = labelled_rows(valid, task, after, "answer", probabilities=True)
        write_table(folder / "predictions.tsv", columns, rows)
    write_report(folder, run, result.history, scores, samples)
